#include "merge_call.h"

#include "launch.h"
#include "session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace conformance {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

} // namespace

std::string MergeCase::text() const
{
    std::string s = "seed " + std::to_string(seed);
    const auto add = [&](const char *name, std::int64_t value) {
        s += std::string(" ") + name + "=" + std::to_string(value);
    };
    add("batch", batch), add("tq", tq), add("heads", heads), add("dim", dim), add("parts", parts);
    add("slack", slack), add("workers", workers), add("activation", activation), add("packed", packed);
    add("shortened", shortened), add("lse", lse), add("sinks", sinks), add("head_weight", head_weight);
    add("gate", gate), add("broadcast", broadcast);
    s += std::string(" q=") + dtype_name(q_dtype) + " part=" + dtype_name(part_dtype) + " out=" + dtype_name(out_dtype);
    return s + " layout=" + layout + " out_layout=" + out_layout;
}

MergeCase plain_merge(std::int64_t parts)
{
    MergeCase s;
    s.seed = session().seed, s.parts = parts, s.batch = 3, s.tq = 5, s.dim = 40, s.empty = 0;
    return s;
}

MergeCall::MergeCall(const MergeCase &setup) : s_(setup), random_(setup.seed, 700)
{
    place();
    allocate();
    fill();
    describe();
    poison_outputs();
}

PlanPointer MergeCall::plan(attn_handle handle, std::string &why)
{
    attn_plan made = nullptr;
    const attn_status status = attn_plan_merge(handle, &merge, &made);
    why = status ? std::string(attn_status_name(status)) + ": " + attn_last_error() : "";
    EXPECT_EQ(status, attn_plan_supports(handle, ATTN_KIND_MERGE, &merge));
    return PlanPointer(made);
}

std::vector<attn_arg> MergeCall::args()
{
    views_.clear();
    std::vector<attn_arg> list;
    const auto add = [&](attn_slot slot, std::size_t index, Tensor &tensor) {
        views_.push_back(tensor.view());
        list.push_back({slot, static_cast<std::uint32_t>(index), &views_.back()});
    };
    for (std::size_t p = 0; p < partial_out_.size(); ++p) {
        add(ATTN_SLOT_PARTIAL_OUT, p, partial_out_[p]);
        if (s_.weighed()) add(ATTN_SLOT_PARTIAL_LSE, p, partial_lse_[p]);
    }
    add(ATTN_SLOT_OUT, 0, out_);
    if (s_.lse) add(ATTN_SLOT_LSE, 0, lse_);
    if (s_.packed) add(ATTN_SLOT_CU_SEQLENS_Q, 0, cu_);
    if (s_.shortened) add(ATTN_SLOT_SEQLENS_Q, 0, seqlens_);
    if (s_.sinks) add(ATTN_SLOT_SINK_LOGITS, 0, sinks_);
    if (s_.gate >= 0) add(ATTN_SLOT_GATE, 0, gate_);
    if (s_.head_weight) add(ATTN_SLOT_HEAD_WEIGHT, 0, head_weight_);
    if (random_.chance(0.5))
        for (std::size_t n = list.size(); n > 1; --n)
            std::swap(list[n - 1], list[random_.integer(0, std::int64_t(n) - 1)]);
    return list;
}

void MergeCall::poison_outputs()
{
    out_.poison();
    if (s_.lse) lse_.poison();
    for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
        for (std::int64_t c = 0; c < s_.dim; ++c) out_.expect_write(token(b, i, h, c));
        if (s_.lse) lse_.expect_write(score(b, h, i));
    });
}

void MergeCall::run(attn_plan plan)
{
    poison_outputs();
    const auto list = args();
    const auto before = input_bytes();
    std::size_t bytes = 1;
    ASSERT_EQ(attn_plan_workspace(plan, &bytes, nullptr), ATTN_OK);
    EXPECT_TRUE(bytes == 0 || on_gpu()) << bytes;
    ASSERT_EQ(launch(plan, list), ATTN_OK) << attn_last_error();
    EXPECT_FALSE(out_.wrote_elsewhere());
    EXPECT_FALSE(s_.lse && lse_.wrote_elsewhere());
    EXPECT_EQ(before, input_bytes());
}

void MergeCall::check() const
{
    std::int64_t wrong = 0;
    for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
        if (wrong < 5) wrong += check_row(b, i, h) ? 0 : 1;
    });
    EXPECT_EQ(wrong, 0);
}

void MergeCall::for_each_row(const std::function<void(std::int64_t, std::int64_t, std::int64_t)> &body) const
{
    for (std::int64_t b = 0; b < s_.batch; ++b)
        for (std::int64_t i = 0; i < used_[b]; ++i)
            for (std::int64_t h = 0; h < s_.heads; ++h) body(b, i, h);
}

void MergeCall::place()
{
    total_ = s_.packed ? random_.integer(0, 2) : 0;
    for (std::int64_t b = 0; b < s_.batch; ++b) {
        const std::int64_t rows = s_.packed ? random_.integer(0, s_.tq) : s_.tq;
        start_.push_back(total_), total_ += rows;
        used_.push_back(s_.shortened ? random_.integer(0, rows) : rows);
    }
    start_.push_back(total_);
    if (s_.packed) total_ += random_.integer(0, 2);
}

std::string MergeCall::layout(bool output)
{
    if (output) return s_.out_layout;
    if (s_.layout != "any") return s_.layout;
    static const char *all[] = {"bshd", "bhsd", "gaps", "reversed", "strided", "repeated"};
    return all[random_.integer(0, 5)];
}

Tensor MergeCall::token_tensor(attn_dtype dtype, bool output, bool channels, std::uint32_t broadcast)
{
    std::vector<std::int64_t> shape{s_.batch, s_.tq, s_.heads};
    if (s_.packed) shape = {total_, s_.heads};
    if (channels) shape.push_back(s_.dim);
    for (std::size_t a = 0; a < shape.size(); ++a)
        if (broadcast >> a & 1) shape[a] = 1;
    return Tensor(dtype, shape, layout(output));
}

Tensor MergeCall::score_tensor(bool output)
{
    const auto shape =
        s_.packed ? std::vector<std::int64_t>{s_.heads, total_} : std::vector<std::int64_t>{s_.batch, s_.heads, s_.tq};
    return Tensor(ATTN_FLOAT32, shape, layout(output));
}

void MergeCall::allocate()
{
    for (std::int64_t p = 0; p < s_.parts; ++p) {
        partial_out_.push_back(token_tensor(s_.part_dtype, false));
        if (s_.weighed()) partial_lse_.push_back(score_tensor(false));
    }
    out_ = token_tensor(s_.out_dtype, true);
    if (s_.lse) lse_ = score_tensor(true);
    if (s_.packed) cu_ = Tensor(s_.index_dtype, {s_.batch + 1}, s_.layout == "strided" ? "strided" : "bshd");
    if (s_.shortened) seqlens_ = Tensor(s_.index_dtype, {s_.batch}, s_.layout == "strided" ? "strided" : "bshd");
    if (s_.sinks) sinks_ = Tensor(ATTN_FLOAT32, {s_.heads}, s_.layout == "strided" ? "strided" : "bshd");
    if (s_.gate >= 0) gate_ = token_tensor(s_.gate_dtype ? s_.gate_dtype : s_.q_dtype, false, true, s_.broadcast);
    if (s_.head_weight) head_weight_ = token_tensor(ATTN_FLOAT32, false, false);
}

void MergeCall::fill()
{
    for (std::int64_t b = 0; b <= s_.batch; ++b) {
        if (s_.packed) cu_.set({b}, double(start_[b]));
        if (s_.shortened && b < s_.batch) seqlens_.set({b}, double(used_[b]));
    }
    for (std::int64_t h = 0; s_.sinks && h < s_.heads; ++h)
        sinks_.set({h}, random_.chance(0.1) ? -infinity : 2 * random_.normal());
    for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
        const bool none = random_.chance(s_.empty / 2);
        for (Tensor &t : partial_lse_) {
            const bool empty = none || random_.chance(s_.empty);
            t.set(score(b, h, i), empty ? -infinity : s_.lse_spread * random_.normal());
        }
        if (s_.head_weight) head_weight_.set(token(b, i, h), random_.chance(s_.zero_weight) ? 0 : random_.normal());
    });
    // What was set last counts where rows share memory.
    for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
        if (s_.head_weight && head_weight_.get(token(b, i, h)) == 0) return;
        for (std::int64_t p = 0; p < s_.parts; ++p) {
            if (s_.weighed() && partial_lse_[p].get(score(b, h, i)) == -infinity) continue;
            for (std::int64_t c = 0; c < s_.dim; ++c) partial_out_[p].set(token(b, i, h, c), random_.normal());
        }
        for (std::int64_t c = 0; s_.gate >= 0 && c < s_.dim; ++c) gate_.set(gate_at(b, i, h, c), 3 * random_.normal());
    });
}

Index MergeCall::gate_at(std::int64_t b, std::int64_t i, std::int64_t h, std::int64_t c) const
{
    Index at = token(b, i, h, c);
    for (std::size_t a = 0; a < 4; ++a)
        if (s_.broadcast >> a & 1) at[a] = 0;
    return at;
}

void MergeCall::describe()
{
    const auto bind = [&](attn_slot slot, attn_dtype dtype = 0, std::uint32_t flags = 0) {
        attn_bind b{};
        b.slot = slot, b.dtype = dtype, b.flags = flags;
        binds.push_back(b);
    };
    if (s_.part_dtype != ATTN_FLOAT32) bind(ATTN_SLOT_PARTIAL_OUT, s_.part_dtype);
    if (s_.lse) bind(ATTN_SLOT_LSE);
    if (s_.packed) bind(ATTN_SLOT_CU_SEQLENS_Q, s_.index_dtype);
    if (s_.shortened) bind(ATTN_SLOT_SEQLENS_Q, s_.index_dtype);
    if (s_.sinks) bind(ATTN_SLOT_SINK_LOGITS);
    if (s_.gate >= 0) bind(ATTN_SLOT_GATE, s_.gate_dtype, s_.broadcast * ATTN_BIND_BROADCAST_AXIS0);
    if (s_.head_weight) bind(ATTN_SLOT_HEAD_WEIGHT);
    problem.size = sizeof problem;
    problem.binds = binds.data(), problem.bind_count = binds.size();
    problem.q_dtype = s_.q_dtype, problem.out_dtype = s_.out_dtype == s_.q_dtype ? 0 : s_.out_dtype;
    problem.batch = std::max<std::int64_t>(s_.batch, 1) + s_.slack, problem.heads_q = s_.heads, problem.dim_v = s_.dim;
    problem.max_q = std::max<std::int64_t>(s_.tq, 1) + s_.slack;
    if (s_.packed) problem.total_q = std::max<std::int64_t>(total_, 1) + s_.slack;
    merge.size = sizeof merge, merge.problem = &problem, merge.parts = std::size_t(s_.parts);
    merge.activation = s_.activation;
    if (s_.gate > 0) merge.gate = attn_gate(s_.gate);
}

std::vector<Bytes> MergeCall::input_bytes() const
{
    std::vector<Bytes> all;
    for (const Tensor &t : partial_out_) all.push_back(t.bytes());
    for (const Tensor &t : partial_lse_) all.push_back(t.bytes());
    for (const Tensor *t : {&cu_, &seqlens_, &sinks_, &gate_, &head_weight_}) all.push_back(t->bytes());
    return all;
}

bool MergeCall::check_row(std::int64_t b, std::int64_t i, std::int64_t h) const
{
    const std::string where =
        "sequence " + std::to_string(b) + " row " + std::to_string(i) + " head " + std::to_string(h);
    std::vector<double> weights(s_.parts, 1);
    bool empty = false;
    if (s_.weighed()) {
        const double sink = s_.sinks ? sinks_.get({h}) : -infinity;
        double top = sink, sum = 0;
        empty = true;
        for (const Tensor &t : partial_lse_) {
            const double lse = t.get(score(b, h, i));
            top = std::max(top, lse), empty &= lse == -infinity;
        }
        if (top != -infinity) sum = std::exp(sink - top);
        for (std::int64_t p = 0; p < s_.parts; ++p) {
            weights[p] = empty ? 0 : std::exp(partial_lse_[p].get(score(b, h, i)) - top);
            sum += weights[p];
        }
        for (double &weight : weights) weight /= sum;
        if (s_.lse) {
            const double got = lse_.get(score(b, h, i)), wanted = empty ? sink : top + std::log(sum);
            const bool right = empty ? got == wanted : std::abs(got - wanted) <= 2e-7 * std::max(1.0, std::abs(wanted));
            EXPECT_TRUE(right) << "LSE of " << where << " is " << got << " instead of " << wanted;
            if (!right) return false;
        }
    }
    const double factor = s_.head_weight ? head_weight_.get(token(b, i, h)) : 1;
    for (std::int64_t c = 0; c < s_.dim; ++c) {
        const double got = out_.get(token(b, i, h, c));
        double sum = 0, size = 0;
        if (!empty && factor != 0) {
            for (std::int64_t p = 0; p < s_.parts; ++p) {
                if (s_.weighed() && partial_lse_[p].get(score(b, h, i)) == -infinity) continue;
                const double term = weights[p] * partial_out_[p].get(token(b, i, h, c));
                sum += term, size += std::abs(term);
            }
            double gate = 1, gate_error = 0;
            if (s_.gate >= 0) {
                const double g = gate_.get(gate_at(b, i, h, c)), sigmoid = 1 / (1 + std::exp(-g));
                gate = s_.gate == ATTN_GATE_LINEAR ? g : s_.gate == ATTN_GATE_SILU ? g * sigmoid : sigmoid;
                gate_error = 2e-7 * (1 + std::abs(g));
            }
            sum *= gate * factor, size *= std::abs(gate * factor) * (1 + gate_error / 6e-7);
        }
        constexpr double underflow = 1e-36; // of weights and products
        const double rounding = s_.out_dtype == ATTN_FLOAT16    ? 0x1p-11 * std::abs(sum) + 0x1p-25
                                : s_.out_dtype == ATTN_BFLOAT16 ? 0x1p-8 * std::abs(sum)
                                                                : 0;
        // Of the weights, and of terms that are rounded as they are added one by one.
        const double relative = 5e-7 + 3e-8 * std::sqrt(static_cast<double>(s_.parts));
        const bool right =
            empty || factor == 0 ? got == 0 : std::abs(got - sum) <= relative * size + 1.001 * rounding + underflow;
        EXPECT_TRUE(right) << where << " channel " << c << " is " << got << " instead of " << sum;
        if (!right) return false;
    }
    return true;
}

} // namespace conformance

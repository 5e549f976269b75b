// Merge plans against their equations in fp64, and against dense plans whose keys were split.
#include "backend.h"
#include "number.h"
#include "session.h"
#include "tensor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace conformance {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// What a merge is to do. Sizes are those of the call; `slack` is how much larger the bounds of the plan are.
struct MergeCase {
    std::uint64_t seed = 0;
    std::int64_t batch = 2, tq = 3, heads = 4, dim = 16, parts = 2, slack = 0, workers = 1;
    attn_activation activation = ATTN_SOFTMAX;
    attn_dtype q_dtype = ATTN_FLOAT32, part_dtype = ATTN_FLOAT32, out_dtype = ATTN_FLOAT32, gate_dtype = 0;
    attn_dtype index_dtype = ATTN_INT32;
    bool packed = false, shortened = false, lse = true, sinks = false, head_weight = false;
    std::int64_t gate = -1;      // -1: none, else attn_gate
    std::uint32_t broadcast = 0; // bits of the axes of GATE that have extent 1
    double lse_spread = 2, empty = 0.1, zero_weight = 0.2;
    std::string out_layout = "bshd", layout = "bshd"; // "any": one drawn for each input

    bool weighed() const { return activation == ATTN_SOFTMAX; }
    std::string text() const
    {
        std::string s = "seed " + std::to_string(seed);
        const auto add = [&](const char *name, std::int64_t value) {
            s += std::string(" ") + name + "=" + std::to_string(value);
        };
        add("batch", batch), add("tq", tq), add("heads", heads), add("dim", dim), add("parts", parts);
        add("slack", slack), add("workers", workers), add("activation", activation), add("packed", packed);
        add("shortened", shortened), add("lse", lse), add("sinks", sinks), add("head_weight", head_weight);
        add("gate", gate), add("broadcast", broadcast);
        s += std::string(" q=") + dtype_name(q_dtype) + " part=" + dtype_name(part_dtype) +
             " out=" + dtype_name(out_dtype);
        return s + " layout=" + layout + " out_layout=" + out_layout;
    }
};

// One call: tensors, what they hold, and the descriptor that plans for it. Points into itself.
class Call {
public:
    explicit Call(const MergeCase &setup) : s_(setup), random_(setup.seed, 700)
    {
        place();
        allocate();
        fill();
        describe();
        poison_outputs();
    }
    Call(const Call &) = delete;
    Call &operator=(const Call &) = delete;

    attn_merge merge{};
    attn_problem problem{};
    std::vector<attn_bind> binds;

    Tensor &partial_out(std::size_t part) { return partial_out_[part]; }
    Tensor &partial_lse(std::size_t part) { return partial_lse_[part]; }
    Tensor &out() { return out_; }
    Tensor &lse() { return lse_; }
    Tensor &gate() { return gate_; }
    const MergeCase &setup() const { return s_; }

    PlanPointer plan(attn_handle handle, std::string &why)
    {
        attn_plan made = nullptr;
        const attn_status status = attn_plan_merge(handle, &merge, &made);
        why = status ? std::string(attn_status_name(status)) + ": " + attn_last_error() : "";
        EXPECT_EQ(status, attn_plan_supports(handle, ATTN_KIND_MERGE, &merge));
        return PlanPointer(made);
    }

    // Tensors in a random order: matching may not depend on it.
    std::vector<attn_arg> args()
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

    void poison_outputs()
    {
        out_.poison();
        if (s_.lse) lse_.poison();
        for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
            for (std::int64_t c = 0; c < s_.dim; ++c) out_.expect_write(token(b, i, h, c));
            if (s_.lse) lse_.expect_write(score(b, h, i));
        });
    }

    // Executes with fresh outputs; nothing but the rows in use may be written, nor any input.
    void run(attn_plan plan)
    {
        poison_outputs();
        const auto list = args();
        const auto before = input_bytes();
        std::size_t bytes = 1, alignment = 0;
        ASSERT_EQ(attn_plan_workspace(plan, &bytes, &alignment), ATTN_OK);
        EXPECT_EQ(bytes, 0u);
        EXPECT_GE(alignment, 1u);
        ASSERT_EQ(attn_execute(plan, list.data(), list.size(), nullptr, 0, nullptr), ATTN_OK) << attn_last_error();
        EXPECT_FALSE(out_.wrote_elsewhere());
        EXPECT_FALSE(s_.lse && lse_.wrote_elsewhere());
        EXPECT_EQ(before, input_bytes());
    }

    // Compares every element with the equations on what the tensors hold.
    void check() const
    {
        std::int64_t wrong = 0;
        for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
            if (wrong < 5) wrong += check_row(b, i, h) ? 0 : 1;
        });
        EXPECT_EQ(wrong, 0);
    }

    void for_each_row(const std::function<void(std::int64_t, std::int64_t, std::int64_t)> &body) const
    {
        for (std::int64_t b = 0; b < s_.batch; ++b)
            for (std::int64_t i = 0; i < used_[b]; ++i)
                for (std::int64_t h = 0; h < s_.heads; ++h) body(b, i, h);
    }
    Index token(std::int64_t b, std::int64_t i, std::int64_t h, std::int64_t c = 0) const
    {
        return s_.packed ? Index{start_[b] + i, h, c, 0} : Index{b, i, h, c};
    }
    Index score(std::int64_t b, std::int64_t h, std::int64_t i) const
    {
        return s_.packed ? Index{h, start_[b] + i, 0, 0} : Index{b, h, i, 0};
    }

private:
    void place()
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

    std::string layout(bool output = false)
    {
        if (output) return s_.out_layout;
        if (s_.layout != "any") return s_.layout;
        static const char *all[] = {"bshd", "bhsd", "gaps", "reversed", "strided", "repeated"};
        return all[random_.integer(0, 5)];
    }

    Tensor token_tensor(attn_dtype dtype, bool output, bool channels = true, std::uint32_t broadcast = 0)
    {
        std::vector<std::int64_t> shape{s_.batch, s_.tq, s_.heads};
        if (s_.packed) shape = {total_, s_.heads};
        if (channels) shape.push_back(s_.dim);
        for (std::size_t a = 0; a < shape.size(); ++a)
            if (broadcast >> a & 1) shape[a] = 1;
        return Tensor(dtype, shape, layout(output));
    }
    Tensor score_tensor(bool output)
    {
        const auto shape = s_.packed ? std::vector<std::int64_t>{s_.heads, total_}
                                     : std::vector<std::int64_t>{s_.batch, s_.heads, s_.tq};
        return Tensor(ATTN_FLOAT32, shape, layout(output));
    }

    void allocate()
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

    // What no result may depend on stays poison: rows not in use, and parts without keys.
    void fill()
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
            for (std::int64_t c = 0; s_.gate >= 0 && c < s_.dim; ++c)
                gate_.set(gate_at(b, i, h, c), 3 * random_.normal());
        });
    }

    Index gate_at(std::int64_t b, std::int64_t i, std::int64_t h, std::int64_t c) const
    {
        Index at = token(b, i, h, c);
        for (std::size_t a = 0; a < 4; ++a)
            if (s_.broadcast >> a & 1) at[a] = 0;
        return at;
    }

    void describe()
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
        problem.batch = std::max<std::int64_t>(s_.batch, 1) + s_.slack, problem.heads_q = s_.heads,
        problem.dim_v = s_.dim;
        problem.max_q = std::max<std::int64_t>(s_.tq, 1) + s_.slack;
        if (s_.packed) problem.total_q = std::max<std::int64_t>(total_, 1) + s_.slack;
        merge.size = sizeof merge, merge.problem = &problem, merge.parts = std::size_t(s_.parts);
        merge.activation = s_.activation;
        if (s_.gate > 0) merge.gate = attn_gate(s_.gate);
    }

    std::vector<std::vector<unsigned char>> input_bytes() const
    {
        std::vector<std::vector<unsigned char>> all;
        for (const Tensor &t : partial_out_) all.push_back(t.bytes());
        for (const Tensor &t : partial_lse_) all.push_back(t.bytes());
        for (const Tensor *t : {&cu_, &seqlens_, &sinks_, &gate_, &head_weight_}) all.push_back(t->bytes());
        return all;
    }

    bool check_row(std::int64_t b, std::int64_t i, std::int64_t h) const
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
                const bool right =
                    empty ? got == wanted : std::abs(got - wanted) <= 2e-7 * std::max(1.0, std::abs(wanted));
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
            const bool right =
                empty || factor == 0 ? got == 0 : std::abs(got - sum) <= 6e-7 * size + 1.001 * rounding + underflow;
            EXPECT_TRUE(right) << where << " channel " << c << " is " << got << " instead of " << sum;
            if (!right) return false;
        }
        return true;
    }

    MergeCase s_;
    mutable Random random_;
    std::int64_t total_ = 0;
    std::vector<std::int64_t> start_, used_;
    std::vector<Tensor> partial_out_, partial_lse_;
    Tensor out_, lse_, cu_, seqlens_, sinks_, gate_, head_weight_;
    std::deque<attn_tensor> views_;
};

void for_each_backend(const std::function<void(const Backend &)> &body)
{
    for (const auto &backend : backends()) {
        SCOPED_TRACE(backend->name());
        body(*backend);
    }
}

void expect_right(const MergeCase &setup)
{
    SCOPED_TRACE(setup.text());
    Call call(setup);
    for_each_backend([&](const Backend &backend) {
        std::string why;
        const PlanPointer plan = call.plan(backend.handle(setup.workers), why);
        ASSERT_TRUE(plan) << why;
        call.run(plan.get());
        call.check();
    });
}

MergeCase random_case_of_merge(std::uint64_t seed)
{
    Random r(seed, 701);
    const auto dtype = [&] {
        static const attn_dtype all[] = {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16};
        return all[r.integer(0, 2)];
    };
    MergeCase s;
    s.seed = seed;
    s.activation = r.chance(0.7) ? ATTN_SOFTMAX : static_cast<attn_activation>(r.integer(1, 2));
    s.batch = r.integer(0, 4), s.tq = r.chance(0.4) ? 1 : r.integer(0, 20), s.heads = r.integer(1, 6);
    s.dim = r.chance(0.5) ? 1 << r.integer(0, 7) : r.integer(1, 700);
    s.parts = r.chance(0.8) ? r.integer(1, 6) : r.integer(7, 100);
    if (s.parts * s.dim > 2000) s.tq = std::min<std::int64_t>(s.tq, 2);
    s.slack = r.integer(0, 2), s.workers = r.integer(1, 3);
    s.q_dtype = dtype(), s.part_dtype = r.chance(0.6) ? attn_dtype{ATTN_FLOAT32} : dtype(), s.out_dtype = dtype();
    s.index_dtype = r.chance(0.5) ? ATTN_INT32 : ATTN_INT64;
    s.packed = r.chance(0.4), s.shortened = r.chance(0.3);
    s.lse = s.weighed() && r.chance(0.7), s.sinks = s.weighed() && r.chance(0.4);
    s.gate = r.integer(-3, 2), s.gate = std::max<std::int64_t>(s.gate, -1);
    if (s.gate >= 0) {
        s.gate_dtype = r.chance(0.5) ? 0 : dtype();
        if (r.chance(0.4)) s.broadcast = s.packed ? 1 << 2 : 1 << 3;
        if (r.chance(0.1)) s.broadcast |= static_cast<std::uint32_t>(r.integer(0, 3));
    }
    s.head_weight = r.chance(0.3);
    s.lse_spread = r.chance(0.2) ? 1e4 : 2;
    static const char *outputs[] = {"bshd", "bhsd", "gaps", "reversed", "strided"};
    s.out_layout = outputs[r.integer(0, 4)], s.layout = r.chance(0.7) ? "any" : "bshd";
    return s;
}

TEST(Merge, FollowsTheEquations)
{
    const std::int64_t count = session().subset ? 60 : 400;
    Random seeds(session().seed, 702);
    for (std::int64_t n = 0; n < count; ++n) {
        expect_right(random_case_of_merge(seeds.next()));
        if (testing::Test::HasFailure()) return; // the first says enough
    }
}

TEST(Merge, EveryDtype)
{
    for (const attn_dtype part : {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16})
        for (const attn_dtype out : {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16})
            for (const attn_dtype gate : {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16})
                for (const attn_activation activation : {ATTN_SOFTMAX, ATTN_SIGMOID, ATTN_RELU}) {
                    MergeCase s;
                    s.seed = session().seed, s.activation = activation, s.lse = s.weighed();
                    s.part_dtype = part, s.out_dtype = out, s.gate_dtype = gate, s.gate = activation, s.dim = 77;
                    expect_right(s);
                }
}

TEST(Merge, NothingToDo)
{
    for (const bool packed : {false, true})
        for (const std::int64_t batch : {0, 1, 3})
            for (const std::int64_t tq : {0, 2}) {
                MergeCase s;
                s.seed = session().seed, s.packed = packed, s.batch = batch, s.tq = tq;
                s.shortened = batch != 1, s.gate = 0, s.head_weight = true, s.sinks = true;
                expect_right(s);
            }
}

TEST(Merge, ManyPartsAndWideHeads)
{
    MergeCase s;
    s.seed = session().seed;
    s.batch = 1, s.tq = 1, s.heads = 2, s.parts = 1024, s.dim = 64, s.workers = 2, s.sinks = true;
    expect_right(s);
    s.parts = 33, s.dim = 1000; // more than is summed at a time, of parts and of channels
    expect_right(s);
    s.parts = 64, s.dim = 257, s.empty = 0.9;
    expect_right(s);
    s.activation = ATTN_RELU, s.lse = s.sinks = false, s.parts = 1024, s.dim = 3;
    expect_right(s);
}

// The same random numbers in tensors of the parts and outputs of one merge.
struct Values {
    std::vector<double> out, lse;
};
Values values_of(Call &call)
{
    Values v;
    call.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
        for (std::int64_t c = 0; c < call.setup().dim; ++c) v.out.push_back(call.out().get(call.token(b, i, h, c)));
        v.lse.push_back(call.lse().get(call.score(b, h, i)));
    });
    return v;
}
void copy_part(Call &from, std::size_t part, Call &to, std::size_t place)
{
    from.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
        to.partial_lse(place).set(to.score(b, h, i), from.partial_lse(part).get(from.score(b, h, i)));
        for (std::int64_t c = 0; c < from.setup().dim; ++c)
            to.partial_out(place).set(to.token(b, i, h, c), from.partial_out(part).get(from.token(b, i, h, c)));
    });
}
void copy_result(Call &from, Call &to, std::size_t place)
{
    from.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
        to.partial_lse(place).set(to.score(b, h, i), from.lse().get(from.score(b, h, i)));
        for (std::int64_t c = 0; c < from.setup().dim; ++c)
            to.partial_out(place).set(to.token(b, i, h, c), from.out().get(from.token(b, i, h, c)));
    });
}
void run_on(const Backend &backend, Call &call)
{
    std::string why;
    const PlanPointer plan = call.plan(backend.handle(call.setup().workers), why);
    ASSERT_TRUE(plan) << why;
    call.run(plan.get());
}
void expect_near(const Values &got, const Values &wanted)
{
    ASSERT_EQ(got.out.size(), wanted.out.size());
    double error = 0, norm = 0;
    for (std::size_t n = 0; n < got.out.size(); ++n) {
        error += (got.out[n] - wanted.out[n]) * (got.out[n] - wanted.out[n]);
        norm += wanted.out[n] * wanted.out[n];
    }
    EXPECT_LE(std::sqrt(error), 2e-6 * std::sqrt(norm));
    for (std::size_t n = 0; n < got.lse.size(); ++n)
        EXPECT_NEAR(got.lse[n], wanted.lse[n], 2e-6 * std::max(1.0, std::abs(wanted.lse[n])));
}

MergeCase plain(std::int64_t parts)
{
    MergeCase s;
    s.seed = session().seed, s.parts = parts, s.batch = 3, s.tq = 5, s.dim = 40, s.empty = 0;
    return s;
}

TEST(Merge, APartWithoutKeysChangesNoBit)
{
    for_each_backend([&](const Backend &backend) {
        for (const std::size_t place : {0, 1, 2}) {
            Call call(plain(3));
            for (std::size_t p = 0; p < 3; ++p) // two parts without keys, full of poison
                if (p != place) {
                    call.partial_out(p).poison();
                    call.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
                        call.partial_lse(p).set(call.score(b, h, i), -infinity);
                    });
                }
            call.partial_out(place).set(call.token(0, 0, 0, 1), -0.0); // keeps its sign too
            run_on(backend, call);
            call.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
                EXPECT_EQ(call.lse().get(call.score(b, h, i)), call.partial_lse(place).get(call.score(b, h, i)));
                for (std::int64_t c = 0; c < call.setup().dim; ++c)
                    EXPECT_EQ(call.out().get(call.token(b, i, h, c)),
                              call.partial_out(place).get(call.token(b, i, h, c)));
            });
            EXPECT_TRUE(std::signbit(call.out().get(call.token(0, 0, 0, 1))));
        }
    });
}

TEST(Merge, TheOrderOfPartsHardlyMatters)
{
    for_each_backend([&](const Backend &backend) {
        Call forward(plain(5)), backward(plain(5));
        for (std::size_t p = 0; p < 5; ++p) copy_part(forward, p, backward, 4 - p);
        run_on(backend, forward);
        run_on(backend, backward);
        expect_near(values_of(backward), values_of(forward));
    });
}

TEST(Merge, AMergeOfMergesIsTheMergeOfAll)
{
    for_each_backend([&](const Backend &backend) {
        Call all(plain(5)), first(plain(2)), second(plain(3)), both(plain(2));
        for (std::size_t p = 0; p < 5; ++p) copy_part(all, p, p < 2 ? first : second, p < 2 ? p : p - 2);
        for (Call *call : {&all, &first, &second}) run_on(backend, *call);
        copy_result(first, both, 0);
        copy_result(second, both, 1);
        run_on(backend, both);
        expect_near(values_of(both), values_of(all));
    });
}

TEST(Merge, HugeDifferencesOfLse)
{
    for_each_backend([&](const Backend &backend) {
        for (const double top : {0.0, 80.0, -80.0, 1e5, -1e5, 3e38, -3e38}) {
            Call call(plain(2));
            call.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
                call.partial_lse(0).set(call.score(b, h, i), top);
                call.partial_lse(1).set(call.score(b, h, i), i % 2 ? top : -3.3e38);
            });
            run_on(backend, call);
            call.check();
        }
    });
}

TEST(Merge, ANaNReachesItsOwnRowOnly)
{
    for_each_backend([&](const Backend &backend) {
        Call clean(plain(2)), call(plain(2));
        call.partial_out(1).set(call.token(0, 0, 0, 3), NAN);
        call.partial_lse(0).set(call.score(1, 2, 1), NAN);
        run_on(backend, clean);
        run_on(backend, call);
        call.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
            const bool bad_lse = b == 1 && h == 2 && i == 1;
            EXPECT_EQ(std::isnan(call.lse().get(call.score(b, h, i))), bad_lse);
            for (std::int64_t c = 0; c < 40; ++c) {
                const double got = call.out().get(call.token(b, i, h, c));
                if (bad_lse || (b == 0 && i == 0 && h == 0 && c == 3))
                    EXPECT_TRUE(std::isnan(got));
                else
                    EXPECT_EQ(got, clean.out().get(clean.token(b, i, h, c)));
            }
        });
    });
}

TEST(Merge, EmptyRowsAndZeroWeightsAreExact)
{
    for_each_backend([&](const Backend &backend) {
        MergeCase s = plain(2);
        s.gate = ATTN_GATE_LINEAR;
        Call call(s);
        call.gate().poison(); // no gate turns an empty row into anything else
        for (std::size_t p = 0; p < 2; ++p) {
            call.partial_out(p).poison();
            call.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
                call.partial_lse(p).set(call.score(b, h, i), -infinity);
            });
        }
        run_on(backend, call);
        call.check();
        s.empty = 1, s.sinks = true; // the sink alone
        expect_right(s);
        s.empty = 0, s.zero_weight = 1, s.head_weight = true, s.lse = false;
        Call skipped(s);
        skipped.partial_lse(0).poison();
        run_on(backend, skipped);
        skipped.check();
    });
}

TEST(Merge, ThreadsChangeNoBit)
{
    for_each_backend([&](const Backend &backend) {
        MergeCase s = plain(3);
        s.batch = 4, s.tq = 300, s.shortened = true, s.sinks = true, s.gate = 2, s.heads = 2;
        Call one(s);
        run_on(backend, one);
        s.workers = 3;
        Call three(s);
        run_on(backend, three);
        EXPECT_EQ(one.out().bytes(), three.out().bytes());
        EXPECT_EQ(one.lse().bytes(), three.lse().bytes());
        three.check();
    });
}

// Dense attention and its parts. Tensors are plain row-major arrays.
struct Dense {
    std::int64_t batch, tq, tk, hq, hk, dim;
    attn_dtype dtype = ATTN_FLOAT32;

    Tensor random(std::vector<std::int64_t> shape, Random &r) const
    {
        Tensor t(dtype, shape);
        for (std::int64_t a = 0; a < shape[0]; ++a)
            for (std::int64_t b = 0; b < shape[1]; ++b)
                for (std::int64_t c = 0; c < shape[2]; ++c)
                    for (std::int64_t d = 0; d < shape[3]; ++d) t.set({a, b, c, d}, r.normal());
        return t;
    }
};

// Runs dense attention of given views with LSE, OUT as its view says.
void run_dense(attn_handle handle, const attn_tensor &q, const attn_tensor &k, const attn_tensor &v,
               const attn_tensor &out, const attn_tensor &lse)
{
    attn_bind bind{};
    bind.slot = ATTN_SLOT_LSE;
    attn_problem problem{};
    problem.size = sizeof problem;
    problem.binds = &bind, problem.bind_count = 1;
    problem.q_dtype = q.dtype, problem.out_dtype = out.dtype;
    problem.batch = q.shape[0], problem.max_q = q.shape[1], problem.max_kv = std::max<std::int64_t>(k.shape[1], 1);
    problem.heads_q = q.shape[2], problem.heads_k = k.shape[2], problem.dim_qk = q.shape[3];
    attn_dense dense{};
    dense.size = sizeof dense, dense.problem = &problem;
    attn_plan made = nullptr;
    ASSERT_EQ(attn_plan_dense(handle, &dense, &made), ATTN_OK) << attn_last_error();
    const PlanPointer plan(made);
    std::size_t bytes = 0;
    ASSERT_EQ(attn_plan_workspace(made, &bytes, nullptr), ATTN_OK);
    std::vector<std::max_align_t> workspace(bytes / sizeof(std::max_align_t) + 1);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &q},
                             {ATTN_SLOT_K, 0, &k},
                             {ATTN_SLOT_V, 0, &v},
                             {ATTN_SLOT_OUT, 0, &out},
                             {ATTN_SLOT_LSE, 0, &lse}};
    ASSERT_EQ(attn_execute(made, args, 5, workspace.data(), bytes, nullptr), ATTN_OK) << attn_last_error();
}

void run_merge(attn_handle handle, attn_dtype q_dtype, std::vector<Tensor> &outs, std::vector<Tensor> &lses,
               Tensor &out, Tensor &lse)
{
    attn_bind bind{};
    bind.slot = ATTN_SLOT_LSE;
    attn_problem problem{};
    problem.size = sizeof problem;
    problem.binds = &bind, problem.bind_count = 1, problem.q_dtype = q_dtype, problem.out_dtype = out.dtype();
    problem.batch = out.shape()[0], problem.max_q = out.shape()[1], problem.heads_q = out.shape()[2];
    problem.dim_v = out.shape()[3];
    attn_merge merge{};
    merge.size = sizeof merge, merge.problem = &problem, merge.parts = outs.size();
    attn_plan made = nullptr;
    ASSERT_EQ(attn_plan_merge(handle, &merge, &made), ATTN_OK) << attn_last_error();
    const PlanPointer plan(made);
    std::deque<attn_tensor> views;
    std::vector<attn_arg> args;
    const auto add = [&](attn_slot slot, std::size_t index, Tensor &tensor) {
        views.push_back(tensor.view());
        args.push_back({slot, static_cast<std::uint32_t>(index), &views.back()});
    };
    for (std::size_t p = 0; p < outs.size(); ++p) add(ATTN_SLOT_PARTIAL_OUT, p, outs[p]);
    for (std::size_t p = 0; p < outs.size(); ++p) add(ATTN_SLOT_PARTIAL_LSE, p, lses[p]);
    add(ATTN_SLOT_OUT, 0, out), add(ATTN_SLOT_LSE, 0, lse);
    ASSERT_EQ(attn_execute(made, args.data(), args.size(), nullptr, 0, nullptr), ATTN_OK) << attn_last_error();
}

attn_tensor rows_of(attn_tensor view, std::int64_t first, std::int64_t count)
{
    view.byte_offset += static_cast<std::size_t>(first * view.strides[1]) * element_size(view.dtype);
    view.shape[1] = count;
    return view;
}

void expect_same_rows(const Tensor &got, const Tensor &wanted, double tolerance)
{
    const auto &n = got.shape();
    double error = 0, norm = 0;
    for (std::int64_t a = 0; a < n[0]; ++a)
        for (std::int64_t b = 0; b < n[1]; ++b)
            for (std::int64_t c = 0; c < n[2]; ++c)
                for (std::int64_t d = 0; d < (n.size() > 3 ? n[3] : 1); ++d) {
                    const double x = got.get({a, b, c, d}), y = wanted.get({a, b, c, d});
                    error += (x - y) * (x - y), norm += y * y;
                }
    EXPECT_LE(std::sqrt(error), tolerance * std::sqrt(norm)); // false for NaN
}

TEST(Merge, SplitKeysOfADensePlan)
{
    const struct {
        Dense d;
        double tolerance;
    } all[] = {{{2, 5, 37, 4, 2, 64}, 2e-6},
               {{3, 1, 300, 8, 2, 128}, 2e-6},
               {{1, 40, 90, 2, 2, 33, ATTN_BFLOAT16}, 4e-3},
               {{2, 1, 64, 6, 3, 80, ATTN_FLOAT16}, 6e-4}};
    Random random(session().seed, 703);
    for (const auto &entry : all) {
        const Dense &d = entry.d;
        const double tolerance = entry.tolerance;
        Tensor q = d.random({d.batch, d.tq, d.hq, d.dim}, random), k = d.random({d.batch, d.tk, d.hk, d.dim}, random);
        Tensor v = d.random({d.batch, d.tk, d.hk, d.dim}, random);
        const std::vector<std::int64_t> out_shape{d.batch, d.tq, d.hq, d.dim}, lse_shape{d.batch, d.hq, d.tq};
        const std::int64_t parts = random.integer(2, 6);
        std::vector<std::int64_t> cuts{0, 0, d.tk}; // an empty part among them
        for (std::int64_t n = 0; n + 2 < parts; ++n) cuts.push_back(random.integer(0, d.tk));
        std::sort(cuts.begin(), cuts.end());
        for_each_backend([&](const Backend &backend) {
            Tensor whole(d.dtype, out_shape), whole_lse(ATTN_FLOAT32, lse_shape);
            run_dense(backend.handle(2), q.view(), k.view(), v.view(), whole.view(), whole_lse.view());
            std::vector<Tensor> outs, lses;
            for (std::size_t p = 0; p + 1 < cuts.size(); ++p) {
                outs.emplace_back(ATTN_FLOAT32, out_shape), lses.emplace_back(ATTN_FLOAT32, lse_shape);
                const std::int64_t count = cuts[p + 1] - cuts[p];
                run_dense(backend.handle(2), q.view(), rows_of(k.view(), cuts[p], count),
                          rows_of(v.view(), cuts[p], count), outs.back().view(), lses.back().view());
            }
            Tensor out(d.dtype, out_shape), lse(ATTN_FLOAT32, lse_shape);
            run_merge(backend.handle(2), d.dtype, outs, lses, out, lse);
            expect_same_rows(out, whole, tolerance);
            expect_same_rows(lse, whole_lse, 2e-6);
        });
    }
}

// Sequences that share a prompt: the prompt sees the batch as its query axis, so its outputs are views with axes
// exchanged.
TEST(Merge, SharedPrompt)
{
    const Dense d{5, 1, 20, 4, 2, 48};
    const std::int64_t prompt = 31;
    Random random(session().seed, 704);
    Tensor q = d.random({d.batch, 1, d.hq, d.dim}, random);
    Tensor prompt_k = d.random({1, prompt, d.hk, d.dim}, random), prompt_v = d.random({1, prompt, d.hk, d.dim}, random);
    Tensor own_k = d.random({d.batch, d.tk, d.hk, d.dim}, random),
           own_v = d.random({d.batch, d.tk, d.hk, d.dim}, random);
    Tensor all_k(ATTN_FLOAT32, {d.batch, prompt + d.tk, d.hk, d.dim}), all_v = all_k;
    for (std::int64_t b = 0; b < d.batch; ++b)
        for (std::int64_t j = 0; j < prompt + d.tk; ++j)
            for (std::int64_t h = 0; h < d.hk; ++h)
                for (std::int64_t c = 0; c < d.dim; ++c) {
                    const bool shared = j < prompt;
                    all_k.set({b, j, h, c}, shared ? prompt_k.get({0, j, h, c}) : own_k.get({b, j - prompt, h, c}));
                    all_v.set({b, j, h, c}, shared ? prompt_v.get({0, j, h, c}) : own_v.get({b, j - prompt, h, c}));
                }
    const std::vector<std::int64_t> out_shape{d.batch, 1, d.hq, d.dim}, lse_shape{d.batch, d.hq, 1};
    for_each_backend([&](const Backend &backend) {
        const attn_handle handle = backend.handle(2);
        std::vector<Tensor> outs(2, Tensor(ATTN_FLOAT32, out_shape)), lses(2, Tensor(ATTN_FLOAT32, lse_shape));
        run_dense(handle, attn_tensor_swap_axes(q.view(), 0, 1), prompt_k.view(), prompt_v.view(),
                  attn_tensor_swap_axes(outs[0].view(), 0, 1), attn_tensor_swap_axes(lses[0].view(), 0, 2));
        run_dense(handle, q.view(), own_k.view(), own_v.view(), outs[1].view(), lses[1].view());
        Tensor out(ATTN_FLOAT32, out_shape), lse(ATTN_FLOAT32, lse_shape), whole = out, whole_lse = lse;
        run_merge(handle, ATTN_FLOAT32, outs, lses, out, lse);
        run_dense(handle, q.view(), all_k.view(), all_v.view(), whole.view(), whole_lse.view());
        expect_same_rows(out, whole, 2e-6);
        expect_same_rows(lse, whole_lse, 2e-6);
    });
}

TEST(Merge, BadDescriptors)
{
    const auto bind = [](Call &call, attn_slot slot, std::uint32_t index, attn_dtype dtype, std::uint32_t flags) {
        attn_bind b{};
        b.slot = slot, b.index = index, b.dtype = dtype, b.flags = flags;
        call.binds.push_back(b);
        call.problem.binds = call.binds.data(), call.problem.bind_count = call.binds.size();
    };
    const attn_status invalid = ATTN_ERROR_INVALID, unsupported = ATTN_ERROR_UNSUPPORTED;
    const struct {
        std::function<void(Call &)> change;
        attn_status status;
        const char *message;
    } table[] = {
        {[](Call &c) { c.merge.problem = nullptr; }, invalid, "attn_merge.problem = NULL"},
        {[](Call &c) { c.merge.parts = 0; }, invalid, "attn_merge.parts = 0: must be >= 1"},
        {[](Call &c) { c.merge.parts = 1025; }, invalid, "attn_merge.parts = 1025: must be >= 1 and <= 1024"},
        {[](Call &c) { c.merge.parts = SIZE_MAX; }, invalid, "attn_merge.parts = 18446744073709551615"},
        {[](Call &c) { c.merge.flags = 1; }, invalid, "attn_merge.flags = 0x1"},
        {[](Call &c) { c.merge.activation = 3; }, invalid, "attn_merge.activation = 3"},
        {[](Call &c) { c.merge.gate = 3; }, invalid, "attn_merge.gate = 3"},
        {[](Call &c) { c.merge.gate = 1; }, invalid, "attn_merge.gate = 1: must be 0 where slot GATE is not bound"},
        {[](Call &c) { c.problem.dim_v = 0; }, invalid, "attn_problem.dim_v = 0: must be 1"},
        {[](Call &c) { c.problem.dim_qk = 8; }, invalid, "attn_problem.dim_qk = 8: must be 0 or dim_v = 16"},
        {[](Call &c) { c.problem.heads_k = 2; }, invalid, "attn_problem.heads_k = 2: must be 0 or heads_q = 4"},
        {[](Call &c) { c.problem.heads_v = 8; }, invalid, "attn_problem.heads_v = 8: must be 0 or heads_q = 4"},
        {[](Call &c) { c.problem.k_dtype = ATTN_FLOAT16; }, invalid, "attn_problem.k_dtype = float16: must be 0"},
        {[](Call &c) { c.problem.v_dtype = ATTN_FLOAT32; }, invalid, "attn_problem.v_dtype = float32: must be 0"},
        {[](Call &c) { c.problem.max_kv = 4; }, invalid, "attn_problem.max_kv = 4: must be 0"},
        {[](Call &c) { c.problem.total_kv = 4; }, invalid, "attn_problem.total_kv = 4: must be 0"},
        {[](Call &c) { c.problem.page_size = 4; }, invalid, "attn_problem.page_size = 4: must be 0"},
        {[](Call &c) { c.problem.scale = 0.5; }, invalid, "attn_problem.scale = 0.5: must be 0"},
        {[](Call &c) { c.problem.total_q = 5; }, invalid,
         "attn_problem.total_q = 5: must be 0 where slot CU_SEQLENS_Q"},
        {[](Call &c) { c.problem.flags = ATTN_V_ALIASES_K; }, invalid, "attn_problem.flags = 0x10: ATTN_V_ALIASES_K"},
        {[](Call &c) { c.problem.q_dtype = 0; }, invalid, "attn_problem.q_dtype"},
        {[](Call &c) { c.problem.max_q = 0; }, invalid, "attn_problem.max_q = 0"},
        {[](Call &c) { c.problem.direction = ATTN_BACKWARD; }, unsupported, "attn_problem.direction = backward"},
        {[](Call &c) { c.problem.out_dtype = ATTN_FLOAT8_E5M2; }, unsupported, "slot OUT of float8_e5m2"},
        {[&](Call &c) { bind(c, ATTN_SLOT_PARTIAL_OUT, 1, 0, 0); }, invalid, "slot PARTIAL_OUT is bound with index 0"},
        {[&](Call &c) { bind(c, ATTN_SLOT_PARTIAL_OUT, 0, ATTN_FLOAT64, 0); }, invalid,
         "float64 for slot PARTIAL_OUT: must be float32, float16 or bfloat16"},
        {[&](Call &c) { bind(c, ATTN_SLOT_PARTIAL_LSE, 0, ATTN_FLOAT16, 0); }, invalid,
         "slot PARTIAL_LSE: must be float32"},
        {[&](Call &c) { bind(c, ATTN_SLOT_PARTIAL_OUT, 0, 0, ATTN_BIND_BROADCAST_AXIS0); }, invalid, "PARTIAL_OUT"},
        {[&](Call &c) { bind(c, ATTN_SLOT_OUT, 0, 0, ATTN_BIND_ABSENT); }, invalid, "slot OUT: it cannot be ABSENT"},
        {[&](Call &c) { bind(c, ATTN_SLOT_GATE, 1, 0, 0); }, invalid, "slot GATE has index 0 only"},
        {[&](Call &c) { bind(c, ATTN_SLOT_GATE, 0, ATTN_INT8, 0); }, invalid, "int8 for slot GATE: must be"},
        {[&](Call &c) { bind(c, ATTN_SLOT_HEAD_WEIGHT, 0, 0, ATTN_BIND_BROADCAST_AXIS2); }, invalid, "HEAD_WEIGHT"},
        {[&](Call &c) { bind(c, ATTN_SLOT_K, 0, 0, 0); }, invalid, "slot = K: a merge does not take it"},
        {[&](Call &c) { bind(c, ATTN_SLOT_SEQLENS_KV, 0, 0, 0); }, invalid, "slot = SEQLENS_KV: a merge does not take"},
        {[&](Call &c) { bind(c, ATTN_SLOT_GRAD | ATTN_SLOT_OUT, 0, 0, 0); }, unsupported, "slot GRAD|OUT"},
        {[&](Call &c) { bind(c, ATTN_SLOT_STATUS, 0, 0, 0); }, unsupported, "slot STATUS"},
        {[&](Call &c) { c.merge.activation = ATTN_RELU; }, invalid, "slot = LSE: a merge takes it only where"},
        {[&](Call &c) { c.binds.clear(), c.merge.activation = 1, bind(c, ATTN_SLOT_SINK_LOGITS, 0, 0, 0); }, invalid,
         "slot = SINK_LOGITS: a merge takes it only where attn_merge.activation is ATTN_SOFTMAX"},
        {[&](Call &c) { c.binds.clear(), c.merge.activation = 2, bind(c, ATTN_SLOT_PARTIAL_LSE, 0, 0, 0); }, invalid,
         "slot = PARTIAL_LSE: a merge takes it only where"},
        {[&](Call &c) {
             bind(c, ATTN_SLOT_CU_SEQLENS_Q, 0, 0, 0);
             bind(c, ATTN_SLOT_GATE, 0, 0, ATTN_BIND_BROADCAST_AXIS3);
         },
         invalid, "slot GATE: an axis to broadcast is beyond its rank"},
    };
    const attn_handle handle = backends()[0]->handle(1);
    for (const auto &row : table) {
        Call call(plain(2));
        call.problem.dim_v = 16;
        row.change(call);
        SCOPED_TRACE(row.message);
        attn_plan plan = nullptr;
        EXPECT_EQ(attn_plan_merge(handle, &call.merge, &plan), row.status);
        const std::string message = attn_last_error();
        EXPECT_NE(message.find(row.message), std::string::npos) << message;
        EXPECT_EQ(plan, nullptr);
        EXPECT_EQ(attn_plan_supports(handle, ATTN_KIND_MERGE, &call.merge), row.status);
    }
    Call call(plain(2)); // what a merge shares with its parts may be given again
    call.problem.dim_qk = call.problem.dim_v, call.problem.dim_v = 0, call.problem.heads_k = call.problem.heads_q;
    std::string why;
    EXPECT_TRUE(call.plan(handle, why)) << why;
}

TEST(Merge, BadArguments)
{
    MergeCase s = plain(3);
    s.packed = s.shortened = true;
    s.tq = 4;
    const attn_handle handle = backends()[0]->handle(1);
    const struct {
        std::function<void(Call &, std::vector<attn_arg> &)> change;
        attn_status status;
        const char *message;
    } table[] = {
        {[](Call &, auto &args) { args.erase(args.begin() + 2); }, ATTN_ERROR_INVALID, "missing"},
        {[](Call &, auto &args) { args[2].index = 7; }, ATTN_ERROR_INVALID, "index 7 is not a tensor of this plan"},
        {[](Call &, auto &args) { args[2] = args[1]; }, ATTN_ERROR_INVALID, "is given twice"},
    };
    for (const auto &row : table) {
        SCOPED_TRACE(row.message);
        Call call(s);
        std::string why;
        const PlanPointer plan = call.plan(handle, why);
        ASSERT_TRUE(plan) << why;
        auto args = call.args();
        row.change(call, args);
        EXPECT_EQ(attn_execute(plan.get(), args.data(), args.size(), nullptr, 0, nullptr), row.status);
        EXPECT_NE(std::string(attn_last_error()).find(row.message), std::string::npos) << attn_last_error();
        call.poison_outputs();
    }
    const struct {
        attn_slot slot;
        std::int64_t at, value;
        const char *message;
    } lengths[] = {
        {ATTN_SLOT_CU_SEQLENS_Q, 0, -1, "CU_SEQLENS_Q[0] = -1: must be >= 0"},
        {ATTN_SLOT_CU_SEQLENS_Q, 1, 99, "CU_SEQLENS_Q[1] = 99: must be at most"},
        {ATTN_SLOT_CU_SEQLENS_Q, 3, -2, "must not be less than the one before"},
        {ATTN_SLOT_SEQLENS_Q, 0, -1, "SEQLENS_Q[0] = -1: must be 0 .."},
        {ATTN_SLOT_SEQLENS_Q, 2, 40, "SEQLENS_Q[2] = 40: must be 0 .."},
    };
    for (const auto &row : lengths) {
        SCOPED_TRACE(row.message);
        Call call(s);
        std::string why;
        const PlanPointer plan = call.plan(handle, why);
        ASSERT_TRUE(plan) << why;
        for (const attn_arg &arg : call.args())
            if (arg.slot == row.slot) static_cast<std::int32_t *>(arg.tensor->data)[row.at] = std::int32_t(row.value);
        const auto args = call.args();
        EXPECT_EQ(attn_execute(plan.get(), args.data(), args.size(), nullptr, 0, nullptr), ATTN_ERROR_DATA);
        EXPECT_NE(std::string(attn_last_error()).find(row.message), std::string::npos) << attn_last_error();
    }
}

TEST(Merge, DescribesItself)
{
    MergeCase s = plain(3);
    s.gate = ATTN_GATE_SILU, s.part_dtype = ATTN_BFLOAT16;
    Call call(s);
    std::string why;
    const PlanPointer plan = call.plan(backends()[0]->handle(1), why);
    ASSERT_TRUE(plan) << why;
    std::size_t needed = 0;
    ASSERT_EQ(attn_plan_describe(plan.get(), nullptr, 0, &needed), ATTN_OK);
    std::string text(needed, ' ');
    ASSERT_EQ(attn_plan_describe(plan.get(), text.data(), needed, nullptr), ATTN_OK);
    for (const char *part : {"\"kind\":\"merge\"", "\"kernel\":\"cpu.merge.", "\"merge\":{\"parts\":3",
                             "\"gate\":\"silu\"", "\"slot\":\"PARTIAL_OUT\",\"index\":2,\"dtype\":\"bfloat16\""})
        EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
    attn_bind bind{};
    attn_tensor bounds{};
    ASSERT_EQ(attn_plan_slot(plan.get(), 1, &bind, &bounds), ATTN_OK);
    EXPECT_EQ(bind.slot, ATTN_SLOT_PARTIAL_LSE);
    EXPECT_EQ(bounds.ndim, 3);
    attn_sizes sizes{};
    sizes.size = sizeof sizes, sizes.batch = 1;
    std::size_t bytes = 1;
    EXPECT_EQ(attn_plan_workspace_for(plan.get(), &sizes, &bytes), ATTN_OK) << attn_last_error();
    EXPECT_EQ(bytes, 0u);
}

} // namespace
} // namespace conformance

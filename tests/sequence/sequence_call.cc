#include "sequence_call.h"

#include <algorithm>
#include <cmath>
#include <sstream>

namespace sequence {

using conformance::Index;
using conformance::Tensor;

namespace {

// Relative rounding of a value that is stored, and what a subnormal one loses.
double stored_error(attn_dtype dtype, double x)
{
    if (dtype == ATTN_FLOAT32) return 0;
    return dtype == ATTN_FLOAT16 ? std::max(std::abs(x) * 0x1p-11, 0x1p-25) : std::abs(x) * 0x1p-8;
}

// Sums of segments and the passes over them round once more, each about as often as the recurrence itself.
constexpr double kSlack = 4 * 0x1p-24;
constexpr double kTiny = 1e-36; // results that are flushed to zero, or nearly

} // namespace

Call::Call(const Spec &spec) : s(spec), random_(spec.seed, 12)
{
    draw_lengths();
    draw_tokens();
    draw_weights();
    draw_states();
    describe();
}

Tensor &Call::add(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> shape, const std::string &layout)
{
    return tensors[slot] = Tensor(dtype, std::move(shape), layout);
}

void Call::bind(attn_slot slot, attn_dtype dtype, std::uint32_t flags)
{
    attn_bind bind = {};
    bind.slot = slot, bind.dtype = dtype, bind.flags = flags;
    binds.push_back(bind);
    problem.binds = binds.data(), problem.bind_count = binds.size();
}

Tensor &Call::add_tokens(attn_slot slot, attn_dtype dtype, bool by_channel)
{
    const std::int64_t channels = by_channel ? s.channels : 1;
    if (s.packed) return add(slot, dtype, {total_, s.heads, channels}, s.layout);
    return add(slot, dtype, {s.batch, s.tokens, s.heads, channels}, s.layout);
}

void Call::draw_lengths()
{
    for (std::int64_t b = 0; b < s.batch; ++b) {
        const bool ragged = s.packed || s.used;
        Sequence q;
        // Of several ragged sequences the first is empty.
        q.length = !ragged ? s.tokens : b == 0 && s.batch > 1 ? 0 : b == 1 ? s.tokens : random_.integer(0, s.tokens);
        q.first = s.packed ? total_ : 0;
        total_ += q.length + (s.packed && s.used ? 2 : 0);
        q.state = b;
        sequences.push_back(q);
    }
    if (s.packed) {
        Tensor &t = add(ATTN_SLOT_CU_SEQLENS_Q, ATTN_INT32, {s.batch + 1}, "bshd");
        for (std::int64_t b = 0; b < s.batch; ++b) t.set({b}, double(sequences[std::size_t(b)].first));
        t.set({s.batch}, double(total_));
        bind(ATTN_SLOT_CU_SEQLENS_Q);
    }
    if (s.used) {
        Tensor &t = add(ATTN_SLOT_SEQLENS_Q, ATTN_INT64, {s.batch}, "bshd");
        for (std::int64_t b = 0; b < s.batch; ++b) t.set({b}, double(sequences[std::size_t(b)].length));
        bind(ATTN_SLOT_SEQLENS_Q, ATTN_INT64);
    }
}

template <class Draw>
void Call::fill(attn_slot slot, Draw draw)
{
    const std::int64_t channels = at(slot).shape().back();
    for (std::size_t b = 0; b < sequences.size(); ++b)
        for (std::int64_t t = 0; t < sequences[b].length; ++t)
            for (std::int64_t h = 0; h < s.heads; ++h)
                for (std::int64_t c = 0; c < channels; ++c) at(slot).set(token_index(b, t, h, c), draw());
}

void Call::draw_tokens()
{
    const auto normal = [&] { return random_.normal(); };
    add_tokens(ATTN_SLOT_X, s.dtype), fill(ATTN_SLOT_X, normal);
    add_tokens(ATTN_SLOT_OUT, s.out);
    if (s.conv && s.residual) {
        add_tokens(ATTN_SLOT_RESIDUAL, s.other), fill(ATTN_SLOT_RESIDUAL, normal);
        bind(ATTN_SLOT_RESIDUAL, s.other);
    }
    if (s.conv) return;
    const auto gate = [&](attn_slot slot, auto draw) {
        add_tokens(slot, s.other, !s.broadcast), fill(slot, draw);
        bind(slot, s.other, s.broadcast ? ATTN_BIND_BROADCAST_AXIS0 << (s.packed ? 2 : 3) : 0);
    };
    gate(ATTN_SLOT_DECAY, [&] {
        const double log = random_.chance(0.02) ? 0 : -2 * s.gate_size * random_.uniform();
        return s.factor ? std::exp(log) : log;
    });
    if (s.write) gate(ATTN_SLOT_WRITE, [&] { return 2 * random_.uniform() - 0.5; });
}

void Call::draw_weights()
{
    if (!s.conv) return;
    Tensor &w = add(ATTN_SLOT_CONV_WEIGHT, s.other, {s.heads, s.channels, s.width}, s.state_layout);
    for (std::int64_t h = 0; h < s.heads; ++h)
        for (std::int64_t c = 0; c < s.channels; ++c)
            for (std::int64_t i = 0; i < s.width; ++i) w.set({h, c, i}, random_.normal() / std::sqrt(double(s.width)));
    bind(ATTN_SLOT_CONV_WEIGHT, s.other);
    if (!s.bias) return;
    Tensor &bias = add(ATTN_SLOT_CONV_BIAS, s.other, {s.heads, s.channels}, s.state_layout);
    for (std::int64_t h = 0; h < s.heads; ++h)
        for (std::int64_t c = 0; c < s.channels; ++c) bias.set({h, c}, random_.normal());
    bind(ATTN_SLOT_CONV_BIAS, s.other);
}

void Call::draw_states()
{
    if (s.pool) {
        Tensor &index = add(ATTN_SLOT_STATE_INDEX, ATTN_INT32, {s.batch}, "bshd");
        for (std::int64_t b = 0; b < s.batch; ++b) {
            sequences[std::size_t(b)].state = s.batch - b; // the pool has one more at its start, and runs backwards
            index.set({b}, double(s.batch - b));
        }
        bind(ATTN_SLOT_STATE_INDEX);
    }
    std::vector<std::int64_t> shape = {s.batch + (s.pool ? 2 : 0), s.heads, s.channels};
    if (s.conv) shape.insert(shape.begin() + 1, s.width - 1);
    if (s.state_in) {
        Tensor &state = add(ATTN_SLOT_STATE_IN, s.state, shape, s.state_layout);
        for (std::size_t b = 0; b < sequences.size(); ++b)
            for (std::int64_t r = 0; r < state_rows(); ++r)
                for (std::int64_t h = 0; h < s.heads; ++h)
                    for (std::int64_t c = 0; c < s.channels; ++c) state.set(state_index(b, r, h, c), random_.normal());
        bind(ATTN_SLOT_STATE_IN);
    }
    if (!s.state_out) return;
    bind(ATTN_SLOT_STATE_OUT);
    if (!s.in_place) add(ATTN_SLOT_STATE_OUT, s.state, shape, s.state_layout);
}

void Call::describe()
{
    problem.size = sizeof problem;
    problem.flags = s.checked ? ATTN_CHECKED : 0;
    problem.q_dtype = s.dtype, problem.out_dtype = s.out;
    problem.batch = s.batch, problem.heads_q = s.heads, problem.dim_qk = s.channels;
    problem.max_q = std::max<std::int64_t>(s.tokens, 1) + (s.packed && s.used ? 2 : 0);
    if (s.packed) problem.total_q = std::max<std::int64_t>(total_, 1);
    const attn_dtype state = s.state_in || s.state_out ? s.state : 0;
    conv.size = sizeof conv, conv.problem = &problem;
    conv.width = static_cast<size_t>(s.width), conv.state_dtype = state;
    conv.activation = s.silu ? ATTN_CONV_SILU : ATTN_CONV_IDENTITY;
    scan.size = sizeof scan, scan.problem = &problem;
    scan.flags = s.lerp ? ATTN_SCAN_LERP : 0, scan.state_dtype = state;
    scan.form = s.factor ? ATTN_SCAN_FACTOR : ATTN_SCAN_LOG;
}

attn_status Call::plan(attn_handle handle, conformance::PlanPointer &out) const
{
    attn_plan made = nullptr;
    const attn_status status = s.conv ? attn_plan_conv(handle, &conv, &made) : attn_plan_scan(handle, &scan, &made);
    out.reset(made);
    return status;
}

attn_status Call::supports(attn_handle handle) const
{
    return s.conv ? attn_plan_supports(handle, ATTN_KIND_CONV, &conv)
                  : attn_plan_supports(handle, ATTN_KIND_SCAN, &scan);
}

attn_status Call::execute(attn_plan plan, std::int64_t first, std::int64_t count)
{
    std::vector<attn_tensor> views;
    std::vector<attn_arg> args;
    views.reserve(tensors.size());
    for (auto &[slot, tensor] : tensors) {
        attn_tensor view = tensor.view();
        const bool by_token = slot == ATTN_SLOT_X || slot == ATTN_SLOT_OUT || slot == ATTN_SLOT_DECAY ||
                              slot == ATTN_SLOT_WRITE || slot == ATTN_SLOT_RESIDUAL;
        if (count >= 0 && by_token) {
            view.byte_offset +=
                std::size_t(first * view.strides[1]) * std::size_t(conformance::element_size(view.dtype));
            view.shape[1] = count;
        }
        views.push_back(view);
        args.push_back({slot, 0, &views.back()});
        if (slot == ATTN_SLOT_STATE_IN && s.in_place) args.push_back({ATTN_SLOT_STATE_OUT, 0, &views.back()});
    }
    std::size_t bytes = 0;
    if (const attn_status status = attn_plan_workspace(plan, &bytes, nullptr)) return status;
    std::vector<unsigned char> workspace(bytes, 0xff);
    return attn_execute(plan, args.data(), args.size(), workspace.data(), bytes, nullptr);
}

std::string Call::run(attn_handle handle)
{
    conformance::PlanPointer made;
    if (plan(handle, made) != ATTN_OK) return std::string("plan: ") + attn_last_error();
    if (s.in_place) before_[ATTN_SLOT_STATE_IN] = at(ATTN_SLOT_STATE_IN);
    at(ATTN_SLOT_OUT).poison();
    if (has(ATTN_SLOT_STATE_OUT)) at(ATTN_SLOT_STATE_OUT).poison();
    const std::map<attn_slot, Tensor> given = tensors;
    if (execute(made.get()) != ATTN_OK) return std::string("execute: ") + attn_last_error();
    for (const auto &[slot, tensor] : given) {
        const bool written = slot == ATTN_SLOT_OUT || slot == ATTN_SLOT_STATE_OUT;
        if (!written && !(slot == ATTN_SLOT_STATE_IN && s.in_place) && tensor.bytes() != at(slot).bytes())
            return "an input has changed";
    }
    return compare();
}

Index Call::token_index(std::size_t b, std::int64_t t, std::int64_t head, std::int64_t channel) const
{
    const std::int64_t row = sequences[b].first + t;
    if (s.packed) return {row, head, channel};
    return {std::int64_t(b), row, head, channel};
}

Index Call::state_index(std::size_t b, std::int64_t row, std::int64_t head, std::int64_t channel) const
{
    if (s.conv) return {sequences[b].state, row, head, channel};
    return {sequences[b].state, head, channel};
}

double Call::token_value(attn_slot slot, std::size_t b, std::int64_t t, std::int64_t head, std::int64_t channel) const
{
    return at(slot).get(token_index(b, t, head, at(slot).shape().back() == 1 ? 0 : channel));
}

std::vector<double> Call::outputs(std::int64_t tokens) const
{
    std::vector<double> list;
    for (std::size_t b = 0; b < sequences.size(); ++b)
        for (std::int64_t t = 0; t < std::min(tokens, sequences[b].length); ++t)
            for (std::int64_t h = 0; h < s.heads; ++h)
                for (std::int64_t c = 0; c < s.channels; ++c)
                    list.push_back(at(ATTN_SLOT_OUT).get(token_index(b, t, h, c)));
    return list;
}

std::vector<double> Call::states(attn_slot slot) const
{
    std::vector<double> list;
    for (std::size_t b = 0; b < sequences.size(); ++b)
        for (std::int64_t r = 0; r < state_rows(); ++r)
            for (std::int64_t h = 0; h < s.heads; ++h)
                for (std::int64_t c = 0; c < s.channels; ++c) list.push_back(at(slot).get(state_index(b, r, h, c)));
    return list;
}

std::vector<Value> Call::expected(std::size_t b, std::int64_t head, std::int64_t channel,
                                  std::vector<Value> *state) const
{
    const auto initial = [&](std::int64_t row) {
        if (!s.state_in) return 0.0;
        const auto kept = before_.find(ATTN_SLOT_STATE_IN);
        return (kept != before_.end() ? kept->second : at(ATTN_SLOT_STATE_IN)).get(state_index(b, row, head, channel));
    };
    const auto column = [&](attn_slot slot) {
        std::vector<double> list;
        for (std::int64_t t = 0; t < sequences[b].length; ++t) list.push_back(token_value(slot, b, t, head, channel));
        return list;
    };
    if (s.conv) {
        Convolution c;
        for (std::int64_t i = 0; i < s.width; ++i) c.taps.push_back(at(ATTN_SLOT_CONV_WEIGHT).get({head, channel, i}));
        for (std::int64_t r = 0; r < s.width - 1; ++r) c.past.push_back(initial(r));
        c.x = column(ATTN_SLOT_X), c.silu = s.silu;
        if (s.residual) c.residual = column(ATTN_SLOT_RESIDUAL);
        if (s.bias) c.bias = at(ATTN_SLOT_CONV_BIAS).get({head, channel});
        std::vector<double> all = c.past;
        all.insert(all.end(), c.x.begin(), c.x.end());
        for (std::size_t i = all.size() - std::size_t(s.width - 1); i < all.size(); ++i) state->push_back({all[i], 0});
        return convolve(c);
    }
    Scan scan;
    scan.x = column(ATTN_SLOT_X), scan.gate = column(ATTN_SLOT_DECAY);
    if (s.write) scan.write = column(ATTN_SLOT_WRITE);
    scan.state = initial(0), scan.log = !s.factor, scan.lerp = s.lerp;
    std::vector<Value> all = sequence::scan(scan);
    state->push_back(all.empty() ? Value{scan.state, 0} : all.back());
    return all;
}

std::string Call::compare() const
{
    Tensor written = at(ATTN_SLOT_OUT);
    const attn_slot after = s.in_place ? ATTN_SLOT_STATE_IN : ATTN_SLOT_STATE_OUT;
    Tensor kept = s.state_out ? at(after) : Tensor();
    std::ostringstream failure;
    const auto judge = [&](const char *what, double got, const Value &wanted, attn_dtype dtype) {
        const double bound = kSlack * wanted.error + stored_error(dtype, wanted.x) * 1.001 + kTiny;
        if (std::abs(got - wanted.x) <= bound || !failure.str().empty()) return; // a NaN is not
        failure << what << " is " << got << ", not " << wanted.x << " within " << bound << "; ";
    };
    for (std::size_t b = 0; b < sequences.size(); ++b)
        for (std::int64_t h = 0; h < s.heads; ++h)
            for (std::int64_t c = 0; c < s.channels; ++c) {
                std::vector<Value> state;
                const std::vector<Value> wanted = expected(b, h, c, &state);
                for (std::int64_t t = 0; t < sequences[b].length; ++t) {
                    const Index place = token_index(b, t, h, c);
                    written.expect_write(place);
                    judge("OUT", at(ATTN_SLOT_OUT).get(place), wanted[std::size_t(t)], s.out);
                }
                for (std::int64_t r = 0; s.state_out && r < state_rows(); ++r) {
                    const Index place = state_index(b, r, h, c);
                    kept.expect_write(place);
                    judge("STATE_OUT", at(after).get(place), state[std::size_t(r)], s.state);
                }
            }
    if (written.wrote_elsewhere()) failure << "OUT written where no token is; ";
    if (s.state_out && !s.in_place && kept.wrote_elsewhere()) failure << "STATE_OUT written where no state is; ";
    return failure.str();
}

} // namespace sequence

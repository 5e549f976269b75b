#include "linear_call.h"

#include <algorithm>
#include <cmath>
#include <sstream>

namespace linear {

using conformance::Index;

namespace {

bool gated(const Method &m)
{
    return m.decay == ATTN_DECAY_TOKEN || m.decay == ATTN_DECAY_CHANNEL;
}

double softplus(double x)
{
    return std::log1p(std::exp(-std::abs(x))) + std::max(x, 0.0);
}

double logistic(double x)
{
    return 1 / (1 + std::exp(-x));
}

Row softmax(Row x)
{
    const double top = *std::max_element(x.begin(), x.end());
    double sum = 0;
    for (double &value : x) sum += value = std::exp(value - top);
    for (double &value : x) value /= sum;
    return x;
}

} // namespace

Call::Call(const Spec &spec)
    : s(spec),
      m(method(spec.method)),
      heads_out(std::max(s.heads_q, s.heads_v)),
      group(heads_out / s.heads_v),
      random_(spec.seed, 11)
{
    rows = m.map == ATTN_FEATURE_TAYLOR2    ? s.dim_qk * (s.dim_qk + 3) / 2 + 1
           : m.map == ATTN_FEATURE_HEDGEHOG ? 2 * s.dim_qk
                                            : s.dim_qk;
    columns = s.dim_v + ((m.flags & ATTN_LINEAR_NORMALISER) ? 1 : 0);
    keys_ = s.keys ? s.keys : s.tokens;
    draw_lengths();
    draw_rows();
    draw_gates();
    draw_states();
    describe();
}

conformance::Tensor &Call::add(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> shape,
                               const std::string &layout, std::uint32_t index)
{
    return tensors[{slot, index}] = Tensor(dtype, std::move(shape), layout);
}

conformance::Tensor &Call::add_tokens(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> fixed)
{
    const bool full = (m.flags & ATTN_LINEAR_BIDIRECTIONAL) && (slot == ATTN_SLOT_K || slot == ATTN_SLOT_V);
    std::vector<std::int64_t> shape = fixed;
    if (s.packed) {
        shape.insert(shape.begin(), full ? total_kv_ : total_q_);
    } else {
        shape.insert(shape.begin(), full ? keys_ : s.tokens);
        shape.insert(shape.begin(), s.batch);
    }
    return add(slot, dtype, shape, shape.size() > 4 || shape.size() < 3 ? s.state_layout : s.layout);
}

conformance::Tensor &Call::add_gate(attn_slot slot, std::vector<std::int64_t> fixed)
{
    const bool by_head = slot == ATTN_SLOT_DECAY || slot == ATTN_SLOT_BETA;
    attn_bind bind = {};
    bind.slot = slot, bind.dtype = s.gate;
    if (by_head && s.broadcast) fixed[0] = 1, bind.flags = 1u << (s.packed ? 1 : 2);
    binds.push_back(bind);
    return add_tokens(slot, s.gate, std::move(fixed));
}

void Call::draw_lengths()
{
    const bool full = (m.flags & ATTN_LINEAR_BIDIRECTIONAL) != 0;
    for (std::int64_t b = 0; b < s.batch; ++b) {
        Sequence q;
        const bool ragged = s.packed || s.used;
        // Of several ragged sequences the first is empty.
        q.length = !ragged ? s.tokens : b == 0 && s.batch > 1 ? 0 : b == 1 ? s.tokens : random_.integer(0, s.tokens);
        q.key_length = !full ? q.length : !ragged ? keys_ : b == 0 && s.batch > 1 ? 0 : random_.integer(0, keys_);
        q.first = s.packed ? total_q_ : 0, q.first_key = s.packed ? (full ? total_kv_ : total_q_) : 0;
        total_q_ += q.length + (s.packed && s.used ? 2 : 0), total_kv_ += q.key_length + (s.packed && s.used ? 1 : 0);
        q.state = b;
        sequences.push_back(q);
    }
    const auto lengths = [&](attn_slot cu, attn_slot used, bool keys) {
        if (s.packed) {
            Tensor &t = add(cu, ATTN_INT32, {s.batch + 1}, "bshd");
            for (std::int64_t b = 0; b < s.batch; ++b)
                t.set({b}, double(keys ? sequences[b].first_key : sequences[b].first));
            t.set({s.batch}, double(keys ? total_kv_ : total_q_));
            binds.push_back({cu, 0, 0, 0, {}, {}});
        }
        if (s.used) {
            Tensor &t = add(used, ATTN_INT64, {s.batch}, "bshd");
            for (std::int64_t b = 0; b < s.batch; ++b)
                t.set({b}, double(keys ? sequences[b].key_length : sequences[b].length));
            binds.push_back({used, 0, ATTN_INT64, 0, {}, {}});
        }
    };
    lengths(ATTN_SLOT_CU_SEQLENS_Q, ATTN_SLOT_SEQLENS_Q, false);
    if (full) lengths(ATTN_SLOT_CU_SEQLENS_KV, ATTN_SLOT_SEQLENS_KV, true);
}

template <class Draw>
void Call::fill(attn_slot slot, Draw draw)
{
    Tensor &t = at(slot);
    const bool keys = (m.flags & ATTN_LINEAR_BIDIRECTIONAL) && (slot == ATTN_SLOT_K || slot == ATTN_SLOT_V);
    const std::size_t first_fixed = s.packed ? 1 : 2;
    const auto &shape = t.shape();
    const std::int64_t heads = shape[first_fixed];
    const std::int64_t channels = shape.size() > first_fixed + 1 ? shape[first_fixed + 1] : 1;
    for (std::size_t b = 0; b < sequences.size(); ++b)
        for (std::int64_t i = 0; i < (keys ? sequences[b].key_length : sequences[b].length); ++i)
            for (std::int64_t h = 0; h < heads; ++h)
                for (std::int64_t c = 0; c < channels; ++c) t.set(token_index(slot, b, i, h, c), draw(b, i, h, c));
}

Index Call::token_index(attn_slot slot, std::size_t b, std::int64_t t, std::int64_t head, std::int64_t channel) const
{
    const Tensor &tensor = at(slot);
    const bool keys = (m.flags & ATTN_LINEAR_BIDIRECTIONAL) && (slot == ATTN_SLOT_K || slot == ATTN_SLOT_V);
    const std::int64_t row = t + (keys ? sequences[b].first_key : sequences[b].first);
    const std::int64_t h = tensor.shape()[s.packed ? 1 : 2] == 1 ? 0 : head;
    if (s.packed) return {row, h, channel};
    return {std::int64_t(b), row, h, channel};
}

double Call::token_value(attn_slot slot, std::size_t b, std::int64_t t, std::int64_t head, std::int64_t channel) const
{
    Index index = token_index(slot, b, t, head, channel);
    return at(slot).get(index);
}

void Call::draw_rows()
{
    const auto normal = [&](auto...) { return random_.normal(); };
    add_tokens(ATTN_SLOT_Q, s.dtype, {s.heads_q, s.dim_qk});
    add_tokens(ATTN_SLOT_K, s.dtype, {s.heads_k, s.dim_qk});
    add_tokens(ATTN_SLOT_V, s.dtype, {s.heads_v, s.dim_v});
    add_tokens(ATTN_SLOT_OUT, s.out, {heads_out, s.dim_v});
    fill(ATTN_SLOT_Q, normal), fill(ATTN_SLOT_K, normal), fill(ATTN_SLOT_V, normal);
    if (m.map == ATTN_FEATURE_HEDGEHOG)
        for (const std::uint32_t index : {0u, 1u}) {
            const std::int64_t heads = index ? s.heads_k : s.heads_q;
            Tensor &w = add(ATTN_SLOT_FEATURE, ATTN_FLOAT32, {heads, s.dim_qk, s.dim_qk + 1}, s.state_layout, index);
            for (std::int64_t h = 0; h < heads; ++h)
                for (std::int64_t i = 0; i < s.dim_qk; ++i)
                    for (std::int64_t j = 0; j <= s.dim_qk; ++j)
                        w.set({h, i, j}, random_.normal() / std::sqrt(double(s.dim_qk)));
        }
}

void Call::draw_gates()
{
    const double size = s.gate_size != 0 ? s.gate_size : m.gate;
    if (m.decay == ATTN_DECAY_HEAD) {
        Tensor &t = add(ATTN_SLOT_DECAY, ATTN_FLOAT32, {s.heads_v}, "bshd");
        for (std::int64_t h = 0; h < s.heads_v; ++h) t.set({h}, -2 * size * random_.uniform());
    }
    if (gated(m)) {
        std::vector<std::int64_t> fixed = {s.heads_v};
        if (m.decay == ATTN_DECAY_CHANNEL) fixed.push_back(rows);
        add_gate(ATTN_SLOT_DECAY, fixed);
        fill(ATTN_SLOT_DECAY, [&](auto...) {
            if (m.form != ATTN_DECAY_LOG) return 2 * random_.normal();
            const double g = -2 * size * random_.uniform();
            return m.lower_bound != 0 ? std::max(g, m.lower_bound) : g;
        });
        if (m.form == ATTN_DECAY_SOFTPLUS || m.form == ATTN_DECAY_SIGMOID) {
            Tensor &a = add(ATTN_SLOT_A_LOG, ATTN_FLOAT32, {s.heads_v}, "bshd");
            for (std::int64_t h = 0; h < s.heads_v; ++h) a.set({h}, std::log(size * (0.5 + random_.uniform())));
            if (m.decay == ATTN_DECAY_CHANNEL) {
                Tensor &bias = add(ATTN_SLOT_DT_BIAS, ATTN_FLOAT32, {s.heads_v, rows}, "bshd");
                for (std::int64_t h = 0; h < s.heads_v; ++h)
                    for (std::int64_t r = 0; r < rows; ++r) bias.set({h, r}, random_.normal() - 1);
            } else {
                Tensor &bias = add(ATTN_SLOT_DT_BIAS, ATTN_FLOAT32, {s.heads_v}, "bshd");
                for (std::int64_t h = 0; h < s.heads_v; ++h) bias.set({h}, random_.normal() - 1);
            }
        }
    }
    const auto uniform = [&](auto...) { return random_.uniform(); };
    if (m.update == ATTN_UPDATE_DELTA) {
        add_gate(ATTN_SLOT_BETA, {s.heads_v});
        fill(ATTN_SLOT_BETA, [&](auto...) { return 1.5 * random_.uniform(); });
    }
    if (m.update == ATTN_UPDATE_GATED_DELTA) {
        add_gate(ATTN_SLOT_ERASE, {s.heads_v, rows});
        add_gate(ATTN_SLOT_WRITE, {s.heads_v, s.dim_v});
        fill(ATTN_SLOT_ERASE, uniform), fill(ATTN_SLOT_WRITE, uniform);
    }
    if (m.update == ATTN_UPDATE_DPLR) { // RWKV-7: b = kk a, c = -kk
        add_tokens(ATTN_SLOT_DPLR_B, s.dtype, {s.heads_v, rows});
        add_tokens(ATTN_SLOT_DPLR_C, s.dtype, {s.heads_v, rows});
        for (std::size_t b = 0; b < sequences.size(); ++b)
            for (std::int64_t t = 0; t < sequences[b].length; ++t)
                for (std::int64_t h = 0; h < s.heads_v; ++h) {
                    Row kk(static_cast<std::size_t>(rows));
                    double sum = 1e-12;
                    for (double &x : kk) x = random_.normal(), sum += x * x;
                    for (std::int64_t r = 0; r < rows; ++r) {
                        at(ATTN_SLOT_DPLR_C).set(token_index(ATTN_SLOT_DPLR_C, b, t, h, r), -kk[r] / std::sqrt(sum));
                        at(ATTN_SLOT_DPLR_B)
                            .set(token_index(ATTN_SLOT_DPLR_B, b, t, h, r), random_.uniform() * kk[r] / std::sqrt(sum));
                    }
                }
    }
    if (m.read == ATTN_READ_BEFORE) {
        Tensor &u = add(ATTN_SLOT_BONUS, ATTN_FLOAT32, {s.heads_v, rows}, "bshd");
        for (std::int64_t h = 0; h < s.heads_v; ++h)
            for (std::int64_t r = 0; r < rows; ++r) u.set({h, r}, random_.normal());
    }
}

void Call::draw_states()
{
    if (s.pool) {
        Tensor &index = add(ATTN_SLOT_STATE_INDEX, ATTN_INT32, {s.batch}, "bshd");
        for (std::int64_t b = 0; b < s.batch; ++b) {
            sequences[b].state = s.batch - b; // the pool has one more at its start, and runs backwards
            index.set({b}, double(sequences[b].state));
        }
        binds.push_back({ATTN_SLOT_STATE_INDEX, 0, 0, 0, {}, {}});
    }
    std::vector<std::int64_t> shape = {s.batch + (s.pool ? 2 : 0), s.heads_v, rows, columns};
    if (s.value_major) std::swap(shape[2], shape[3]);
    if (s.state_in) {
        Tensor &t = add(ATTN_SLOT_STATE_IN, s.state, shape, s.state_layout);
        for (std::size_t b = 0; b < sequences.size(); ++b)
            for (std::int64_t h = 0; h < s.heads_v; ++h)
                for (std::int64_t r = 0; r < rows; ++r)
                    for (std::int64_t c = 0; c < columns; ++c) {
                        double x = random_.normal();
                        if (c == s.dim_v) x = std::abs(x) + 1; // a sum of weights
                        t.set(state_index(sequences[b].state, h, r, c), x);
                    }
        binds.push_back({ATTN_SLOT_STATE_IN, 0, 0, 0, {}, {}});
    }
    if (!s.state_out) return;
    binds.push_back({ATTN_SLOT_STATE_OUT, 0, 0, 0, {}, {}});
    if (s.in_place) return;
    if (s.per_token)
        add_tokens(ATTN_SLOT_STATE_OUT, s.state, {s.heads_v, shape[2], shape[3]});
    else
        add(ATTN_SLOT_STATE_OUT, s.state, shape, s.state_layout);
}

Index Call::state_index(std::int64_t state, std::int64_t head, std::int64_t r, std::int64_t c) const
{
    if (s.value_major) return {state, head, c, r};
    return {state, head, r, c};
}

Index Call::token_state_index(std::size_t b, std::int64_t t, std::int64_t head, std::int64_t r, std::int64_t c) const
{
    const std::int64_t row = sequences[b].first + t, first = s.value_major ? c : r, second = s.value_major ? r : c;
    if (s.packed) return {row, head, first, second};
    return {std::int64_t(b), row, head, first, second};
}

void Call::describe()
{
    problem.size = sizeof problem;
    problem.binds = binds.data(), problem.bind_count = binds.size();
    problem.flags = s.checked ? ATTN_CHECKED : 0;
    problem.q_dtype = s.dtype, problem.out_dtype = s.out;
    problem.batch = s.batch;
    problem.heads_q = s.heads_q, problem.heads_k = s.heads_k, problem.heads_v = s.heads_v;
    problem.dim_qk = s.dim_qk, problem.dim_v = s.dim_v;
    const std::int64_t unused = s.packed && s.used ? 2 : 0; // rows between sequences
    problem.max_q = std::max<std::int64_t>(s.tokens, 1) + unused;
    if (m.flags & ATTN_LINEAR_BIDIRECTIONAL) problem.max_kv = std::max<std::int64_t>(keys_, 1) + unused;
    if (s.packed) problem.total_q = std::max<std::int64_t>(total_q_, 1);
    if (s.packed && (m.flags & ATTN_LINEAR_BIDIRECTIONAL)) problem.total_kv = std::max<std::int64_t>(total_kv_, 1);
    problem.scale = m.scale;
    linear.size = sizeof linear;
    linear.problem = &problem;
    linear.flags = m.flags | (s.recurrent ? ATTN_LINEAR_RECURRENT : 0);
    linear.decay = m.decay, linear.decay_form = m.form, linear.update = m.update, linear.read = m.read;
    linear.feature_map = m.map;
    linear.decay_lower_bound = m.lower_bound, linear.decay_scale = m.decay_scale, linear.normaliser_eps = m.eps;
    linear.chunk = s.chunk;
    if (s.state_in || s.state_out) {
        linear.state_dtype = s.state;
        linear.state_layout = s.value_major ? ATTN_STATE_VK : ATTN_STATE_KV;
    }
    if (s.per_token) linear.state_keep = ATTN_STATE_PER_TOKEN;
}

attn_status Call::plan(attn_handle handle, conformance::PlanPointer &out)
{
    attn_plan made = nullptr;
    const attn_status status = attn_plan_linear(handle, &linear, &made);
    out.reset(made);
    return status;
}

attn_status Call::execute(attn_plan plan, std::int64_t first, std::int64_t count)
{
    std::vector<attn_tensor> views;
    std::vector<attn_arg> args;
    views.reserve(tensors.size() + 1);
    for (auto &[key, tensor] : tensors) {
        attn_tensor view = tensor.view();
        const bool by_token =
            key.first <= ATTN_SLOT_OUT || (key.first == ATTN_SLOT_DECAY && gated(m)) ||
            (key.first > ATTN_SLOT_DECAY && key.first <= ATTN_SLOT_DPLR_C && key.first != ATTN_SLOT_BONUS) ||
            (key.first == ATTN_SLOT_STATE_OUT && s.per_token);
        if (count >= 0 && by_token) {
            view.byte_offset +=
                std::size_t(first * view.strides[1]) * std::size_t(conformance::element_size(view.dtype));
            view.shape[1] = count;
        }
        views.push_back(view);
        args.push_back({key.first, key.second, &views.back()});
        if (key.first == ATTN_SLOT_STATE_IN && s.in_place) args.push_back({ATTN_SLOT_STATE_OUT, 0, &views.back()});
    }
    std::size_t bytes = 0;
    if (const attn_status status = attn_plan_workspace(plan, &bytes, nullptr)) return status;
    std::vector<unsigned char> workspace(bytes, 0xff);
    return attn_execute(plan, args.data(), args.size(), workspace.data(), bytes, nullptr);
}

Errors Call::run(attn_handle handle)
{
    Errors errors;
    conformance::PlanPointer made;
    if (plan(handle, made) != ATTN_OK) {
        errors.failure = std::string("plan: ") + attn_last_error();
        return errors;
    }
    Call untouched = *this; // the states before, where they are updated in place
    at(ATTN_SLOT_OUT).poison();
    if (has(ATTN_SLOT_STATE_OUT)) at(ATTN_SLOT_STATE_OUT).poison();
    if (execute(made.get()) != ATTN_OK) {
        errors.failure = std::string("execute: ") + attn_last_error();
        return errors;
    }
    untouched.tensors[{ATTN_SLOT_OUT, 0}] = at(ATTN_SLOT_OUT);
    if (s.state_out)
        untouched.tensors[{ATTN_SLOT_STATE_OUT, 0}] = s.in_place ? at(ATTN_SLOT_STATE_IN) : at(ATTN_SLOT_STATE_OUT);
    return untouched.compare();
}

Row Call::features(attn_slot slot, std::size_t b, std::int64_t t, std::int64_t head) const
{
    const std::size_t d = std::size_t(s.dim_qk);
    Row x(d), f;
    for (std::size_t i = 0; i < d; ++i) x[i] = token_value(slot, b, t, head, std::int64_t(i));
    switch (m.map) {
    case ATTN_FEATURE_ELU1:
        for (const double value : x) f.push_back(value > 0 ? 1 + value : std::exp(value));
        break;
    case ATTN_FEATURE_RELU:
        for (const double value : x) f.push_back(std::max(value, 0.0));
        break;
    case ATTN_FEATURE_SILU:
        for (const double value : x) f.push_back(value * logistic(value));
        break;
    case ATTN_FEATURE_SOFTMAX:
        f = softmax(x);
        break;
    case ATTN_FEATURE_TAYLOR2:
        f.push_back(1);
        for (const double value : x) f.push_back(value / std::pow(double(d), 0.25));
        for (std::size_t i = 0; i < d; ++i)
            for (std::size_t j = i; j < d; ++j)
                f.push_back(x[i] * x[j] / std::sqrt(double(d)) / (i == j ? std::sqrt(2.0) : 1));
        break;
    case ATTN_FEATURE_HEDGEHOG: {
        const Tensor &w = at(ATTN_SLOT_FEATURE, slot == ATTN_SLOT_K ? 1 : 0);
        Row y;
        for (std::int64_t i = 0; i < s.dim_qk; ++i) {
            double sum = w.get({head, i, s.dim_qk});
            for (std::int64_t j = 0; j < s.dim_qk; ++j) sum += w.get({head, i, j}) * x[std::size_t(j)];
            y.push_back(2 * sum);
        }
        f = y;
        for (const double value : y) f.push_back(-value);
        f = softmax(f);
        break;
    }
    default:
        f = x;
    }
    if (m.flags & ATTN_LINEAR_QK_L2NORM) {
        double sum = 1e-6;
        for (const double value : f) sum += value * value;
        for (double &value : f) value /= std::sqrt(sum);
    }
    return f;
}

double Call::log_decay(std::size_t b, std::int64_t t, std::int64_t head, std::int64_t r) const
{
    if (m.decay == ATTN_DECAY_NONE) return 0;
    if (m.decay == ATTN_DECAY_HEAD) return at(ATTN_SLOT_DECAY).get({head});
    const std::int64_t channel = m.decay == ATTN_DECAY_CHANNEL ? r : 0;
    const double x = token_value(ATTN_SLOT_DECAY, b, t, head, channel);
    if (m.form == ATTN_DECAY_LOG) return x;
    if (m.form == ATTN_DECAY_LOG_SIGMOID) return -(m.decay_scale != 0 ? m.decay_scale : 1) * softplus(-x);
    const double rate = std::exp(at(ATTN_SLOT_A_LOG).get({head}));
    const double bias =
        m.decay == ATTN_DECAY_CHANNEL ? at(ATTN_SLOT_DT_BIAS).get({head, r}) : at(ATTN_SLOT_DT_BIAS).get({head});
    return m.form == ATTN_DECAY_SOFTPLUS ? -rate * softplus(x + bias) : m.lower_bound * logistic(rate * (x + bias));
}

Token Call::token(std::size_t b, std::int64_t t, std::int64_t head) const
{
    Token token;
    const bool full = (m.flags & ATTN_LINEAR_BIDIRECTIONAL) != 0;
    if (!full)
        for (std::int64_t r = 0; r < group; ++r)
            token.q.push_back(features(ATTN_SLOT_Q, b, t, (head * group + r) * s.heads_q / heads_out));
    token.k = features(ATTN_SLOT_K, b, t, head * s.heads_k / s.heads_v);
    for (std::int64_t c = 0; c < s.dim_v; ++c) token.v.push_back(token_value(ATTN_SLOT_V, b, t, head, c));
    for (std::int64_t r = 0; r < rows; ++r) token.log_decay.push_back(log_decay(b, t, head, r));
    if (m.update == ATTN_UPDATE_DELTA) {
        const double beta = token_value(ATTN_SLOT_BETA, b, t, head, 0);
        token.erase.assign(std::size_t(rows), beta), token.write.assign(std::size_t(s.dim_v), beta);
    }
    for (std::int64_t r = 0; r < rows; ++r) {
        if (m.update == ATTN_UPDATE_GATED_DELTA) token.erase.push_back(token_value(ATTN_SLOT_ERASE, b, t, head, r));
        if (m.update == ATTN_UPDATE_DPLR) {
            token.b.push_back(token_value(ATTN_SLOT_DPLR_B, b, t, head, r));
            token.c.push_back(token_value(ATTN_SLOT_DPLR_C, b, t, head, r));
        }
        if (m.read == ATTN_READ_BEFORE) token.bonus.push_back(at(ATTN_SLOT_BONUS).get({head, r}));
    }
    if (m.update == ATTN_UPDATE_GATED_DELTA)
        for (std::int64_t c = 0; c < s.dim_v; ++c) token.write.push_back(token_value(ATTN_SLOT_WRITE, b, t, head, c));
    return token;
}

State Call::initial_state(std::size_t b, std::int64_t head) const
{
    State state;
    state.rows = rows, state.columns = columns;
    state.s.assign(std::size_t(rows * columns), 0);
    if (s.state_in)
        for (std::int64_t r = 0; r < rows; ++r)
            for (std::int64_t c = 0; c < columns; ++c)
                state.at(r, c) = at(ATTN_SLOT_STATE_IN).get(state_index(sequences[b].state, head, r, c));
    return state;
}

} // namespace linear

#include "backends/cpu/linear/call.h"

#include "backends/cpu/linear/checked.h"
#include "backends/cpu/views.h"
#include "names.h"

namespace attn::cpu {
namespace {

constexpr attn_slot kReals[] = {ATTN_SLOT_Q,       ATTN_SLOT_K,        ATTN_SLOT_V,        ATTN_SLOT_OUT,
                                ATTN_SLOT_DECAY,   ATTN_SLOT_BETA,     ATTN_SLOT_ERASE,    ATTN_SLOT_WRITE,
                                ATTN_SLOT_BONUS,   ATTN_SLOT_DPLR_B,   ATTN_SLOT_DPLR_C,   ATTN_SLOT_A_LOG,
                                ATTN_SLOT_DT_BIAS, ATTN_SLOT_STATE_IN, ATTN_SLOT_STATE_OUT};

long long wide(int64_t value)
{
    return value;
}

} // namespace

LinearShape linear_shape(const LinearProblem &p) noexcept
{
    LinearShape shape = {};
    shape.dim_qk = p.dim_qk, shape.dim_k = p.dim_k, shape.dim_v = p.dim_v;
    shape.group = p.group;
    shape.chunk = p.recurrent ? 1 : p.chunk ? p.chunk : kDefaultChunk;
    shape.decay = static_cast<Decay>(p.decay);
    shape.decay_form = static_cast<DecayForm>(p.decay_form);
    shape.update = static_cast<Update>(p.update);
    shape.feature_map = static_cast<FeatureMap>(p.feature_map);
    shape.read_before = p.read == ATTN_READ_BEFORE;
    shape.l2norm = p.l2norm, shape.normaliser = p.normaliser, shape.bidirectional = p.bidirectional;
    shape.scale = static_cast<float>(p.scale);
    shape.normaliser_eps = static_cast<float>(p.normaliser_eps);
    shape.lower_bound = static_cast<float>(p.lower_bound);
    shape.decay_scale = static_cast<float>(p.decay_scale);
    return shape;
}

std::string refuse_linear_dtypes(const LinearProblem &problem)
{
    for (const attn_slot slot : kReals) {
        const int position = problem.find(slot);
        Element element;
        if (position < 0 || element_of(problem.tensors[static_cast<size_t>(position)].dtype, &element)) continue;
        return std::string("slot ") + slot_name(slot) + " of dtype " +
               dtype_text(problem.tensors[static_cast<size_t>(position)].dtype) +
               ": needs float32, float16 or bfloat16";
    }
    return "";
}

LinearCall::LinearCall(const LinearProblem &problem, const LinearShape &shape, const Arguments &arguments) noexcept
    : problem_(problem),
      shape_(shape),
      arguments_(arguments),
      batch_(arguments.sizes.at(Axis::batch)),
      tq_(arguments.sizes.at(Axis::query)),
      tk_(arguments.sizes.at(Axis::key)),
      total_q_(arguments.sizes.at(Axis::total_q)),
      total_kv_(arguments.sizes.at(Axis::total_kv))
{
    const struct {
        attn_slot slot;
        IntegerView *to;
    } integers[] = {{ATTN_SLOT_CU_SEQLENS_Q, &cu_q_},
                    {ATTN_SLOT_CU_SEQLENS_KV, &cu_kv_},
                    {ATTN_SLOT_SEQLENS_Q, &used_q_},
                    {ATTN_SLOT_SEQLENS_KV, &used_kv_},
                    {ATTN_SLOT_STATE_INDEX, &index_}};
    for (const auto &entry : integers)
        if (const attn_tensor *given = view(entry.slot)) *entry.to = IntegerView(*given);
}

const attn_tensor *LinearCall::view(attn_slot slot, uint32_t index) const noexcept
{
    const int position = problem_.find(slot, index);
    return position < 0 ? nullptr : arguments_.view[position];
}

bool LinearCall::writes_nothing() const noexcept
{
    const bool keeps = problem_.has(ATTN_SLOT_STATE_OUT) && problem_.state_keep == ATTN_STATE_FINAL;
    return batch_ == 0 || (!keeps && (problem_.packed_q ? total_q_ : tq_) == 0);
}

int64_t LinearCall::queries(int64_t b) const noexcept
{
    return used_q_ ? used_q_[b] : problem_.packed_q ? cu_q_[b + 1] - cu_q_[b] : tq_;
}

int64_t LinearCall::keys(int64_t b) const noexcept
{
    if (!problem_.bidirectional) return queries(b);
    return used_kv_ ? used_kv_[b] : problem_.packed_kv ? cu_kv_[b + 1] - cu_kv_[b] : tk_;
}

attn_status LinearCall::check() const noexcept
{
    if (const attn_status status = check_lengths()) return status;
    if (const attn_status status = check_states()) return status;
    if (!problem_.checked() || writes_nothing()) return ATTN_OK;
    for (int64_t b = 0; b < batch_; ++b)
        for (int64_t head = 0; head < problem_.heads_v; ++head)
            if (const attn_status status = check_values(shape_, task(b, head), b, head)) return status;
    return ATTN_OK;
}

attn_status LinearCall::check_lengths() const noexcept
{
    if (problem_.packed_q)
        if (const attn_status status = check_boundaries("CU_SEQLENS_Q", cu_q_, batch_, total_q_, problem_.max_q))
            return status;
    if (problem_.packed_kv)
        if (const attn_status status = check_boundaries("CU_SEQLENS_KV", cu_kv_, batch_, total_kv_, problem_.max_kv))
            return status;
    for (int64_t b = 0; used_q_ && b < batch_; ++b)
        if (const attn_status status =
                check_length("SEQLENS_Q", b, used_q_[b], problem_.packed_q ? cu_q_[b + 1] - cu_q_[b] : tq_))
            return status;
    for (int64_t b = 0; used_kv_ && b < batch_; ++b)
        if (const attn_status status =
                check_length("SEQLENS_KV", b, used_kv_[b], problem_.packed_kv ? cu_kv_[b + 1] - cu_kv_[b] : tk_))
            return status;
    return ATTN_OK;
}

attn_status LinearCall::check_states() const noexcept
{
    if (!index_) return ATTN_OK;
    const int64_t states = arguments_.sizes.at(Axis::states);
    for (int64_t b = 0; b < batch_; ++b)
        if (index_[b] < 0 || index_[b] >= states)
            return fail(ATTN_ERROR_DATA, "STATE_INDEX[%lld] = %lld: must be 0 .. %lld", wide(b), wide(index_[b]),
                        wide(states - 1));
    if (!problem_.checked() || !problem_.has(ATTN_SLOT_STATE_OUT)) return ATTN_OK;
    for (int64_t b = 0; b < batch_; ++b)
        for (int64_t other = 0; other < b; ++other)
            if (index_[b] == index_[other])
                return fail(ATTN_ERROR_DATA, "STATE_INDEX[%lld] = %lld: is that of sequence %lld too, both would write",
                            wide(b), wide(index_[b]), wide(other));
    return ATTN_OK;
}

TokenView LinearCall::token_view(attn_slot slot, int64_t b, int64_t row, int64_t head) const noexcept
{
    TokenView result = {};
    const attn_tensor *given = view(slot);
    if (!given) return result;
    const Bytes bytes(*given);
    const bool keys = problem_.bidirectional && (slot == ATTN_SLOT_K || slot == ATTN_SLOT_V);
    const int token = (keys ? problem_.packed_kv : problem_.packed_q) ? 0 : 1;
    const int64_t outer = token == 1 ? b * bytes.step[0] : 0;
    result.base = bytes.at(outer + row * bytes.step[token] + head * bytes.step[token + 1]);
    result.token_step = bytes.step[token];
    result.channel_step = given->ndim > token + 2 ? step_of(*given, token + 2) : 0;
    result.type = bytes.type;
    return result;
}

TokenView LinearCall::head_view(attn_slot slot, int64_t head, uint32_t index) const noexcept
{
    TokenView result = {};
    const attn_tensor *given = view(slot, index);
    if (!given) return result;
    const Bytes bytes(*given);
    result.base = bytes.at(head * bytes.step[0]);
    result.type = bytes.type;
    if (given->ndim == 3) result.token_step = bytes.step[1];
    if (given->ndim > 1) result.channel_step = step_of(*given, given->ndim - 1);
    return result;
}

StateView LinearCall::state_view(const attn_tensor &given, int64_t state, int64_t head) const noexcept
{
    StateView result = {};
    element_of(given.dtype, &result.type);
    const int64_t bytes = dtype_bytes(given.dtype);
    const int last = given.ndim - 1;
    char *first = first_element(given);
    if (first) result.base = first + (state * step_of(given, 0) + head * step_of(given, last - 2)) * bytes;
    const bool value_major = problem_.state_layout == ATTN_STATE_VK;
    result.row_step = step_of(given, value_major ? last : last - 1) * bytes;
    result.column_step = step_of(given, value_major ? last - 1 : last) * bytes;
    return result;
}

LinearTask LinearCall::task(int64_t b, int64_t head) const noexcept
{
    const LinearProblem &p = problem_;
    const int64_t row = p.packed_q ? cu_q_[b] : 0;
    const int64_t key_row = !p.bidirectional ? row : p.packed_kv ? cu_kv_[b] : 0;
    const int64_t out_head = head * p.group;
    LinearTask t = {};
    t.tokens = queries(b), t.keys = keys(b);
    t.q = token_view(ATTN_SLOT_Q, b, row, out_head * p.heads_q / p.heads_out);
    t.k = token_view(ATTN_SLOT_K, b, key_row, head * p.heads_k / p.heads_v);
    t.v = token_view(ATTN_SLOT_V, b, key_row, head);
    t.decay = p.decay == ATTN_DECAY_HEAD ? head_view(ATTN_SLOT_DECAY, head) : token_view(ATTN_SLOT_DECAY, b, row, head);
    t.beta = token_view(ATTN_SLOT_BETA, b, row, head);
    t.erase = token_view(ATTN_SLOT_ERASE, b, row, head);
    t.write = token_view(ATTN_SLOT_WRITE, b, row, head);
    t.dplr_b = token_view(ATTN_SLOT_DPLR_B, b, row, head);
    t.dplr_c = token_view(ATTN_SLOT_DPLR_C, b, row, head);
    t.bonus = head_view(ATTN_SLOT_BONUS, head);
    t.a_log = head_view(ATTN_SLOT_A_LOG, head);
    t.dt_bias = head_view(ATTN_SLOT_DT_BIAS, head);
    t.q_feature = head_view(ATTN_SLOT_FEATURE, out_head * p.heads_q / p.heads_out, 0);
    t.k_feature = head_view(ATTN_SLOT_FEATURE, head * p.heads_k / p.heads_v, 1);
    const int head_axis = p.packed_q ? 1 : 2;
    if (p.group > 1) {
        t.q_head_step = Bytes(*view(ATTN_SLOT_Q)).step[head_axis];
        if (const attn_tensor *feature = view(ATTN_SLOT_FEATURE)) t.q_feature_head_step = Bytes(*feature).step[0];
    }
    const TokenView out = token_view(ATTN_SLOT_OUT, b, row, out_head);
    t.out = const_cast<char *>(out.base);
    t.out_token_step = out.token_step, t.out_channel_step = out.channel_step, t.out_type = out.type;
    t.out_head_step = Bytes(*view(ATTN_SLOT_OUT)).step[head_axis];
    if (const attn_tensor *in = view(ATTN_SLOT_STATE_IN)) t.state_in = state_view(*in, state_of(b), head);
    t.key_sums = t.state_in;
    if (p.normaliser && t.key_sums.base) t.key_sums.base += p.dim_v * t.key_sums.column_step;
    if (const attn_tensor *states = view(ATTN_SLOT_STATE_OUT)) {
        if (p.state_keep == ATTN_STATE_FINAL) {
            t.state_out = state_view(*states, state_of(b), head);
        } else {
            // [B, T, Hv, ..], packed [T, Hv, ..].
            const int token = p.packed_q ? 0 : 1;
            t.token_state_step = step_of(*states, token) * dtype_bytes(states->dtype);
            t.token_states = state_view(*states, p.packed_q ? 0 : b, head);
            if (t.token_states.base) t.token_states.base += row * t.token_state_step;
        }
    }
    t.columns = p.dim_v;
    return t;
}

} // namespace attn::cpu

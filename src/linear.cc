#include "linear.h"

#include "abi.h"
#include "descriptor_parts.h"
#include "linear_tensors.h"
#include "names.h"
#include "option_checks.h"

#include <cmath>
#include <limits>

namespace attn {
namespace {

constexpr uint64_t kKnownFlags =
    ATTN_LINEAR_BIDIRECTIONAL | ATTN_LINEAR_QK_L2NORM | ATTN_LINEAR_NORMALISER | ATTN_LINEAR_RECURRENT;

/// Most features of all queries of a token that read one state.
constexpr int64_t kLargestGroup = int64_t{1} << 31;

bool fits_float(double x)
{
    return std::abs(x) <= static_cast<double>(std::numeric_limits<float>::max());
}

attn_status read_enums(const attn_linear &d, LinearProblem *out)
{
    const struct {
        const char *field;
        int32_t value, last;
    } enums[] = {{"attn_linear.decay", d.decay, ATTN_DECAY_CHANNEL},
                 {"attn_linear.decay_form", d.decay_form, ATTN_DECAY_LOG_SIGMOID},
                 {"attn_linear.update", d.update, ATTN_UPDATE_DPLR},
                 {"attn_linear.read", d.read, ATTN_READ_BEFORE},
                 {"attn_linear.feature_map", d.feature_map, ATTN_FEATURE_HEDGEHOG},
                 {"attn_linear.state_layout", d.state_layout, ATTN_STATE_VK},
                 {"attn_linear.state_keep", d.state_keep, ATTN_STATE_PER_TOKEN}};
    for (const auto &entry : enums)
        if (const attn_status status = check_enum(entry.field, entry.value, entry.last)) return status;
    out->decay = d.decay, out->decay_form = d.decay_form, out->update = d.update, out->read = d.read;
    out->feature_map = d.feature_map, out->state_layout = d.state_layout, out->state_keep = d.state_keep;
    out->bidirectional = (d.flags & ATTN_LINEAR_BIDIRECTIONAL) != 0;
    out->l2norm = (d.flags & ATTN_LINEAR_QK_L2NORM) != 0;
    out->normaliser = (d.flags & ATTN_LINEAR_NORMALISER) != 0;
    out->recurrent = (d.flags & ATTN_LINEAR_RECURRENT) != 0;
    return ATTN_OK;
}

attn_status read_decay(const attn_linear &d, LinearProblem *out)
{
    const bool gated = d.decay == ATTN_DECAY_TOKEN || d.decay == ATTN_DECAY_CHANNEL;
    if (d.decay_form != ATTN_DECAY_LOG && !gated)
        return fail(ATTN_ERROR_INVALID,
                    "attn_linear.decay_form = %d: must be 0 unless the decay is per token or channel", d.decay_form);
    const double bound = d.decay_lower_bound;
    if (!std::isfinite(bound) || bound > 0 || !fits_float(bound))
        return fail(ATTN_ERROR_INVALID, "attn_linear.decay_lower_bound = %g: must be a float < 0, or 0 for none",
                    bound);
    if (d.decay == ATTN_DECAY_NONE)
        if (const attn_status status = check_unused("attn_linear.decay_lower_bound", bound, "there is a decay"))
            return status;
    if (d.decay_form == ATTN_DECAY_SIGMOID && bound == 0)
        return fail(ATTN_ERROR_INVALID,
                    "attn_linear.decay_lower_bound = 0: must be < 0, ATTN_DECAY_SIGMOID multiplies by it");
    const double scale = d.decay_scale;
    if (d.decay_form != ATTN_DECAY_LOG_SIGMOID)
        if (const attn_status status =
                check_unused("attn_linear.decay_scale", scale, "decay_form is ATTN_DECAY_LOG_SIGMOID"))
            return status;
    if (!std::isfinite(scale) || scale < 0 || !fits_float(scale))
        return fail(ATTN_ERROR_INVALID, "attn_linear.decay_scale = %g: must be a float > 0, or 0 for 1", scale);
    out->lower_bound = bound;
    out->decay_scale = scale != 0 ? scale : 1;
    return ATTN_OK;
}

/// Which options exclude each other.
attn_status check_modes(const attn_linear &d, const LinearProblem &p)
{
    if (p.read == ATTN_READ_BEFORE && p.update != ATTN_UPDATE_ADD)
        return fail(ATTN_ERROR_INVALID, "attn_linear.read = %d: must be 0 unless update is ATTN_UPDATE_ADD", p.read);
    if (p.normaliser && p.update != ATTN_UPDATE_ADD)
        return fail(ATTN_ERROR_INVALID,
                    "attn_linear.flags: ATTN_LINEAR_NORMALISER sums the weights of update ATTN_UPDATE_ADD only");
    if (!std::isfinite(d.normaliser_eps) || d.normaliser_eps < 0 || !fits_float(d.normaliser_eps))
        return fail(ATTN_ERROR_INVALID, "attn_linear.normaliser_eps = %g: must be a float >= 0", d.normaliser_eps);
    if (!p.normaliser)
        if (const attn_status status =
                check_unused("attn_linear.normaliser_eps", d.normaliser_eps, "flag ATTN_LINEAR_NORMALISER is set"))
            return status;
    if (const attn_status status = check_extent("attn_linear.chunk", d.chunk, 0, kLongestChunk)) return status;
    if (p.recurrent && d.chunk != 0)
        return fail(ATTN_ERROR_INVALID, "attn_linear.chunk = %lld: must be 0 where ATTN_LINEAR_RECURRENT is set",
                    static_cast<long long>(d.chunk));
    if (!p.bidirectional) return ATTN_OK;
    const struct {
        const char *field;
        int32_t value;
    } causal[] = {{"attn_linear.decay", p.decay},
                  {"attn_linear.update", p.update},
                  {"attn_linear.read", p.read},
                  {"attn_linear.state_keep", p.state_keep}};
    for (const auto &entry : causal)
        if (entry.value != 0)
            return fail(ATTN_ERROR_INVALID, "%s = %d: must be 0 where ATTN_LINEAR_BIDIRECTIONAL is set", entry.field,
                        entry.value);
    return ATTN_OK;
}

/// Fields of attn_problem against what a recurrence is.
attn_status check_problem(const attn_problem &given, const LinearProblem &p)
{
    if (p.flags & ATTN_V_ALIASES_K)
        return fail(ATTN_ERROR_INVALID, "attn_problem.flags: ATTN_V_ALIASES_K is for dense plans");
    if (p.page_size != 0)
        return fail(ATTN_ERROR_INVALID, "attn_problem.page_size = %lld: must be 0, a linear plan has states, not pages",
                    static_cast<long long>(p.page_size));
    if (p.heads_v % p.heads_k != 0)
        return fail(ATTN_ERROR_INVALID, "attn_problem.heads_k = %lld: must divide the %lld heads of V, one state each",
                    static_cast<long long>(p.heads_k), static_cast<long long>(p.heads_v));
    if (!p.bidirectional && p.max_kv != p.max_q)
        return fail(ATTN_ERROR_INVALID,
                    "attn_problem.max_kv = %lld: must be 0 or max_q = %lld, each query comes with its key",
                    static_cast<long long>(p.max_kv), static_cast<long long>(p.max_q));
    const struct {
        const char *field;
        int64_t value;
        bool packed;
        const char *slot;
    } totals[] = {{"attn_problem.total_q", given.total_q, p.packed_q, "CU_SEQLENS_Q"},
                  {"attn_problem.total_kv", given.total_kv, p.packed_kv, "CU_SEQLENS_KV"}};
    for (const auto &total : totals)
        if (total.value != 0 && !total.packed)
            return fail(ATTN_ERROR_INVALID, "%s = %lld: must be 0 where slot %s is not bound", total.field,
                        static_cast<long long>(total.value), total.slot);
    if (!fits_float(p.scale))
        return fail(ATTN_ERROR_INVALID, "attn_problem.scale = %g: too large for a float", p.scale);
    return ATTN_OK;
}

/// Rows of a state.
attn_status count_features(LinearProblem *p)
{
    const int64_t d = p->dim_qk;
    p->dim_k = p->feature_map == ATTN_FEATURE_HEDGEHOG  ? 2 * d
               : p->feature_map == ATTN_FEATURE_TAYLOR2 ? d * (d + 3) / 2 + 1
                                                        : d;
    if (p->dim_k > kLargestHeadDim)
        return fail(ATTN_ERROR_INVALID, "attn_problem.dim_qk = %lld: its %lld features must be at most %lld",
                    static_cast<long long>(d), static_cast<long long>(p->dim_k),
                    static_cast<long long>(kLargestHeadDim));
    return ATTN_OK;
}

/// Fields that mean nothing without a state.
attn_status check_state(const attn_linear &d, const Binds &binds, LinearProblem *p)
{
    const bool out = binds.has(ATTN_SLOT_STATE_OUT), any = out || binds.has(ATTN_SLOT_STATE_IN);
    if (d.state_keep != ATTN_STATE_FINAL && !out)
        return fail(ATTN_ERROR_INVALID, "attn_linear.state_keep = %d: must be 0 where slot STATE_OUT is not bound",
                    d.state_keep);
    if (d.state_layout != ATTN_STATE_KV && !any)
        return fail(ATTN_ERROR_INVALID,
                    "attn_linear.state_layout = %d: must be 0 where neither STATE_IN nor STATE_OUT is bound",
                    d.state_layout);
    if (d.state_dtype == 0) return ATTN_OK;
    if (!any)
        return fail(ATTN_ERROR_INVALID,
                    "attn_linear.state_dtype = %s: must be 0 where neither STATE_IN nor STATE_OUT is bound",
                    dtype_text(d.state_dtype));
    if (d.state_dtype != ATTN_FLOAT32 && d.state_dtype != ATTN_FLOAT16 && d.state_dtype != ATTN_BFLOAT16)
        return fail(ATTN_ERROR_INVALID, "attn_linear.state_dtype = %s: must be float32, float16 or bfloat16",
                    dtype_text(d.state_dtype));
    p->state_dtype = d.state_dtype;
    return ATTN_OK;
}

} // namespace

attn_status read_linear(const attn_linear *given, LinearProblem *out)
{
    attn_linear d;
    if (const attn_status status = read_struct(given, "attn_linear", &d)) return status;
    if (const attn_status status = no_extensions(d.next, "attn_linear")) return status;
    if (const attn_status status = check_flags("attn_linear.flags", d.flags, kKnownFlags)) return status;
    if (!d.problem) return fail(ATTN_ERROR_INVALID, "attn_linear.problem = NULL: required");
    out->kind = ATTN_KIND_LINEAR;
    if (const attn_status status = read_problem(d.problem, out)) return status;
    if (const attn_status status = read_enums(d, out)) return status;
    if (const attn_status status = read_decay(d, out)) return status;
    if (const attn_status status = check_modes(d, *out)) return status;
    out->chunk = d.chunk;
    out->normaliser_eps = d.normaliser_eps;
    if (d.rope) {
        if (const attn_status status = check_rope(d.rope, out->dim_qk)) return status;
        out->unserved.push_back("attn_linear.rope");
    }
    if (const attn_status status = count_features(out)) return status;
    out->group = out->heads_out / out->heads_v;
    // Queries of a chunk are kept for all heads that read a state.
    if (out->group > kLargestGroup / out->dim_k)
        return fail(ATTN_ERROR_INVALID,
                    "attn_problem.heads_q = %lld: heads that read one state, times its %lld rows, must be at most %lld",
                    static_cast<long long>(out->heads_q), static_cast<long long>(out->dim_k),
                    static_cast<long long>(kLargestGroup));
    out->state_columns = out->dim_v + (out->normaliser ? 1 : 0);
    Binds binds;
    if (const attn_status status = binds.read(*d.problem)) return status;
    out->packed_q = binds.has(ATTN_SLOT_CU_SEQLENS_Q);
    out->packed_kv = out->bidirectional && binds.has(ATTN_SLOT_CU_SEQLENS_KV);
    out->storage = out->packed_kv || (out->packed_q && !out->bidirectional) ? Storage::packed : Storage::batched;
    attn_problem problem;
    if (const attn_status status = read_struct(d.problem, "attn_problem", &problem)) return status;
    if (const attn_status status = check_problem(problem, *out)) return status;
    if (const attn_status status = check_state(d, binds, out)) return status;
    return list_linear_tensors(&binds, out);
}

} // namespace attn

#include "descriptor_parts.h"

#include "abi.h"
#include "names.h"

#include <cmath>
#include <cstdio>

namespace attn {
namespace {

constexpr size_t kLargestBindCount = 256;
constexpr uint32_t kBroadcastFlags =
    ATTN_BIND_BROADCAST_AXIS0 | ATTN_BIND_BROADCAST_AXIS1 | ATTN_BIND_BROADCAST_AXIS2 | ATTN_BIND_BROADCAST_AXIS3;
constexpr uint32_t kKnownBindFlags = kBroadcastFlags | ATTN_BIND_ALIGNED | ATTN_BIND_INNER_CONTIGUOUS |
                                     ATTN_BIND_ABSENT | ATTN_BIND_ACCUMULATE | ATTN_BIND_HOST;

attn_status check_dtype(const char *field, attn_dtype dtype)
{
    if (dtype_name(dtype)) return ATTN_OK;
    return fail(ATTN_ERROR_INVALID, "%s = 0x%06x: %s", field, dtype,
                dtype == 0 ? "required" : "not a value of attn_dtype");
}

} // namespace

attn_status check_extent(const char *field, int64_t value, int64_t least, int64_t most)
{
    if (value >= least && value <= most) return ATTN_OK;
    return fail(ATTN_ERROR_INVALID, "%s = %lld: must be %lld .. %lld", field, static_cast<long long>(value),
                static_cast<long long>(least), static_cast<long long>(most));
}

attn_status check_flags(const char *field, uint64_t value, uint64_t known)
{
    if ((value & ~known) == 0) return ATTN_OK;
    return fail(ATTN_ERROR_INVALID, "%s = 0x%llx: unknown bits 0x%llx", field, static_cast<unsigned long long>(value),
                static_cast<unsigned long long>(value & ~known));
}

attn_status check_enum(const char *field, int32_t value, int32_t last)
{
    if (value >= 0 && value <= last) return ATTN_OK;
    return fail(ATTN_ERROR_INVALID, "%s = %d: unknown value, must be 0 .. %d", field, value, last);
}

attn_status check_unused(const char *field, double value, const char *mode)
{
    if (value == 0) return ATTN_OK;
    return fail(ATTN_ERROR_INVALID, "%s = %g: must be 0 unless %s", field, value, mode);
}

attn_status read_problem(const attn_problem *given, Problem *out)
{
    attn_problem p;
    if (const attn_status status = read_struct(given, "attn_problem", &p)) return status;
    if (const attn_status status = no_extensions(p.next, "attn_problem")) return status;
    if (const attn_status status = check_flags("attn_problem.flags", p.flags,
                                               ATTN_ALLOW_NONDETERMINISTIC | ATTN_BATCH_INVARIANT |
                                                   ATTN_STRICT_NONFINITE | ATTN_CHECKED | ATTN_V_ALIASES_K))
        return status;
    if (const attn_status status = check_enum("attn_problem.direction", p.direction, ATTN_JVP)) return status;
    if (const attn_status status = check_enum("attn_problem.precision", p.precision, ATTN_PRECISION_TF32))
        return status;

    out->flags = p.flags;
    out->direction = p.direction;
    out->precision = p.precision;
    out->q_dtype = p.q_dtype;
    out->k_dtype = p.k_dtype ? p.k_dtype : p.q_dtype;
    out->v_dtype = p.v_dtype ? p.v_dtype : out->k_dtype;
    out->out_dtype = p.out_dtype ? p.out_dtype : p.q_dtype;
    if (const attn_status status = check_dtype("attn_problem.q_dtype", out->q_dtype)) return status;
    if (const attn_status status = check_dtype("attn_problem.k_dtype", out->k_dtype)) return status;
    if (const attn_status status = check_dtype("attn_problem.v_dtype", out->v_dtype)) return status;
    if (const attn_status status = check_dtype("attn_problem.out_dtype", out->out_dtype)) return status;

    const struct {
        const char *field;
        int64_t value, fallback;
        int64_t *result;
        int64_t most;
    } sizes[] = {
        {"attn_problem.batch", p.batch, 1, &out->batch, kLargestExtent},
        {"attn_problem.heads_q", p.heads_q, out->kind == ATTN_KIND_APPEND ? p.heads_k : 0, &out->heads_q,
         kLargestExtent},
        {"attn_problem.heads_k", p.heads_k, p.heads_q, &out->heads_k, kLargestExtent},
        {"attn_problem.heads_v", p.heads_v, p.heads_k ? p.heads_k : p.heads_q, &out->heads_v, kLargestExtent},
        {"attn_problem.dim_qk", p.dim_qk, out->kind == ATTN_KIND_MERGE ? p.dim_v : 0, &out->dim_qk, kLargestHeadDim},
        {"attn_problem.dim_v", p.dim_v, p.dim_qk, &out->dim_v, kLargestHeadDim},
        {"attn_problem.max_q", p.max_q, 0, &out->max_q, kLargestExtent},
        {"attn_problem.max_kv", p.max_kv, p.max_q, &out->max_kv, kLargestExtent},
    };
    for (const auto &size : sizes) {
        *size.result = size.value ? size.value : size.fallback;
        if (const attn_status status = check_extent(size.field, *size.result, 1, size.most)) return status;
    }
    if (const attn_status status = check_extent("attn_problem.page_size", p.page_size, 0)) return status;
    out->page_size = p.page_size;

    const struct {
        const char *field;
        int64_t value, longest;
        int64_t *result;
    } totals[] = {
        {"attn_problem.total_q", p.total_q, out->max_q, &out->total_q},
        {"attn_problem.total_kv", p.total_kv, out->max_kv, &out->total_kv},
    };
    for (const auto &total : totals) {
        int64_t product = 0;
        if (__builtin_mul_overflow(out->batch, total.longest, &product) || product > kLargestExtent)
            product = total.value ? kLargestExtent : kLargestExtent + 1;
        *total.result = total.value ? total.value : product;
        if (const attn_status status = check_extent(total.field, *total.result, 1)) return status;
    }

    out->heads_out = std::max({out->heads_q, out->heads_k, out->heads_v});
    const struct {
        const char *field;
        int64_t value;
    } heads[] = {{"attn_problem.heads_q", out->heads_q},
                 {"attn_problem.heads_k", out->heads_k},
                 {"attn_problem.heads_v", out->heads_v}};
    for (const auto &head : heads)
        if (out->heads_out % head.value != 0)
            return fail(ATTN_ERROR_INVALID, "%s = %lld: must divide the %lld heads of OUT", head.field,
                        static_cast<long long>(head.value), static_cast<long long>(out->heads_out));

    if (!std::isfinite(p.scale)) return fail(ATTN_ERROR_INVALID, "attn_problem.scale = %g: must be finite", p.scale);
    out->scale = p.scale != 0 ? p.scale : 1.0 / std::sqrt(static_cast<double>(out->dim_qk));

    if (out->direction != ATTN_FORWARD)
        out->unserved.push_back(std::string("attn_problem.direction = ") + direction_name(out->direction));
    if (out->flags & ATTN_V_ALIASES_K) {
        if (out->heads_v != out->heads_k)
            return fail(ATTN_ERROR_INVALID, "attn_problem.heads_v = %lld: must be heads_k where V aliases K",
                        static_cast<long long>(out->heads_v));
        if (out->dim_v > out->dim_qk)
            return fail(ATTN_ERROR_INVALID, "attn_problem.dim_v = %lld: must be at most dim_qk where V aliases K",
                        static_cast<long long>(out->dim_v));
        if (out->v_dtype != out->k_dtype)
            return fail(ATTN_ERROR_INVALID, "attn_problem.v_dtype = %s: must be that of K where V aliases K",
                        dtype_text(out->v_dtype));
    }
    return ATTN_OK;
}

attn_status Binds::read(const attn_problem &problem)
{
    if (problem.bind_count == 0) return ATTN_OK;
    if (!problem.binds)
        return fail(ATTN_ERROR_INVALID, "attn_problem.binds = NULL: must point to bind_count = %zu binds",
                    problem.bind_count);
    if (problem.bind_count > kLargestBindCount)
        return fail(ATTN_ERROR_INVALID, "attn_problem.bind_count = %zu: must be at most %zu", problem.bind_count,
                    kLargestBindCount);
    binds_.assign(problem.binds, problem.binds + problem.bind_count);
    taken_.assign(binds_.size(), false);
    for (size_t i = 0; i < binds_.size(); ++i)
        if (const attn_status status = check(i)) return status;
    return ATTN_OK;
}

attn_status Binds::check(size_t i) const
{
    const attn_bind &bind = binds_[i];
    if (!slot_exists(bind.slot))
        return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].slot = 0x%x: not a value of attn_slot", i,
                    static_cast<unsigned>(bind.slot));
    if (bind.flags & ~kKnownBindFlags)
        return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].flags = 0x%x: unknown bits 0x%x", i, bind.flags,
                    bind.flags & ~kKnownBindFlags);
    if (bind.dtype != 0 && !dtype_name(bind.dtype))
        return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].dtype = 0x%06x for slot %s: not a value of attn_dtype",
                    i, bind.dtype, slot_name(bind.slot));
    for (const uint32_t reserved : bind.reserved)
        if (reserved != 0)
            return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].reserved = %u: must be 0", i, reserved);
    const bool quantised = (bind.slot & (ATTN_SLOT_SCALE | ATTN_SLOT_ZERO_POINT)) != 0;
    for (const int32_t block : bind.block) {
        if (block < 0) return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].block = %d: must be >= 0", i, block);
        if (block != 0 && !quantised)
            return fail(ATTN_ERROR_INVALID,
                        "attn_problem.binds[%zu].block = %d: must be 0, %s is neither SCALE nor ZERO_POINT", i, block,
                        slot_name(bind.slot));
    }
    for (size_t j = 0; j < i; ++j)
        if (binds_[j].slot == bind.slot && binds_[j].index == bind.index)
            return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu]: slot %s index %u is bound twice", i,
                        slot_name(bind.slot), bind.index);
    return ATTN_OK;
}

attn_status apply_bind(const attn_bind &bind, DtypeChoice choice, bool broadcast, TensorSpec *spec)
{
    const bool integer = choice == DtypeChoice::integer && bind.dtype == ATTN_INT64;
    const bool real = choice == DtypeChoice::real &&
                      (bind.dtype == ATTN_FLOAT32 || bind.dtype == ATTN_FLOAT16 || bind.dtype == ATTN_BFLOAT16);
    if (bind.dtype != 0 && bind.dtype != spec->dtype && !integer && !real) {
        char asked[32];
        snprintf(asked, sizeof asked, "%s", dtype_text(bind.dtype));
        return fail(ATTN_ERROR_INVALID, "attn_bind.dtype = %s for slot %s: must be %s%s", asked, slot_name(spec->slot),
                    choice == DtypeChoice::real ? "float32, float16 or bfloat16" : dtype_text(spec->dtype),
                    choice == DtypeChoice::integer ? " or int64" : "");
    }
    if (bind.dtype != 0) spec->dtype = bind.dtype;
    const uint32_t axes = bind.flags & kBroadcastFlags;
    if (axes && (!broadcast || axes >> spec->ndim))
        return fail(ATTN_ERROR_INVALID, "attn_bind.flags = 0x%x for slot %s: %s", bind.flags, slot_name(spec->slot),
                    broadcast ? "an axis to broadcast is beyond its rank" : "its axes cannot be broadcast");
    for (int axis = 0; axis < spec->ndim; ++axis)
        if (axes >> axis & 1) spec->axes[axis] = Axis::fixed, spec->bounds[axis] = 1;
    if (bind.flags & ATTN_BIND_ABSENT)
        return fail(ATTN_ERROR_INVALID, "attn_bind.flags = 0x%x for slot %s: it cannot be ABSENT, the plan needs it",
                    bind.flags, slot_name(spec->slot));
    if (bind.flags & ATTN_BIND_ACCUMULATE)
        return fail(spec->output ? ATTN_ERROR_UNSUPPORTED : ATTN_ERROR_INVALID,
                    "attn_bind.flags = 0x%x for slot %s: ACCUMULATE is for gradients", bind.flags,
                    slot_name(spec->slot));
    spec->flags = bind.flags & (kBroadcastFlags | ATTN_BIND_ALIGNED | ATTN_BIND_INNER_CONTIGUOUS | ATTN_BIND_HOST);
    return ATTN_OK;
}

attn_status add_status(Binds *binds, Problem *problem)
{
    if (problem->device == ATTN_DEVICE_CPU) return ATTN_OK;
    const attn_bind *bind = binds->take(ATTN_SLOT_STATUS);
    if (!(problem->flags & ATTN_CHECKED)) {
        if (!bind) return ATTN_OK;
        return fail(ATTN_ERROR_INVALID, "attn_problem.binds: slot STATUS: a plan takes it only where "
                                        "attn_problem.flags has ATTN_CHECKED");
    }
    TensorSpec spec;
    spec.slot = ATTN_SLOT_STATUS, spec.dtype = ATTN_INT32, spec.output = true;
    spec.ndim = 1, spec.axes[0] = Axis::fixed, spec.bounds[0] = 4;
    if (bind)
        if (const attn_status status = apply_bind(*bind, DtypeChoice::fixed, false, &spec)) return status;
    problem->tensors.push_back(spec);
    return ATTN_OK;
}

int Problem::find(attn_slot slot, uint32_t index) const noexcept
{
    for (size_t i = 0; i < tensors.size(); ++i)
        if (tensors[i].slot == slot && tensors[i].index == index) return static_cast<int>(i);
    return -1;
}

} // namespace attn

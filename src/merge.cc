#include "merge.h"

#include "abi.h"
#include "arguments.h"
#include "descriptor_parts.h"
#include "names.h"

#include <initializer_list>
#include <string>

namespace attn {
namespace {

/// Tensors of a merge besides its parts.
constexpr size_t kMostOtherTensors = 8;
static_assert(2 * kMostParts + kMostOtherTensors <= kMostTensors);

/// Sizes that attn_problem cannot give a merge: checked before it is read, so that the message names the right field.
attn_status check_dim(const attn_problem *given)
{
    attn_problem p;
    if (const attn_status status = read_struct(given, "attn_problem", &p)) return status;
    if (p.dim_v != 0 || p.dim_qk != 0) return ATTN_OK;
    return check_extent("attn_problem.dim_v", 0, 1, kLargestHeadDim);
}

/// Fields of attn_problem that mean nothing for a merge: set they are a mistake, never ignored.
attn_status check_unused_fields(const attn_problem *given, const MergeProblem &problem)
{
    attn_problem p;
    if (const attn_status status = read_struct(given, "attn_problem", &p)) return status;
    const struct {
        const char *field;
        attn_dtype value;
        const char *name;
    } dtypes[] = {{"attn_problem.k_dtype", p.k_dtype, "K"}, {"attn_problem.v_dtype", p.v_dtype, "V"}};
    for (const auto &dtype : dtypes)
        if (dtype.value != 0)
            return fail(ATTN_ERROR_INVALID, "%s = %s: must be 0, a merge has no %s", dtype.field,
                        dtype_text(dtype.value), dtype.name);
    const struct {
        const char *field;
        int64_t value;
        const char *whose;
        int64_t same;
    } equal[] = {{"attn_problem.heads_k", p.heads_k, "heads_q", problem.heads_q},
                 {"attn_problem.heads_v", p.heads_v, "heads_q", problem.heads_q},
                 {"attn_problem.dim_qk", p.dim_qk, "dim_v", problem.dim_v}};
    for (const auto &field : equal)
        if (field.value != 0 && field.value != field.same)
            return fail(ATTN_ERROR_INVALID, "%s = %lld: must be 0 or %s = %lld, a merge has neither K nor V",
                        field.field, static_cast<long long>(field.value), field.whose,
                        static_cast<long long>(field.same));
    const struct {
        const char *field;
        int64_t value;
    } zero[] = {{"attn_problem.max_kv", p.max_kv},
                {"attn_problem.total_kv", p.total_kv},
                {"attn_problem.page_size", p.page_size}};
    for (const auto &field : zero)
        if (field.value != 0)
            return fail(ATTN_ERROR_INVALID, "%s = %lld: must be 0, a merge has no keys", field.field,
                        static_cast<long long>(field.value));
    if (p.scale != 0)
        return fail(ATTN_ERROR_INVALID, "attn_problem.scale = %g: must be 0, a merge has no scores", p.scale);
    if (p.flags & ATTN_V_ALIASES_K)
        return fail(ATTN_ERROR_INVALID, "attn_problem.flags = 0x%llx: ATTN_V_ALIASES_K must be clear, a merge has no V",
                    static_cast<unsigned long long>(p.flags));
    return ATTN_OK;
}

/// Builds the list of tensors a merge takes.
class MergeTensors {
public:
    MergeTensors(Binds *binds, MergeProblem *problem) : binds_(*binds), p_(*problem) {}

    attn_status build()
    {
        p_.packed_q = binds_.has(ATTN_SLOT_CU_SEQLENS_Q);
        set_bounds();
        if (const attn_status status = add_parts()) return status;

        attn_status status = ATTN_OK;
        const auto add = [&](const TensorSpec &spec) {
            if (!status) status = add_bound(spec);
        };
        const auto is_bound = [&](attn_slot slot) { return binds_.has(slot); };
        add(token(ATTN_SLOT_OUT, p_.out_dtype, true, p_.dim_v));
        if (p_.weighed() && is_bound(ATTN_SLOT_LSE)) add(score(ATTN_SLOT_LSE, true));
        if (p_.packed_q) add(vector(ATTN_SLOT_CU_SEQLENS_Q, ATTN_INT32, Axis::batch_plus_1));
        if (is_bound(ATTN_SLOT_SEQLENS_Q)) add(vector(ATTN_SLOT_SEQLENS_Q, ATTN_INT32, Axis::batch));
        if (p_.weighed() && is_bound(ATTN_SLOT_SINK_LOGITS))
            add(vector(ATTN_SLOT_SINK_LOGITS, ATTN_FLOAT32, Axis::fixed));
        if (is_bound(ATTN_SLOT_GATE)) add(token(ATTN_SLOT_GATE, p_.q_dtype, false, p_.dim_v));
        if (is_bound(ATTN_SLOT_HEAD_WEIGHT)) add(token(ATTN_SLOT_HEAD_WEIGHT, ATTN_FLOAT32, false, 0));
        if (!status) status = add_status(&binds_, &p_);
        if (status) return status;
        binds_.for_each_left([&](size_t i, const attn_bind &bind) {
            if (!status) status = leftover(i, bind);
        });
        return status;
    }

private:
    void set_bounds()
    {
        for (int64_t &bound : p_.bounds) bound = kFree;
        const auto at = [&](Axis axis) -> int64_t & { return p_.bounds[static_cast<int>(axis)]; };
        at(Axis::batch) = p_.batch;
        at(Axis::batch_plus_1) = p_.batch + 1;
        at(Axis::query) = p_.max_q;
        at(Axis::total_q) = p_.total_q;
        at(Axis::key) = at(Axis::total_kv) = 0; // there are none
    }

    void push(TensorSpec *spec, Axis axis, int64_t bound) const
    {
        spec->axes[spec->ndim] = axis;
        spec->bounds[spec->ndim++] = bound;
    }
    void push(TensorSpec *spec, Axis axis) const { push(spec, axis, p_.bounds[static_cast<int>(axis)]); }

    /// `[B, Tq, Ho, channels]`, packed `[rows, Ho, channels]`; without the last axis where channels is 0.
    TensorSpec token(attn_slot slot, attn_dtype dtype, bool output, int64_t channels) const
    {
        TensorSpec spec;
        spec.slot = slot, spec.dtype = dtype, spec.output = output;
        if (p_.packed_q) {
            push(&spec, Axis::total_q);
        } else {
            push(&spec, Axis::batch);
            push(&spec, Axis::query);
        }
        push(&spec, Axis::fixed, p_.heads_out);
        if (channels) push(&spec, Axis::fixed, channels);
        return spec;
    }

    /// `[B, Ho, Tq]`, packed `[Ho, rows]`.
    TensorSpec score(attn_slot slot, bool output) const
    {
        TensorSpec spec;
        spec.slot = slot, spec.dtype = ATTN_FLOAT32, spec.output = output;
        if (!p_.packed_q) push(&spec, Axis::batch);
        push(&spec, Axis::fixed, p_.heads_out);
        push(&spec, p_.packed_q ? Axis::total_q : Axis::query);
        return spec;
    }

    /// One axis: of the batch, or of the heads where it is fixed.
    TensorSpec vector(attn_slot slot, attn_dtype dtype, Axis axis) const
    {
        TensorSpec spec;
        spec.slot = slot, spec.dtype = dtype;
        push(&spec, axis, axis == Axis::fixed ? p_.heads_out : p_.bounds[static_cast<int>(axis)]);
        return spec;
    }

    /// Applies the bind of a slot, if there is one.
    attn_status bind(TensorSpec *spec)
    {
        const attn_bind *given = binds_.take(spec->slot);
        if (!given) return ATTN_OK;
        const bool real = spec->slot == ATTN_SLOT_PARTIAL_OUT || spec->slot == ATTN_SLOT_GATE;
        const DtypeChoice choice = real                        ? DtypeChoice::real
                                   : spec->dtype == ATTN_INT32 ? DtypeChoice::integer
                                                               : DtypeChoice::fixed;
        return apply_bind(*given, choice, spec->slot == ATTN_SLOT_GATE, spec);
    }

    attn_status add_bound(TensorSpec spec)
    {
        if (const attn_status status = bind(&spec)) return status;
        p_.tensors.push_back(spec);
        return ATTN_OK;
    }

    /// The bind of index 0 stands for all parts.
    attn_status add_parts()
    {
        TensorSpec out = token(ATTN_SLOT_PARTIAL_OUT, ATTN_FLOAT32, false, p_.dim_v);
        TensorSpec lse = score(ATTN_SLOT_PARTIAL_LSE, false);
        if (const attn_status status = bind(&out)) return status;
        if (p_.weighed())
            if (const attn_status status = bind(&lse)) return status;
        p_.tensors.reserve((p_.weighed() ? 2 : 1) * p_.parts + kMostOtherTensors);
        for (size_t part = 0; part < p_.parts; ++part) {
            out.index = lse.index = static_cast<uint32_t>(part);
            p_.tensors.push_back(out);
            if (p_.weighed()) p_.tensors.push_back(lse);
        }
        return ATTN_OK;
    }

    /// A bind that none of the tensors above asked for: of what no kernel computes yet, or misplaced.
    attn_status leftover(size_t i, const attn_bind &bind)
    {
        const bool derived =
            (bind.slot & (ATTN_SLOT_GRAD | ATTN_SLOT_TANGENT | ATTN_SLOT_SCALE | ATTN_SLOT_ZERO_POINT)) != 0;
        if (derived || bind.slot == ATTN_SLOT_STATUS) {
            p_.unserved.push_back(std::string("slot ") + slot_name(bind.slot));
            return ATTN_OK;
        }
        const bool softmax_only =
            bind.slot == ATTN_SLOT_PARTIAL_LSE || bind.slot == ATTN_SLOT_LSE || bind.slot == ATTN_SLOT_SINK_LOGITS;
        if (softmax_only && !p_.weighed())
            return fail(ATTN_ERROR_INVALID,
                        "attn_problem.binds[%zu].slot = %s: a merge takes it only where attn_merge.activation is "
                        "ATTN_SOFTMAX",
                        i, slot_name(bind.slot));
        if (bind.index != 0 && (bind.slot == ATTN_SLOT_PARTIAL_OUT || bind.slot == ATTN_SLOT_PARTIAL_LSE))
            return fail(ATTN_ERROR_INVALID,
                        "attn_problem.binds[%zu].index = %u: slot %s is bound with index 0, for all parts", i,
                        bind.index, slot_name(bind.slot));
        if (bind.index != 0)
            return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].index = %u: slot %s has index 0 only", i,
                        bind.index, slot_name(bind.slot));
        return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].slot = %s: a merge does not take it", i,
                    slot_name(bind.slot));
    }

    Binds &binds_;
    MergeProblem &p_;
};

} // namespace

attn_status read_merge(const attn_merge *given, MergeProblem *out)
{
    attn_merge merge;
    if (const attn_status status = read_struct(given, "attn_merge", &merge)) return status;
    if (const attn_status status = no_extensions(merge.next, "attn_merge")) return status;
    if (!merge.problem) return fail(ATTN_ERROR_INVALID, "attn_merge.problem = NULL: required");
    out->kind = ATTN_KIND_MERGE;
    if (const attn_status status = check_dim(merge.problem)) return status;
    if (const attn_status status = read_problem(merge.problem, out)) return status;
    if (merge.parts < 1 || merge.parts > kMostParts)
        return fail(ATTN_ERROR_INVALID, "attn_merge.parts = %zu: must be >= 1 and <= %zu; merge more in stages",
                    merge.parts, kMostParts);
    if (const attn_status status = check_flags("attn_merge.flags", merge.flags, 0)) return status;
    if (const attn_status status = check_enum("attn_merge.activation", merge.activation, ATTN_RELU)) return status;
    if (const attn_status status = check_enum("attn_merge.gate", merge.gate, ATTN_GATE_SILU)) return status;
    if (const attn_status status = check_unused_fields(merge.problem, *out)) return status;
    out->max_kv = out->total_kv = 0;
    out->scale = 0;
    out->parts = merge.parts;
    out->activation = merge.activation;
    out->gate = merge.gate;

    Binds binds;
    if (const attn_status status = binds.read(*merge.problem)) return status;
    if (merge.gate != 0 && !binds.has(ATTN_SLOT_GATE))
        return fail(ATTN_ERROR_INVALID, "attn_merge.gate = %d: must be 0 where slot GATE is not bound", merge.gate);
    if (const attn_status status = MergeTensors(&binds, out).build()) return status;
    out->out = out->find(ATTN_SLOT_OUT);
    out->lse = out->find(ATTN_SLOT_LSE);
    out->cu_seqlens = out->find(ATTN_SLOT_CU_SEQLENS_Q);
    out->seqlens = out->find(ATTN_SLOT_SEQLENS_Q);
    out->sinks = out->find(ATTN_SLOT_SINK_LOGITS);
    out->gate_values = out->find(ATTN_SLOT_GATE);
    out->head_weights = out->find(ATTN_SLOT_HEAD_WEIGHT);
    if (merge.problem->total_q != 0 && !out->packed_q)
        return fail(ATTN_ERROR_INVALID, "attn_problem.total_q = %lld: must be 0 where slot CU_SEQLENS_Q is not bound",
                    static_cast<long long>(merge.problem->total_q));
    return ATTN_OK;
}

} // namespace attn

#include "sequence.h"

#include "abi.h"
#include "names.h"

namespace attn {
namespace {

/// Fields of attn_problem that mean nothing without keys: set they are a mistake, never ignored.
attn_status check_unused_fields(const attn_problem &p, const char *plan, const SequenceProblem &problem)
{
    const struct {
        const char *field;
        attn_dtype value;
        const char *name;
    } dtypes[] = {{"attn_problem.k_dtype", p.k_dtype, "K"}, {"attn_problem.v_dtype", p.v_dtype, "V"}};
    for (const auto &dtype : dtypes)
        if (dtype.value != 0)
            return fail(ATTN_ERROR_INVALID, "%s = %s: must be 0, %s has no %s", dtype.field, dtype_text(dtype.value),
                        plan, dtype.name);
    const struct {
        const char *field;
        int64_t value;
        const char *whose;
        int64_t same;
    } equal[] = {{"attn_problem.heads_k", p.heads_k, "heads_q", problem.heads_q},
                 {"attn_problem.heads_v", p.heads_v, "heads_q", problem.heads_q},
                 {"attn_problem.dim_v", p.dim_v, "dim_qk", problem.dim_qk}};
    for (const auto &field : equal)
        if (field.value != 0 && field.value != field.same)
            return fail(ATTN_ERROR_INVALID, "%s = %lld: must be 0 or %s = %lld, %s has neither K nor V", field.field,
                        static_cast<long long>(field.value), field.whose, static_cast<long long>(field.same), plan);
    const struct {
        const char *field;
        int64_t value;
    } zero[] = {{"attn_problem.max_kv", p.max_kv},
                {"attn_problem.total_kv", p.total_kv},
                {"attn_problem.page_size", p.page_size}};
    for (const auto &field : zero)
        if (field.value != 0)
            return fail(ATTN_ERROR_INVALID, "%s = %lld: must be 0, %s has no keys", field.field,
                        static_cast<long long>(field.value), plan);
    if (p.scale != 0)
        return fail(ATTN_ERROR_INVALID, "attn_problem.scale = %g: must be 0, %s has no scores", p.scale, plan);
    if (p.flags & ATTN_V_ALIASES_K)
        return fail(ATTN_ERROR_INVALID, "attn_problem.flags = 0x%llx: ATTN_V_ALIASES_K must be clear, %s has no V",
                    static_cast<unsigned long long>(p.flags), plan);
    return ATTN_OK;
}

} // namespace

attn_status read_sequence_problem(const attn_problem *given, const char *plan, Binds *binds, SequenceProblem *out)
{
    if (const attn_status status = read_problem(given, out)) return status;
    attn_problem p = {};
    if (const attn_status status = read_struct(given, "attn_problem", &p)) return status;
    if (const attn_status status = check_unused_fields(p, plan, *out)) return status;
    if (const attn_status status = binds->read(p)) return status;
    out->max_kv = out->total_kv = 0;
    out->scale = 0;
    out->packed_q = binds->has(ATTN_SLOT_CU_SEQLENS_Q);
    if (p.total_q != 0 && !out->packed_q)
        return fail(ATTN_ERROR_INVALID, "attn_problem.total_q = %lld: must be 0 where slot CU_SEQLENS_Q is not bound",
                    static_cast<long long>(p.total_q));
    return ATTN_OK;
}

attn_status read_state_dtype(const char *field, attn_dtype dtype, attn_dtype fallback, const Binds &binds,
                             SequenceProblem *out)
{
    out->state_dtype = dtype ? dtype : fallback;
    if (dtype == 0) return ATTN_OK;
    if (!binds.has(ATTN_SLOT_STATE_IN) && !binds.has(ATTN_SLOT_STATE_OUT))
        return fail(ATTN_ERROR_INVALID, "%s = %s: must be 0 where neither STATE_IN nor STATE_OUT is bound", field,
                    dtype_text(dtype));
    if (dtype != ATTN_FLOAT32 && dtype != ATTN_FLOAT16 && dtype != ATTN_BFLOAT16)
        return fail(ATTN_ERROR_INVALID, "%s = %s: must be float32, float16 or bfloat16", field, dtype_text(dtype));
    return ATTN_OK;
}

SequenceTensors::SequenceTensors(const char *plan, Binds *binds, SequenceProblem *problem)
    : plan_(plan), binds_(*binds), p_(*problem)
{
    for (int64_t &bound : p_.bounds) bound = kFree;
    const auto at = [&](Axis axis) -> int64_t & { return p_.bounds[static_cast<int>(axis)]; };
    at(Axis::batch) = p_.batch;
    at(Axis::batch_plus_1) = p_.batch + 1;
    at(Axis::query) = p_.max_q;
    at(Axis::total_q) = p_.total_q;
    at(Axis::key) = at(Axis::total_kv) = 0; // there are none
}

void SequenceTensors::add_token(attn_slot slot, attn_dtype dtype)
{
    if (p_.packed_q)
        add(slot, dtype, {Axis::total_q}, {p_.heads_q, p_.dim_qk});
    else
        add(slot, dtype, {Axis::batch, Axis::query}, {p_.heads_q, p_.dim_qk});
}

void SequenceTensors::add_channel(attn_slot slot, attn_dtype dtype, std::initializer_list<int64_t> further)
{
    TensorSpec spec;
    spec.slot = slot, spec.dtype = dtype;
    for (const int64_t extent : {p_.heads_q, p_.dim_qk}) spec.bounds[spec.ndim++] = extent;
    for (const int64_t extent : further) spec.bounds[spec.ndim++] = extent;
    push_spec(&spec);
}

void SequenceTensors::add_states(int64_t rows)
{
    // A pool of states has any size; without it there is a state for each sequence.
    const bool in = has(ATTN_SLOT_STATE_IN), out = has(ATTN_SLOT_STATE_OUT), pool = has(ATTN_SLOT_STATE_INDEX);
    const Axis states = pool ? Axis::states : Axis::batch;
    for (const attn_slot slot : {ATTN_SLOT_STATE_IN, ATTN_SLOT_STATE_OUT}) {
        if (!has(slot)) continue;
        if (rows)
            add(slot, p_.state_dtype, {states}, {rows, p_.heads_q, p_.dim_qk});
        else
            add(slot, p_.state_dtype, {states}, {p_.heads_q, p_.dim_qk});
    }
    if (pool && (in || out)) add(ATTN_SLOT_STATE_INDEX, ATTN_INT32, {Axis::batch}, {});
}

void SequenceTensors::add_lengths()
{
    if (p_.packed_q) add(ATTN_SLOT_CU_SEQLENS_Q, ATTN_INT32, {Axis::batch_plus_1}, {});
    if (has(ATTN_SLOT_SEQLENS_Q)) add(ATTN_SLOT_SEQLENS_Q, ATTN_INT32, {Axis::batch}, {});
}

void SequenceTensors::add(attn_slot slot, attn_dtype dtype, std::initializer_list<Axis> axes,
                          std::initializer_list<int64_t> fixed)
{
    TensorSpec spec;
    spec.slot = slot, spec.dtype = dtype;
    for (const Axis axis : axes) {
        spec.axes[spec.ndim] = axis;
        spec.bounds[spec.ndim++] = p_.bounds[static_cast<int>(axis)];
    }
    for (const int64_t extent : fixed) spec.bounds[spec.ndim++] = extent;
    push_spec(&spec);
}

void SequenceTensors::push_spec(TensorSpec *spec)
{
    if (status_) return;
    const bool state = spec->slot == ATTN_SLOT_STATE_IN || spec->slot == ATTN_SLOT_STATE_OUT;
    const bool own = spec->slot == ATTN_SLOT_X || spec->slot == ATTN_SLOT_OUT || state; // a dtype of the descriptor
    spec->output = spec->slot == ATTN_SLOT_OUT || spec->slot == ATTN_SLOT_STATE_OUT;
    if (const attn_bind *bind = binds_.take(spec->slot)) {
        const DtypeChoice choice = spec->dtype == ATTN_INT32 ? DtypeChoice::integer
                                   : own                     ? DtypeChoice::fixed
                                                             : DtypeChoice::real;
        status_ = apply_bind(*bind, choice, choice == DtypeChoice::real, spec);
    }
    if (!status_) p_.tensors.push_back(*spec);
}

attn_status SequenceTensors::finish(std::initializer_list<Rule> rules)
{
    binds_.for_each_left([&](size_t i, const attn_bind &bind) {
        if (!status_) status_ = leftover(i, bind, rules);
    });
    return status_;
}

/// A bind that none of the tensors above asked for: known but not computed, or misplaced.
attn_status SequenceTensors::leftover(size_t i, const attn_bind &bind, std::initializer_list<Rule> rules)
{
    const bool derived =
        (bind.slot & (ATTN_SLOT_GRAD | ATTN_SLOT_TANGENT | ATTN_SLOT_SCALE | ATTN_SLOT_ZERO_POINT)) != 0;
    if (derived || bind.slot == ATTN_SLOT_STATUS) {
        p_.unserved.push_back(std::string("slot ") + slot_name(bind.slot));
        return ATTN_OK;
    }
    if (bind.index != 0)
        return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].index = %u: slot %s has index 0 only", i, bind.index,
                    slot_name(bind.slot));
    for (const Rule &rule : rules)
        if (rule.slot == bind.slot)
            return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].slot = %s: %s takes it only %s", i,
                        slot_name(bind.slot), plan_, rule.rule);
    return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].slot = %s: %s does not take it", i, slot_name(bind.slot),
                plan_);
}

} // namespace attn

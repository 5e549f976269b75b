#include "scan.h"

#include "abi.h"

namespace attn {

attn_status read_scan(const attn_scan *given, ScanProblem *out)
{
    attn_scan d;
    if (const attn_status status = read_struct(given, "attn_scan", &d)) return status;
    if (const attn_status status = no_extensions(d.next, "attn_scan")) return status;
    if (const attn_status status = check_flags("attn_scan.flags", d.flags, ATTN_SCAN_LERP)) return status;
    if (d.reserved != 0) return fail(ATTN_ERROR_INVALID, "attn_scan.reserved = %zu: must be 0", d.reserved);
    if (!d.problem) return fail(ATTN_ERROR_INVALID, "attn_scan.problem = NULL: required");
    constexpr const char *kPlan = "a scan";
    out->kind = ATTN_KIND_SCAN;
    Binds binds;
    if (const attn_status status = read_sequence_problem(d.problem, kPlan, &binds, out)) return status;
    if (const attn_status status = check_enum("attn_scan.form", d.form, ATTN_SCAN_FACTOR)) return status;
    if (const attn_status status = read_state_dtype("attn_scan.state_dtype", d.state_dtype, ATTN_FLOAT32, binds, out))
        return status;
    out->form = d.form;
    out->lerp = (d.flags & ATTN_SCAN_LERP) != 0;

    SequenceTensors tensors(kPlan, &binds, out);
    tensors.add_token(ATTN_SLOT_X, out->q_dtype);
    tensors.add_token(ATTN_SLOT_DECAY, ATTN_FLOAT32);
    if (!out->lerp && tensors.has(ATTN_SLOT_WRITE)) tensors.add_token(ATTN_SLOT_WRITE, ATTN_FLOAT32);
    tensors.add_token(ATTN_SLOT_OUT, out->out_dtype);
    tensors.add_states(0);
    tensors.add_lengths();
    return tensors.finish({{ATTN_SLOT_WRITE, "without ATTN_SCAN_LERP, which weighs X by itself"},
                           {ATTN_SLOT_STATE_INDEX, "where a pool of states, STATE_IN or STATE_OUT, is bound"}});
}

} // namespace attn

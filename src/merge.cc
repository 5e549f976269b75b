#include "merge.h"

#include "abi.h"
#include "descriptor_parts.h"

namespace attn {

attn_status read_merge(const attn_merge *given, MergeProblem *out)
{
    attn_merge merge;
    if (const attn_status status = read_struct(given, "attn_merge", &merge)) return status;
    if (const attn_status status = no_extensions(merge.next, "attn_merge")) return status;
    if (!merge.problem) return fail(ATTN_ERROR_INVALID, "attn_merge.problem = NULL: required");
    out->kind = ATTN_KIND_MERGE;
    if (const attn_status status = read_problem(merge.problem, out)) return status;
    if (merge.parts == 0) return fail(ATTN_ERROR_INVALID, "attn_merge.parts = 0: must be >= 1");
    if (const attn_status status = check_flags("attn_merge.flags", merge.flags, 0)) return status;
    if (const attn_status status = check_enum("attn_merge.activation", merge.activation, ATTN_RELU)) return status;
    if (const attn_status status = check_enum("attn_merge.gate", merge.gate, ATTN_GATE_SILU)) return status;
    return ATTN_OK;
}

} // namespace attn

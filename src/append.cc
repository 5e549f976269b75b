#include "append.h"

#include "abi.h"
#include "descriptor_parts.h"

namespace attn {

attn_status read_append(const attn_append *given, AppendProblem *out)
{
    attn_append append;
    if (const attn_status status = read_struct(given, "attn_append", &append)) return status;
    if (const attn_status status = no_extensions(append.next, "attn_append")) return status;
    if (!append.problem) return fail(ATTN_ERROR_INVALID, "attn_append.problem = NULL: required");
    out->kind = ATTN_KIND_APPEND;
    if (const attn_status status = read_problem(append.problem, out)) return status;
    if (const attn_status status = check_flags("attn_append.flags", append.flags, 0)) return status;
    if (const attn_status status = check_extent("attn_append.ring_rows", append.ring_rows, 0)) return status;
    if (const attn_status status = check_extent("attn_append.sink_tokens", append.sink_tokens, 0)) return status;
    return ATTN_OK;
}

} // namespace attn

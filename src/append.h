// Append of new rows to a cache: the problem that attn_append describes.
#ifndef ATTN_SRC_APPEND_H
#define ATTN_SRC_APPEND_H

#include "problem.h"

namespace attn {

/// Append of new rows to a cache, normalised.
struct AppendProblem final : Problem {};

/// Validates a caller's descriptor and resolves it. Everything it points to is read during the call only.
[[nodiscard]] attn_status read_append(const attn_append *given, AppendProblem *out);

} // namespace attn

#endif

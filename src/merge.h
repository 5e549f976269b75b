// Merge of partial results: the problem that attn_merge describes.
#ifndef ATTN_SRC_MERGE_H
#define ATTN_SRC_MERGE_H

#include "problem.h"

namespace attn {

/// Merge of partial results, normalised.
struct MergeProblem final : Problem {};

/// Validates a caller's descriptor and resolves it. Everything it points to is read during the call only.
[[nodiscard]] attn_status read_merge(const attn_merge *given, MergeProblem *out);

} // namespace attn

#endif

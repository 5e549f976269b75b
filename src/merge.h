// Merge of partial results: the problem that attn_merge describes.
#ifndef ATTN_SRC_MERGE_H
#define ATTN_SRC_MERGE_H

#include "problem.h"

#include <cstddef>

namespace attn {

/// Most parts of one merge. A merge of merges has no limit.
constexpr size_t kMostParts = 1024;

/// Merge of partial results, normalised. Its first tensors are the parts in order: for each PARTIAL_OUT, followed by
/// PARTIAL_LSE where the parts are weighed.
struct MergeProblem final : Problem {
    size_t parts = 0;
    attn_activation activation = ATTN_SOFTMAX;
    attn_gate gate = ATTN_GATE_SIGMOID; ///< Where GATE is bound.
    /// Positions in `tensors` of those that are no parts; -1: not taken.
    int64_t out = -1, lse = -1, cu_seqlens = -1, seqlens = -1, sinks = -1, gate_values = -1, head_weights = -1;

    /// Whether LSE weighs the parts; else they add.
    bool weighed() const noexcept { return activation == ATTN_SOFTMAX; }
    /// Positions in `tensors`.
    size_t partial_out(size_t part) const noexcept { return weighed() ? 2 * part : part; }
    size_t partial_lse(size_t part) const noexcept { return 2 * part + 1; }
};

/// Validates a caller's descriptor and resolves it. Everything it points to is read during the call only.
[[nodiscard]] attn_status read_merge(const attn_merge *given, MergeProblem *out);

} // namespace attn

#endif

// Dense attention: the problem that attn_dense describes.
#ifndef ATTN_SRC_DENSE_H
#define ATTN_SRC_DENSE_H

#include "problem.h"

namespace attn {

/// Visibility of keys in the terms of one diagonal. A key is visible if it is within the length, on or before the
/// diagonal where causal, and in the window or among the sink tokens.
struct DenseMask {
    bool causal = false;
    bool has_left = false;
    bool has_right = false;
    attn_align align = ATTN_ALIGN_NONE; ///< Where the diagonal lies, if anything needs it.
    int64_t left = 0;
    int64_t right = 0;
    int64_t sink_tokens = 0;
};

/// Dense attention, normalised.
struct DenseProblem final : Problem {
    int64_t group = 0;  ///< Consecutive OUT heads that share both their K head and their V head.
    double softcap = 0; ///< 0: none.
    DenseMask mask;
};

/// Validates a caller's descriptor and resolves it. Everything it points to is read during the call only.
[[nodiscard]] attn_status read_dense(const attn_dense *given, DenseProblem *out);

} // namespace attn

#endif

// A tensor by token and channel: what kernels that walk a sequence read.
#ifndef ATTN_BACKENDS_CPU_TOKEN_VIEW_H
#define ATTN_BACKENDS_CPU_TOKEN_VIEW_H

#include "backends/cpu/elements.h"

#include <stdint.h>

namespace attn::cpu {

/// A tensor by token and channel, of one sequence and head.
struct TokenView {
    const char *base;     ///< NULL: the plan does not have it.
    int64_t token_step;   ///< Bytes; 0 where it is broadcast.
    int64_t channel_step; ///< Elements; 0 where it is broadcast.
    Element type;
};

/// Channel 0 of a token. (Internal linkage: kernels must not share functions, see simd.h.)
static inline const char *token_address(const TokenView &view, int64_t token)
{
    return view.base + token * view.token_step;
}

} // namespace attn::cpu

#endif

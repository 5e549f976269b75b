// Views of tensors as all kernels get them. Read by host compilers and by those of kernels: fixed-width types only,
// addresses as pointers of the device, steps in bytes.
#ifndef ATTN_BACKENDS_GPU_PARAMS_H
#define ATTN_BACKENDS_GPU_PARAMS_H

#include "backends/gpu/types.h"

namespace attn::gpu {

/// Types of elements in memory.
enum Element : i32 { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2 };

/// A tensor by token and head: [batch, token, head, channel], packed [row, head, channel], paged [page, row, head,
/// channel]. Steps are 0 along broadcast and absent axes.
struct TokenView {
    char *base; ///< NULL: the plan does not have it.
    i64 batch_step, token_step, head_step, channel_step;
    i32 type;   ///< Element; of integers: 1 where they are int64.
    i32 vector; ///< Rows are contiguous and everything is aligned to 16 bytes.
};

/// A float32 or bias tensor by head, query and key: the step of an absent or broadcast axis is 0.
struct ScoreView {
    char *base;
    i64 batch_step, head_step, query_step, key_step;
    i32 type;
    i32 keys; ///< Places of its last axis where that is keys: what lies beyond is not read or written.
};

/// A vector of integers.
struct IntegerVector {
    const char *base; ///< NULL: absent.
    i64 step;
    i32 wide; ///< 1: int64, else int32.
    i32 reserved;
};

/// What multiplies an output element where there is a gate.
enum Gate : i32 { kGateSigmoid = 0, kGateLinear = 1, kGateSilu = 2 };

} // namespace attn::gpu

#endif

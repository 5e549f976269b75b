// What the host hands to kernels that read mask programs. Read by both, like params.h.
#ifndef ATTN_BACKENDS_GPU_DENSE_MASK_PARAMS_H
#define ATTN_BACKENDS_GPU_DENSE_MASK_PARAMS_H

#include "backends/gpu/dense/params.h"

namespace attn::gpu {

/// One launch of the kernel that writes bits of a program.
struct MaskBitsParams {
    MaskArgs mask;
    SequenceParams sequences;
    u32 *bits; ///< [batch][mask_heads()][max_q][words]; NULL: not wanted. Rows beyond a sequence are not written.
    i64 words; ///< Of 32 keys: at least those of max_kv. Bits of keys beyond a sequence are 0.
    MaskClasses classes; ///< base NULL: not wanted; the rest is always given.

    constexpr i32 mask_heads() const { return mask.by_head ? mask.heads : 1; }
};

constexpr i32 kMaskThreads = 128;
/// Blocks of threads of a launch: of tiles, and of sequences and heads, which go by strides of kMostMaskRows.
constexpr i32 kMostMaskBlocks = 65535;

} // namespace attn::gpu

#endif

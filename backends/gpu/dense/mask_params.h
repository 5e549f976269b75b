// What the host hands to kernels that read mask programs. Read by both, like params.h.
#ifndef ATTN_BACKENDS_GPU_DENSE_MASK_PARAMS_H
#define ATTN_BACKENDS_GPU_DENSE_MASK_PARAMS_H

#include "backends/gpu/dense/params.h"
#include "src/mask/atoms.h"

namespace attn::gpu {

/// Pairs of ids that a program may read on a GPU: their views travel with every launch.
constexpr i32 kMostMaskPairs = 8;

/// A vector of integers by token: [batch, token], packed [row], paged [page, row]. Steps in bytes.
struct IntegerView {
    const char *base; ///< NULL: the program does not read it.
    i64 batch_step, token_step;
    i32 wide; ///< 1: int64, else int32.
    i32 reserved;
};

/// A mask program. Terms and parameters are constants of the plan, in memory of the device; the views are the call's.
struct MaskArgs {
    const mask::Term *terms; ///< NULL: no program.
    const mask::Parameter *parameters;
    i32 count;       ///< Of terms.
    i32 heads;       ///< Of OUT.
    i32 by_head;     ///< The program differs between heads.
    i32 by_position; ///< It reads positions.
    i32 pairs;       ///< Of ids that it reads, at most kMostMaskPairs.
    i32 reserved;
    IntegerView positions_q, positions_kv;
    IntegerView ids_q[kMostMaskPairs], ids_kv[kMostMaskPairs];
};

/// One launch of the kernel that writes bits of a program.
struct MaskBitsParams {
    MaskArgs mask;
    SequenceParams sequences;
    u32 *bits; ///< [batch][mask_heads()][max_q][words]; NULL: not wanted. Rows beyond a sequence are not written.
    i64 words; ///< Of 32 keys: at least those of max_kv. Bits of keys beyond a sequence are 0.
    unsigned char *classes;   ///< MaskClass [batch][mask_heads()][row_tiles][key_tiles]; NULL: not wanted.
    i32 tile_rows, tile_keys; ///< Of a class; keys a multiple of 32.
    i32 row_tiles, key_tiles; ///< That cover max_q and max_kv.

    constexpr i32 mask_heads() const { return mask.by_head ? mask.heads : 1; }
};

/// What a tile of queries and keys is by the program: for keys and queries within the sequence.
enum MaskClass : unsigned char { kMaskSkip = 0, kMaskPartial = 1, kMaskFull = 2 };

constexpr i32 kMaskThreads = 128;
/// Blocks of threads of a launch: of tiles, and of sequences and heads, which go by strides of kMostMaskRows.
constexpr i32 kMostMaskBlocks = 65535;

} // namespace attn::gpu

#endif

// The compile-time shape of the Hopper kernel of few rows, and what follows from it. The host chooses a shape, the
// kernel is compiled for it, both read this.
//
// K and V lie in shared memory in blocks of 64 channels: [channels / 64][keys][64], a row of a block being the 128
// bytes that the swizzle of copies works on.
#ifndef ATTN_BACKENDS_CUDA_DECODE_SM90_SHAPE_H
#define ATTN_BACKENDS_CUDA_DECODE_SM90_SHAPE_H

#include "backends/gpu/types.h"

namespace attn::sm90 {

using gpu::i32;

/// Where parts of shared memory begin, in bytes. Parts of rows take the place of the stages once those are read no
/// more: those of the warps of this block, and behind them, of more than 16 rows, what blocks of the cluster send.
struct DecodeLayout {
    i32 stages, parts, received, barriers, bytes;
};

struct DecodeShape {
    i32 type;   ///< gpu::Element: fp16 or bf16.
    i32 rows;   ///< Of a tile: 16, 32 or 64.
    i32 dim_qk; ///< Channels of Q and K, rounded up to 16 or 64. In memory they take whole blocks of 64.
    i32 dim_v;  ///< Of V and OUT, rounded up to 64.
    i32 stages; ///< Buffers, of a block of K and of V each.
    i32 blocks; ///< Of threads that fit an SM.

    static constexpr i32 kWarps = 4; ///< That compute; one more copies.
    static constexpr i32 kWarpRows = 16, kMostRows = 64;
    static constexpr i32 kKeys = 64; ///< Of a stage.
    static constexpr i32 kMostStages = 8;
    static constexpr i32 kMostClusterSplits = 8;

    /// The warps that compute are a grid of so many by so many: each has 16 rows and a part of the keys.
    constexpr i32 row_warps() const { return rows / kWarpRows; }
    constexpr i32 key_warps() const { return kWarps / row_warps(); }
    constexpr i32 warp_keys() const { return kKeys / key_warps(); }
    /// Keys that a warp multiplies at once: few where OUT leaves few registers for their products.
    constexpr i32 step_keys() const { return dim_v > 128 ? 16 : warp_keys(); }

    constexpr i32 threads() const { return 32 * (kWarps + 1); }
    constexpr i32 qk_blocks() const { return (dim_qk + 63) / 64; }
    constexpr i32 v_blocks() const { return dim_v / 64; }
    constexpr i32 k_bytes() const { return kKeys * 128 * qk_blocks(); }
    constexpr i32 v_bytes() const { return kKeys * 128 * v_blocks(); }
    constexpr i32 stage_bytes() const { return k_bytes() + v_bytes(); }
    /// Floats of a row of a part: channels, maximum, sum; rows begin in different banks.
    constexpr i32 part_step() const { return dim_v + 8; }
    constexpr i32 part_bytes() const { return rows * part_step() * 4; }
    /// Rows that a block of a cluster receives at most: it finishes one n-th, rounded up, which each of n blocks sends.
    constexpr i32 most_received() const { return rows + kMostClusterSplits - 1; }
    constexpr i32 received_bytes() const { return most_received() * part_step() * 4; }
    /// Whether these have a place of their own, so that a block may send before others have read K and V.
    constexpr bool receives_apart() const { return rows == kWarpRows; }

    constexpr DecodeLayout shared() const
    {
        DecodeLayout at = {};
        at.stages = 0;
        at.parts = 0;
        const i32 parts_end = key_warps() * part_bytes();
        const i32 stages_end = stages * stage_bytes();
        at.received = receives_apart() && stages_end > parts_end ? stages_end : parts_end;
        at.barriers = at.received + received_bytes();
        if (at.barriers < stages_end) at.barriers = stages_end;
        at.bytes = at.barriers + 16 * stages + 8;
        return at;
    }

    /// Why no kernel can have this shape; NULL if one can.
    constexpr const char *fault() const
    {
        if (type != 1 && type != 2) return "products are of fp16 or bf16";
        if (rows != 16 && rows != 32 && rows != kMostRows) return "rows must be 16, 32 or 64";
        if (dim_qk < 16 || dim_qk % 16 != 0 || dim_qk > 256) return "dim_qk must be a multiple of 16 up to 256";
        if (dim_v < 64 || dim_v % 64 != 0 || dim_v > 256) return "dim_v must be a multiple of 64 up to 256";
        if (stages < 2 || stages > kMostStages) return "stages must be 2 to 8";
        if (blocks < 1 || blocks > 4) return "blocks must be 1 to 4";
        // Of the 228 KiB of an SM each block takes 1 KiB beside its own.
        if (blocks * (shared().bytes + 1024) > 228 * 1024) return "the shared memory of an SM is 228 KiB";
        return nullptr;
    }
};

} // namespace attn::sm90

#endif

// The compile-time shape of the Hopper kernel of dense attention, and what follows from it. The host chooses a shape,
// the kernel is compiled for it, both read this.
//
// A block of threads is one warpgroup that copies and `consumers` warpgroups that compute, of 64 query rows each. Tiles
// in shared memory are blocks of 64 channels: [channels / 64][rows][64], a row of a block being the 128 bytes that the
// swizzle of copies and products works on.
#ifndef ATTN_BACKENDS_CUDA_DENSE_SM90_SHAPE_H
#define ATTN_BACKENDS_CUDA_DENSE_SM90_SHAPE_H

#include "backends/gpu/types.h"

namespace attn::sm90 {

using gpu::i32;

/// What beside the products a kernel computes: bits of Shape::features.
enum Feature : i32 {
    kSoftcap = 1,
    kAlibi = 2,
    kQueryTemperature = 4,
    kValueTemperature = 8,
    kEpilogue = 16, ///< Sink logits, head weights, row maximum: those of them that the plan has.
    kGate = 32,
    kSigmoidWeights = 64, ///< Instead of those of softmax.
    kReluWeights = 128,
    kBiasFloat32 = 256, ///< A bias tensor, by its type.
    kBiasFloat16 = 512,
    kBiasBfloat16 = 1024,
    kBiasFirst = 2048, ///< What is added to scores, bias tensor and ALiBi, is added before the softcap.
    kLowRank = 4096    ///< The product of two factors of Shape::rank channels is added to scaled products.
};
constexpr i32 kAnyBias = kBiasFloat32 | kBiasFloat16 | kBiasBfloat16;
constexpr i32 kAllFeatures = 2 * kLowRank - 1;

/// Which blocks of keys may hold some that a row of a tile does not see.
enum MaskKind : i32 {
    kMaskEnd = 0,      ///< The last one.
    kMaskDiagonal = 1, ///< Some of the last.
    kMaskWindow = 2,   ///< Some of the first too; sink tokens may stand before them.
    kMaskPosition = 3  ///< Any, or all: positions say so, on the device.
};

/// Where parts of shared memory begin, in bytes. Barriers come in pairs, full and empty, for each buffer.
struct SharedLayout {
    i32 q, k, v, out, q_barriers, k_barriers, v_barriers, tile_barriers, tiles;
    i32 zero;                                       ///< A word: see Consumer::pass_turn_after().
    i32 block_barriers, seen, found_blocks, blocks; ///< By position.
    i32 bytes;
};

struct Shape {
    i32 type; ///< gpu::Element: fp16 or bf16.
    i32 features, mask;
    i32 dim_qk;        ///< Channels of Q and K, rounded up to 16. In memory they take whole blocks of 64.
    i32 dim_v;         ///< Of V and OUT, rounded up to 64.
    i32 consumers;     ///< Warpgroups that compute.
    i32 keys;          ///< Of a step.
    i32 stages;        ///< Buffers of K, and of V.
    i32 query_buffers; ///< With two the next tile's Q is there when a tile ends.
    i32 turns;         ///< 1: consumers take turns on the matrix units, one multiplying while others do softmax.
    i32 unroll;        ///< Of the loop over keys that all rows see.
    i32 cluster; ///< Blocks of threads that read K and V together, each a part for all; their tiles see the same keys.
    i32 rank;    ///< Channels of the factors of a low-rank bias, rounded up to 16; 0: none.
    i32 holds_q; ///< 1: consumers hold their rows of Q in registers, else products read them from shared memory.
    i32 hopes;   ///< 1: steps without masks presume that no score exceeds the reference of its row by much.

    /// Factors lie behind Q and K, as one more block of channels.
    static constexpr i32 kMostRank = 64;
    static constexpr i32 kMostSharedBytes = 227 * 1024;
    static constexpr i32 kTileSlots =
        4; ///< The tile that is written, the one that is computed, the next; a power of 2.
    static constexpr i32 kTileBytes = 128;
    static constexpr i32 kBlockSlots = 4; ///< By position: blocks of keys that are found ahead of the copies.

    constexpr i32 threads() const { return 128 * (consumers + 1); }
    constexpr i32 rows() const { return 64 * consumers; }
    constexpr i32 qk_blocks() const { return (dim_qk + 63) / 64; }
    constexpr i32 v_blocks() const { return dim_v / 64; }
    constexpr i32 rank_blocks() const { return rank > 0 ? 1 : 0; }
    constexpr i32 q_bytes() const { return rows() * 128 * (qk_blocks() + rank_blocks()); }
    constexpr i32 k_bytes() const { return keys * 128 * (qk_blocks() + rank_blocks()); }
    constexpr i32 v_bytes() const { return keys * 128 * v_blocks(); }

    /// Registers of a thread: what the block is launched with (65536 in multiples of 8), and after they were shared
    /// out.
    constexpr i32 launch_registers() const { return 65536 / threads() / 8 * 8; }
    constexpr i32 producer_registers() const { return consumers == 2 ? 40 : 32; }
    constexpr i32 consumer_registers() const { return consumers == 2 ? 232 : 160; }

    constexpr i32 out_bytes() const { return rows() * 128 * v_blocks(); }
    /// Whether rows of OUT are put together in shared memory, for the engine to copy: where there is room for them.
    constexpr bool stages_out() const { return lay_out(true).bytes <= kMostSharedBytes; }
    constexpr SharedLayout shared() const { return lay_out(stages_out()); }
    constexpr SharedLayout lay_out(bool with_out) const
    {
        SharedLayout at = {};
        at.q = 0;
        at.k = at.q + query_buffers * q_bytes();
        at.v = at.k + stages * k_bytes();
        at.out = at.v + stages * v_bytes();
        at.q_barriers = at.out + (with_out ? out_bytes() : 0);
        at.k_barriers = at.q_barriers + 16 * query_buffers;
        at.v_barriers = at.k_barriers + 16 * stages;
        at.tile_barriers = at.v_barriers + 16 * stages;
        at.tiles = at.tile_barriers + 16 * kTileSlots;
        at.zero = at.tiles + kTileSlots * kTileBytes;
        at.bytes = at.zero + 16;
        if (mask != kMaskPosition) return at;
        at.block_barriers = at.bytes;
        at.seen = at.block_barriers + 16 * kBlockSlots;
        at.found_blocks = at.seen + 16 * stages;
        at.blocks = at.found_blocks + 4 * kBlockSlots;
        at.bytes = at.blocks + 4 * stages;
        return at;
    }

    /// Why no kernel can have this shape; NULL if one can.
    constexpr const char *fault() const
    {
        if (type != 1 && type != 2) return "products are of fp16 or bf16";
        if (mask < kMaskEnd || mask > kMaskPosition || features < 0 || features > kAllFeatures)
            return "no such options";
        if ((features & kSigmoidWeights) && (features & kReluWeights)) return "weights are of one kind";
        if (const i32 bias = features & kAnyBias; bias & (bias - 1)) return "a bias has one type";
        if ((features & kBiasFirst) && !((features & kSoftcap) && (features & (kAnyBias | kAlibi))))
            return "without softcap, and a bias or ALiBi, there is no order of them";
        if (dim_qk < 16 || dim_qk % 16 != 0 || dim_qk > 256) return "dim_qk must be a multiple of 16 up to 256";
        if (dim_v < 64 || dim_v % 64 != 0 || dim_v > 256) return "dim_v must be a multiple of 64 up to 256";
        if (consumers != 2 && consumers != 3) return "there are 2 or 3 consumers";
        if (keys != 64 && keys != 80 && keys != 96 && keys != 128) return "keys must be 64, 80, 96 or 128";
        if (stages < 2 || stages > 4) return "stages must be 2 to 4: a step holds two blocks of V";
        if (query_buffers < 1 || query_buffers > 2) return "query_buffers must be 1 or 2";
        if (turns < 0 || turns > 1 || unroll < 1 || unroll > 4) return "turns are 0 or 1, unroll 1 to 4";
        if (rank < 0 || rank % 16 != 0 || rank > kMostRank || (rank > 0) != ((features & kLowRank) != 0))
            return "rank must be a multiple of 16 up to 64, with a low-rank bias only";
        if (cluster != 1 && cluster != 2) return "cluster must be 1 or 2";
        if (holds_q < 0 || holds_q > 1) return "holds_q must be 0 or 1";
        if (holds_q && (rank > 0 || dim_qk > 128 || consumers != 2))
            return "Q is held in registers without low-rank bias, up to 128 channels, by two consumers";
        if (hopes < 0 || hopes > 1) return "hopes must be 0 or 1";
        if (hopes && (features != 0 || consumers != 2 || dim_v > 128))
            return "steps hope without options, with two consumers, up to 128 channels of V";
        if (cluster > 1 && mask != kMaskEnd) return "blocks of a cluster see the same keys";
        if (shared().bytes > kMostSharedBytes) return "shared memory is at most 227 KiB";
        return nullptr;
    }
};

} // namespace attn::sm90

#endif

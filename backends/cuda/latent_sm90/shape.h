// The compile-time shape of the Hopper kernel of latent attention, and what follows from it. The host chooses a shape,
// the kernel is compiled for it, both read this.
//
// Q and K lie in shared memory in blocks of 64 channels: [channels / 64][rows or keys][64], a row of a block being the
// 128 bytes that the swizzle of copies and products works on. A buffer of K comes in three pieces: the channels that
// are the left half of V, those that are the right half, and those beyond V, whose place weights take later.
#ifndef ATTN_BACKENDS_CUDA_LATENT_SM90_SHAPE_H
#define ATTN_BACKENDS_CUDA_LATENT_SM90_SHAPE_H

#include "backends/gpu/types.h"

namespace attn::sm90 {

using gpu::i32;

/// Where parts of shared memory begin, in bytes. Barriers come in pairs, full and empty, for each piece of each buffer.
struct LatentLayout {
    i32 q, k, statistics, barriers, bytes;
};

struct LatentShape {
    i32 type;    ///< gpu::Element: fp16 or bf16.
    i32 cluster; ///< Tiles of the same keys whose blocks of threads copy them for each other: 1 or 2.

    static constexpr i32 kDimQk = 576, kDimV = 512;
    static constexpr i32 kConsumers = 2; ///< Warpgroups that compute; one more copies.
    static constexpr i32 kRows = 64;     ///< Of a tile.
    static constexpr i32 kKeys = 64;     ///< Of a buffer.
    static constexpr i32 kBuffers = 2;   ///< Of K; V is in them.
    static constexpr i32 kPieces = 3;    ///< Of a buffer.
    static constexpr i32 kMostCluster = 2;
    static constexpr i32 kBlockBytes = kKeys * 128;
    static constexpr i32 kHalfBlocks = kDimV / 64 / kConsumers; ///< Of 64 channels, in a half of V.
    static constexpr i32 kTailBlocks = (kDimQk - kDimV) / 64;
    static constexpr i32 kBufferBytes = kDimQk / 64 * kBlockBytes;

    /// Registers of a thread, after they were shared out: those of the launch, 168 for each, are as many.
    static constexpr i32 kProducerRegisters = 40, kConsumerRegisters = 232;

    constexpr i32 threads() const { return 128 * (kConsumers + 1); }

    constexpr LatentLayout shared() const
    {
        LatentLayout at = {};
        at.q = 0;
        at.k = at.q + kRows * kDimQk * 2;
        at.statistics = at.k + kBuffers * kBufferBytes;
        at.barriers = at.statistics + kConsumers * 3 * kRows * 4; // maximum, factor, sum of each row
        at.bytes = at.barriers + kBuffers * kPieces * 16 + (kConsumers + 1) * 8;
        return at;
    }

    /// Why no kernel can have this shape; NULL if one can.
    constexpr const char *fault() const
    {
        if (type != 1 && type != 2) return "products are of fp16 or bf16";
        if (cluster < 1 || cluster > kMostCluster) return "cluster must be 1 or 2";
        return nullptr;
    }
};
static_assert(LatentShape::kTailBlocks == 1, "the weights of a block of keys take the place of the channels beyond V");
static_assert(LatentShape{1, 1}.shared().bytes <= 227 * 1024, "a block of threads has 227 KiB of shared memory");

} // namespace attn::sm90

#endif

// Into how many splits the Hopper kernel of few rows divides the keys of a tile.
#ifndef ATTN_BACKENDS_CUDA_DECODE_SM90_SPLITS_H
#define ATTN_BACKENDS_CUDA_DECODE_SM90_SPLITS_H

#include "backends/gpu/device.h"

#include <array>
#include <cstdint>

namespace attn::sm90 {

struct DecodeSplits {
    int64_t count = 1;
    bool clustered = false; ///< They are a cluster of blocks of threads; else, if several, they meet in the workspace.
};

struct DecodeRules {
    int64_t units = 1;           ///< SMs.
    int64_t blocks_per_unit = 1; ///< Of threads that fit one.
    bool busy = false;      ///< Tiles have so many rows that a block computes for as long as its keys take to come.
    bool invariant = false; ///< ATTN_BATCH_INVARIANT: the number depends on max_kv of the plan alone.
    int64_t fixed = 1;      ///< Then that.
    /// How many clusters the GPU runs at once, by their blocks; 0: none.
    std::array<int64_t, gpu::kMostClusterBlocks + 1> clusters = {};
};

/// For `tiles` (sequences times head groups) of up to `key_blocks` blocks of keys.
DecodeSplits decode_splits(const DecodeRules &rules, int64_t tiles, int64_t key_blocks) noexcept;

/// Whether so many blocks of threads, each with up to `key_blocks` blocks of keys, should begin while the kernel before
/// them still runs: see Grid::programmatic.
bool begin_early(const DecodeRules &rules, int64_t blocks, int64_t key_blocks) noexcept;

/// Partial results in the workspace that no launch of at most so many tiles and blocks exceeds.
int64_t most_decode_partials(const DecodeRules &rules, int64_t tiles, int64_t key_blocks) noexcept;

} // namespace attn::sm90

#endif

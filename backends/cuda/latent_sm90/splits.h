// Into how many splits the Hopper kernel of latent attention divides the keys of a tile.
#ifndef ATTN_BACKENDS_CUDA_LATENT_SM90_SPLITS_H
#define ATTN_BACKENDS_CUDA_LATENT_SM90_SPLITS_H

#include <cstdint>

namespace attn::sm90 {

struct LatentRules {
    int64_t units = 1;      ///< SMs: each runs one block of threads at a time.
    bool invariant = false; ///< ATTN_BATCH_INVARIANT: the number depends on max_kv of the plan alone.
    int64_t fixed = 1;      ///< Then that.
};

/// For `tiles` (sequences times head groups times tiles of rows) of up to `key_blocks` blocks of keys.
int64_t latent_splits(const LatentRules &rules, int64_t tiles, int64_t key_blocks) noexcept;

/// Partial results in the workspace that no launch of at most so many tiles and blocks exceeds.
int64_t most_latent_partials(const LatentRules &rules, int64_t tiles, int64_t key_blocks) noexcept;

} // namespace attn::sm90

#endif

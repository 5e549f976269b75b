// How many parts the keys of a sequence are split into, so that few tiles fill a GPU.
#ifndef ATTN_BACKENDS_GPU_DENSE_SPLITS_H
#define ATTN_BACKENDS_GPU_DENSE_SPLITS_H

#include <cstdint>

namespace attn::gpu {

/// Facts that the choice goes by.
struct SplitRules {
    int64_t capacity = 1;   ///< Blocks of threads that the device runs at a time.
    int64_t keys = 1;       ///< Of a block of keys.
    bool invariant = false; ///< The number may follow from `fixed` alone, whatever the batch.
    int64_t fixed = 1;      ///< Splits of a batch-invariant plan.
};

/// Splits for a launch of `tiles` tiles whose longest sequence has `keys` keys.
int64_t splits_for(const SplitRules &rules, int64_t tiles, int64_t keys) noexcept;
/// Splits of a batch-invariant plan, by the bound of its keys.
int64_t invariant_splits(int64_t block_keys, int64_t max_keys) noexcept;
/// Partial results of any launch of at most so many tiles and keys.
int64_t most_partials(const SplitRules &rules, int64_t tiles, int64_t keys) noexcept;

} // namespace attn::gpu

#endif

#include "backends/gpu/dense/splits.h"

#include <algorithm>

namespace attn::gpu {
namespace {

/// Blocks of keys below which a split costs more than it gains.
constexpr int64_t kFewestBlocks = 4;
/// Waves of blocks of threads that splits may make.
constexpr int64_t kMostWaves = 2;
/// Keys of a split of a batch-invariant plan, at least.
constexpr int64_t kInvariantKeys = 2048;
constexpr int64_t kMostInvariantSplits = 64;
/// How much worse than the best a number of splits may fill its waves.
constexpr double kEnough = 0.9;

int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/// Share of the last wave and those before it that have work.
double fill(int64_t blocks, int64_t capacity)
{
    return static_cast<double>(blocks) / static_cast<double>(ceil_div(blocks, capacity) * capacity);
}

int64_t most_splits(const SplitRules &rules, int64_t tiles, int64_t keys)
{
    if (tiles <= 0) return 1;
    const int64_t by_keys = keys / (rules.keys * kFewestBlocks);
    return std::max<int64_t>(1, std::min(by_keys, kMostWaves * rules.capacity / tiles));
}

} // namespace

int64_t splits_for(const SplitRules &rules, int64_t tiles, int64_t keys) noexcept
{
    if (rules.invariant) return rules.fixed;
    const int64_t most = most_splits(rules, tiles, keys);
    double best = 0;
    for (int64_t splits = 1; splits <= most; ++splits) best = std::max(best, fill(tiles * splits, rules.capacity));
    for (int64_t splits = 1; splits <= most; ++splits)
        if (fill(tiles * splits, rules.capacity) >= kEnough * best) return splits;
    return 1;
}

int64_t invariant_splits(int64_t block_keys, int64_t max_keys) noexcept
{
    return std::clamp<int64_t>(max_keys / std::max(kInvariantKeys, block_keys * kFewestBlocks), 1,
                               kMostInvariantSplits);
}

int64_t most_partials(const SplitRules &rules, int64_t tiles, int64_t keys) noexcept
{
    if (rules.invariant) return rules.fixed > 1 ? tiles * rules.fixed : 0;
    if (keys < 2 * kFewestBlocks * rules.keys) return 0;
    // Fewer tiles than the bound may be split further, up to the waves; more splits than the keys allow there are not.
    return std::min(kMostWaves * rules.capacity, tiles * (keys / (rules.keys * kFewestBlocks)));
}

} // namespace attn::gpu

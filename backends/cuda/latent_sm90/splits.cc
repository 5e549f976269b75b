#include "backends/cuda/latent_sm90/splits.h"

#include <algorithm>

namespace attn::sm90 {
namespace {

/// Blocks of keys of a split, at least.
constexpr int64_t kFewestBlocks = 4;
/// Blocks of threads that splits may make, for each SM.
constexpr int64_t kMostWaves = 4;
/// What a block of threads takes beside its keys, in the time of a block of keys: its rows of Q, the first copies, and
/// with splits the sums in the workspace, to write and to combine.
constexpr int64_t kOverhead = 3, kSplitOverhead = 5;

int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

} // namespace

int64_t latent_splits(const LatentRules &rules, int64_t tiles, int64_t key_blocks) noexcept
{
    if (tiles <= 0 || key_blocks <= 0) return 1;
    if (rules.invariant) return rules.fixed;
    const auto time_of = [&](int64_t splits) {
        const int64_t overhead = splits == 1 ? kOverhead : kSplitOverhead;
        return ceil_div(tiles * splits, rules.units) * (ceil_div(key_blocks, splits) + overhead);
    };
    const int64_t most = std::min(key_blocks / kFewestBlocks, kMostWaves * rules.units / tiles);
    int64_t best = 1;
    for (int64_t splits = 2; splits <= most; ++splits)
        if (time_of(splits) < time_of(best)) best = splits;
    return best;
}

int64_t most_latent_partials(const LatentRules &rules, int64_t tiles, int64_t key_blocks) noexcept
{
    if (rules.invariant) return rules.fixed > 1 ? tiles * rules.fixed : 0;
    // Fewer tiles may be split further, up to the waves.
    return std::min(kMostWaves * rules.units, tiles * (key_blocks / kFewestBlocks));
}

} // namespace attn::sm90

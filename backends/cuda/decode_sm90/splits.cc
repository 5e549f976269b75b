#include "backends/cuda/decode_sm90/splits.h"

#include "backends/gpu/device.h"

#include <algorithm>

namespace attn::sm90 {
namespace {

/// Blocks of keys below which a split that goes through memory costs more than it gains.
constexpr int64_t kFewestBlocks = 4;
/// Blocks of keys up to which fewer SMs, in clusters, are faster than all of them and a second kernel.
constexpr int64_t kClusterBlocks = 16;

} // namespace

DecodeSplits decode_splits(const DecodeRules &rules, int64_t tiles, int64_t key_blocks) noexcept
{
    DecodeSplits splits;
    if (tiles <= 0 || key_blocks <= 0) return splits;
    const int64_t most_cluster = gpu::kMostClusterBlocks;
    if (rules.invariant) {
        splits.count = rules.fixed;
        splits.clustered = splits.count > 1 && splits.count <= most_cluster && tiles * splits.count <= rules.units;
        return splits;
    }
    // A cluster waits until it has room as a whole: only while there is room for all.
    const int64_t in_cluster = std::min({most_cluster, rules.units / tiles, key_blocks});
    const bool fills = 8 * tiles * in_cluster >= 7 * rules.units;
    if (in_cluster > 1 && (fills || key_blocks <= kClusterBlocks * in_cluster)) {
        splits.count = in_cluster;
        splits.clustered = true;
        return splits;
    }
    splits.count =
        std::max<int64_t>(1, std::min(rules.units * rules.blocks_per_unit / tiles, key_blocks / kFewestBlocks));
    return splits;
}

int64_t most_decode_partials(const DecodeRules &rules, int64_t tiles, int64_t key_blocks) noexcept
{
    if (rules.invariant) return rules.fixed > 1 ? tiles * rules.fixed : 0;
    // Fewer tiles may be split further, up to what fits the GPU.
    return std::min(rules.units * rules.blocks_per_unit, tiles * (key_blocks / kFewestBlocks));
}

} // namespace attn::sm90

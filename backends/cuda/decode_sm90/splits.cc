#include "backends/cuda/decode_sm90/splits.h"

#include <algorithm>

namespace attn::sm90 {
namespace {

/// Blocks of keys below which a split that goes through memory costs more than it gains.
constexpr int64_t kFewestBlocks = 4;
/// Blocks of keys of a split up to which a cluster on some of the SMs is faster than all of them and a second kernel.
constexpr int64_t kClusterBlocks = 16;
constexpr int64_t kCombinedAtOnce = 32;
/// Blocks of keys up to which a call lasts so short that it gains more by beginning early than it loses by its place.
constexpr int64_t kShortBlocks = 4;

} // namespace

DecodeSplits decode_splits(const DecodeRules &rules, int64_t tiles, int64_t key_blocks) noexcept
{
    DecodeSplits splits;
    if (tiles <= 0 || key_blocks <= 0) return splits;
    const int64_t slots = rules.units * rules.blocks_per_unit;
    if (rules.invariant) {
        splits.count = rules.fixed;
        splits.clustered =
            splits.count > 1 && splits.count <= gpu::kMostClusterBlocks && tiles <= rules.clusters[splits.count];
        return splits;
    }
    // Busy blocks keep memory busy in pairs: 64 rows read at 0.94 of the bandwidth with tiles for two on an SM, at 0.5
    // with one.
    const int64_t wanted = rules.busy ? slots : rules.units;
    // Three quarters of the SMs ask for as much memory as all of them get; half of them, where a block has all shared
    // memory of its SM.
    const int64_t enough = (rules.blocks_per_unit == 1 ? 9 : rules.busy ? 14 : 15) * wanted; // twentieths
    if (4 * tiles >= 3 * wanted) return splits;
    // A cluster waits until it has room as a whole, on SMs that are close to each other: all must have room at a time.
    const int64_t room = std::max(wanted / tiles, std::min<int64_t>(2, slots / tiles));
    int64_t in_cluster = std::min({int64_t{gpu::kMostClusterBlocks}, room, key_blocks});
    while (in_cluster > 1 && tiles > rules.clusters[in_cluster]) --in_cluster;
    if (in_cluster > 1 && (20 * tiles * in_cluster >= enough || key_blocks <= kClusterBlocks * in_cluster)) {
        splits.count = in_cluster;
        splits.clustered = true;
        return splits;
    }
    splits.count = std::max<int64_t>(1, std::min(slots / tiles, key_blocks / kFewestBlocks));
    // What a warp looks up at once when it combines.
    if (splits.count > kCombinedAtOnce && 8 * tiles * kCombinedAtOnce >= 7 * slots) splits.count = kCombinedAtOnce;
    return splits;
}

bool begin_early(const DecodeRules &rules, int64_t blocks, int64_t key_blocks) noexcept
{
    // Blocks that wait take room beside those that run, and later run where that room was: two on an SM and none on
    // another, two clusters in one part of the GPU. Unless they fill it, memory is then read at 0.6 of its rate.
    return 10 * blocks >= 9 * rules.units * rules.blocks_per_unit ||
           (2 * blocks <= rules.units && key_blocks <= kShortBlocks);
}

int64_t most_decode_partials(const DecodeRules &rules, int64_t tiles, int64_t key_blocks) noexcept
{
    if (rules.invariant) return rules.fixed > 1 ? tiles * rules.fixed : 0;
    // Fewer tiles may be split further, up to what fits the GPU.
    return std::min(rules.units * rules.blocks_per_unit, tiles * (key_blocks / kFewestBlocks));
}

} // namespace attn::sm90

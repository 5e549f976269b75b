#include "backends/cpu/dense/schedule.h"

#include <algorithm>

namespace attn::cpu {
namespace {

// Keys are split while there are fewer than kFewTiles tiles per worker, into about kTasksPerWorker tasks per worker:
// enough to even out unequal tasks, few enough that merging costs little.
constexpr int64_t kFewTiles = 2;
constexpr int64_t kTasksPerWorker = 4;
constexpr size_t kAlign = 64;

int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/// Bounds may be so large that products overflow; no such plan can have its workspace, and the size says so.
int64_t saturating_product(int64_t a, int64_t b)
{
    int64_t product = 0;
    return __builtin_mul_overflow(a, b, &product) || product > INT64_MAX / 4 ? INT64_MAX / 4 : product;
}

/// Bytes of a part of the workspace, capped like every size by what an address can reach.
size_t part_bytes(int64_t count, size_t bytes)
{
    constexpr size_t kMost = static_cast<size_t>(kLargestExtent) * 64;
    size_t product = 0;
    return __builtin_mul_overflow(static_cast<size_t>(count), bytes, &product) || product > kMost ? kMost : product;
}

size_t aligned(size_t bytes)
{
    return (bytes + kAlign - 1) / kAlign * kAlign;
}

/// Doubles that the sums of chains take: a chain for each sequence and group of heads, and what more there may be.
int64_t chain_doubles(const ScheduleRules &rules, const ScheduleBounds &bounds)
{
    const int64_t longest = std::min(bounds.max_kv, rules.kept_keys);
    const int64_t keys = std::min(bounds.total_kv, saturating_product(bounds.batch, longest));
    const int64_t more_tiles = std::max<int64_t>(0, tiles_of(rules, bounds.max_q) - 1);
    const int64_t groups = saturating_product(bounds.batch, rules.groups);
    const int64_t more =
        rules.fixed_range
            ? saturating_product(groups, std::min(more_tiles, most_chains(rules, bounds.batch) - 1))
            : std::min(saturating_product(groups, more_tiles), saturating_product(kTasksPerWorker, rules.workers));
    const int64_t padded = keys + saturating_product(16, bounds.batch);
    return saturating_product(rules.group,
                              saturating_product(rules.groups, padded) + saturating_product(more, chain_step(longest)));
}

int64_t range_for(const ScheduleRules &rules, int64_t tiles, int64_t longest)
{
    if (rules.most_range && longest > rules.most_range) {
        ScheduleRules unlimited = rules;
        unlimited.most_range = 0;
        return std::min(range_for(unlimited, tiles, longest), rules.most_range);
    }
    if (tiles == 0 || tiles >= kFewTiles * rules.workers || longest <= kShortestRange)
        return std::max<int64_t>(longest, 1);
    const int64_t wanted = divide_up(kTasksPerWorker * rules.workers, tiles);
    const int64_t ranges = std::min(wanted, divide_up(longest, kShortestRange));
    return divide_up(divide_up(longest, ranges), rules.key_block) * rules.key_block;
}

} // namespace

int64_t tiles_of(const ScheduleRules &rules, int64_t queries) noexcept
{
    return divide_up(saturating_product(queries, rules.group), rules.tile_rows);
}

int64_t most_chains(const ScheduleRules &rules, int64_t batch) noexcept
{
    // Batches must not matter: as many as one sequence alone would get.
    const int64_t others = rules.fixed_range ? 1 : std::max<int64_t>(batch, 1);
    return divide_up(kTasksPerWorker * rules.workers, saturating_product(rules.groups, others));
}

int64_t fixed_range(const ScheduleRules &rules, int64_t max_q, int64_t max_kv) noexcept
{
    return range_for(rules, saturating_product(rules.groups, tiles_of(rules, max_q)), max_kv);
}

Schedule make_schedule(const ScheduleRules &rules, int64_t tiles, int64_t longest) noexcept
{
    Schedule schedule;
    schedule.tiles = tiles;
    schedule.range_keys = rules.fixed_range ? rules.fixed_range : range_for(rules, tiles, longest);
    schedule.ranges = std::max<int64_t>(1, divide_up(longest, schedule.range_keys));
    return schedule;
}

int64_t ranges_of(const Schedule &schedule, int64_t keys) noexcept
{
    return std::clamp<int64_t>(divide_up(keys, schedule.range_keys), 1, schedule.ranges);
}

WorkspaceLayout lay_out(const ScheduleRules &rules, const ScheduleBounds &bounds) noexcept
{
    // Partial results: few tiles are split, into at most kTasksPerWorker * workers + tiles tasks; with a fixed
    // or largest range each tile has all of its ranges.
    int64_t partial_tiles = 0;
    if (!rules.fixed_range && bounds.max_kv > kShortestRange)
        partial_tiles = (kTasksPerWorker + kFewTiles) * rules.workers;
    if (const int64_t range = rules.fixed_range ? rules.fixed_range : rules.most_range) {
        const int64_t ranges = divide_up(bounds.max_kv, range);
        const int64_t tiles = saturating_product(saturating_product(bounds.batch, rules.groups),
                                                 saturating_product(tiles_of(rules, bounds.max_q), ranges));
        if (ranges > 1) partial_tiles = std::max(partial_tiles, tiles);
    }
    const size_t partial_bytes = part_bytes(partial_tiles, static_cast<size_t>(rules.partial_floats) * 4);
    const int64_t queries = std::min(bounds.total_q, saturating_product(bounds.batch, bounds.max_q));
    WorkspaceLayout layout;
    layout.tile_starts = 0;
    layout.partials = aligned(static_cast<size_t>(bounds.batch + 1) * sizeof(int64_t));
    layout.mass_starts = layout.partials + aligned(partial_bytes);
    layout.row_scales =
        layout.mass_starts + aligned(part_bytes(bounds.batch + 1, static_cast<size_t>(rules.start_bytes)));
    layout.mass_sums = layout.row_scales + aligned(part_bytes(queries, static_cast<size_t>(rules.scale_bytes)));
    layout.chain_sums = layout.mass_sums + aligned(part_bytes(rules.workers, aligned(rules.sum_bytes)));
    layout.scratch = layout.chain_sums;
    if (rules.kept_keys) layout.scratch += aligned(part_bytes(chain_doubles(rules, bounds), sizeof(double)));
    layout.bytes = layout.scratch + static_cast<size_t>(rules.workers) * aligned(rules.worker_bytes) + kAlign - 16;
    return layout;
}

int64_t rows_per_tile(const ScheduleRules &rules, int64_t queries) noexcept
{
    const int64_t tiles = std::max<int64_t>(1, tiles_of(rules, queries));
    return divide_up(divide_up(queries * rules.group, tiles), rules.strip) * rules.strip;
}

int64_t count_tiles(const ScheduleRules &rules, const Sequences &sequences, int64_t *tile_starts) noexcept
{
    int64_t longest = 0;
    tile_starts[0] = 0;
    for (int64_t b = 0; b < sequences.batch(); ++b) {
        const Sequence sequence = sequences[b];
        longest = std::max(longest, sequence.k_length);
        tile_starts[b + 1] = tile_starts[b] + rules.groups * tiles_of(rules, sequence.q_length);
    }
    return longest;
}

} // namespace attn::cpu

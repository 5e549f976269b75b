// How executes are cut: whatever a schedule needs, the layout of the workspace has reserved.
#include "core_random.h"

#include "backends/cpu/dense/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace attn::cpu {

static std::ostream &operator<<(std::ostream &out, const ScheduleRules &r)
{
    return out << "groups " << r.groups << ", group " << r.group << ", tile_rows " << r.tile_rows << ", key_block "
               << r.key_block << ", workers " << r.workers << ", fixed_range " << r.fixed_range << ", partial_floats "
               << r.partial_floats << ", worker_bytes " << r.worker_bytes << ", start_bytes " << r.start_bytes
               << ", scale_bytes " << r.scale_bytes << ", sum_bytes " << r.sum_bytes << ", kept_keys " << r.kept_keys;
}

static std::ostream &operator<<(std::ostream &out, const ScheduleBounds &b)
{
    return out << "batch " << b.batch << ", max_q " << b.max_q << ", max_kv " << b.max_kv << ", total_q " << b.total_q
               << ", total_kv " << b.total_kv;
}

} // namespace attn::cpu

namespace attn::test {
namespace {

using cpu::Schedule;
using cpu::ScheduleBounds;
using cpu::ScheduleRules;
using cpu::WorkspaceLayout;

int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/// Mostly small, now and then large.
int64_t random_size(Random &random, int64_t least, int64_t most)
{
    return random.integer(least, std::max(least, most >> random.integer(0, 10)));
}

ScheduleBounds random_bounds(Random &random)
{
    ScheduleBounds bounds = {random_size(random, 0, 64), random_size(random, 0, 5000), random_size(random, 0, 100000)};
    if (random.one_in(2)) bounds.total_q = random_size(random, 0, 2 * bounds.batch * bounds.max_q);
    if (random.one_in(2)) bounds.total_kv = random_size(random, 0, 2 * bounds.batch * bounds.max_kv);
    return bounds;
}

ScheduleRules random_rules(Random &random, const ScheduleBounds &bounds)
{
    ScheduleRules rules;
    rules.groups = random.integer(1, 8);
    rules.group = random.integer(1, 8);
    rules.tile_rows = random.integer(1, 24) * 8;
    rules.key_block = random.integer(1, 16) * 16;
    rules.workers = random.one_in(4) ? 1 : random_size(random, 1, 200);
    rules.partial_floats = rules.tile_rows * (random.integer(1, 512) + 2);
    rules.most_range = random.integer(0, 2) == 0 ? random.integer(1, 30) * rules.key_block : 0;
    rules.worker_bytes = static_cast<size_t>(random.integer(0, 100000));
    if (random.one_in(2)) {
        rules.start_bytes = 16, rules.sum_bytes = static_cast<size_t>(8 * rules.group * rules.key_block);
        if (random.one_in(2)) rules.scale_bytes = 8 * rules.groups * rules.group;
        if (random.one_in(2)) rules.kept_keys = random_size(random, 1, 200) * rules.key_block;
    }
    if (random.one_in(2)) rules.fixed_range = fixed_range(rules, bounds.max_q, bounds.max_kv);
    return rules;
}

/// Sequences within bounds: what count_tiles() sums up.
struct Batch {
    int64_t tiles = 0, longest = 0;
    ScheduleBounds actual = {0, 0, 0, 0, 0};
    int64_t chain_doubles = 0; ///< Of the sums of chains.
};

Batch random_batch(Random &random, const ScheduleRules &rules, const ScheduleBounds &bounds)
{
    Batch batch;
    batch.actual.batch = random.integer(0, bounds.batch);
    for (int64_t b = 0; b < batch.actual.batch; ++b) {
        int64_t queries = random.one_in(3) ? bounds.max_q : random.integer(0, bounds.max_q);
        queries = std::min(queries, bounds.total_q - batch.actual.total_q);
        batch.actual.total_q += queries;
        int64_t keys = random.one_in(3) ? bounds.max_kv : random.integer(0, bounds.max_kv);
        keys = std::min(keys, bounds.total_kv - batch.actual.total_kv);
        batch.actual.total_kv += keys;
        const int64_t tiles = divide_up(queries * rules.group, rules.tile_rows);
        batch.tiles += rules.groups * tiles;
        if (keys <= rules.kept_keys)
            batch.chain_doubles += rules.groups * rules.group * cpu::chain_step(keys) *
                                   std::min(tiles, most_chains(rules, batch.actual.batch));
        batch.longest = std::max(batch.longest, keys);
        batch.actual.max_q = std::max(batch.actual.max_q, queries);
    }
    batch.actual.max_kv = batch.longest;
    return batch;
}

size_t partial_bytes(const ScheduleRules &rules, const Schedule &schedule)
{
    return schedule.ranges == 1 ? 0 : static_cast<size_t>(schedule.tasks() * rules.partial_floats) * 4;
}

TEST(Schedule, PartialResultsFitTheirRegion)
{
    Random random(30);
    int split = 0;
    for (int round = 0; round < 50000; ++round) {
        const ScheduleBounds bounds = random_bounds(random);
        const ScheduleRules rules = random_rules(random, bounds);
        const Batch batch = random_batch(random, rules, bounds);
        const Schedule schedule = make_schedule(rules, batch.tiles, batch.longest);
        ASSERT_EQ(schedule.tiles, batch.tiles);
        split += schedule.ranges > 1;
        for (const ScheduleBounds &reserved : {bounds, batch.actual}) {
            const WorkspaceLayout layout = lay_out(rules, reserved);
            ASSERT_LE(partial_bytes(rules, schedule), layout.mass_starts - layout.partials)
                << rules << "; bounds " << reserved << "; " << schedule.tiles << " tiles, " << schedule.ranges
                << " ranges";
            ASSERT_LE(static_cast<size_t>(batch.actual.batch + 1) * sizeof(int64_t),
                      layout.partials - layout.tile_starts);
            ASSERT_LE((batch.actual.batch + 1) * rules.start_bytes,
                      static_cast<int64_t>(layout.row_scales - layout.mass_starts));
            ASSERT_LE(batch.actual.total_q * rules.scale_bytes,
                      static_cast<int64_t>(layout.mass_sums - layout.row_scales))
                << rules << "; bounds " << reserved;
            ASSERT_LE(static_cast<size_t>(rules.workers) * rules.sum_bytes, layout.chain_sums - layout.mass_sums);
            ASSERT_LE(batch.chain_doubles * static_cast<int64_t>(sizeof(double)),
                      static_cast<int64_t>(layout.scratch - layout.chain_sums))
                << rules << "; bounds " << reserved;
        }
    }
    EXPECT_GT(split, 1000);
}

TEST(Schedule, RegionsLieApartAndAligned)
{
    Random random(31);
    for (int round = 0; round < 20000; ++round) {
        const ScheduleBounds bounds = random_bounds(random);
        const ScheduleRules rules = random_rules(random, bounds);
        const WorkspaceLayout layout = lay_out(rules, bounds);
        ASSERT_EQ(layout.tile_starts, 0u);
        ASSERT_GE(layout.partials, static_cast<size_t>(bounds.batch + 1) * sizeof(int64_t));
        ASSERT_GE(layout.mass_starts, layout.partials);
        ASSERT_GE(layout.row_scales, layout.mass_starts);
        ASSERT_GE(layout.mass_sums, layout.row_scales);
        ASSERT_GE(layout.chain_sums, layout.mass_sums);
        ASSERT_GE(layout.scratch, layout.chain_sums);
        for (const size_t part : {layout.partials, layout.mass_starts, layout.row_scales, layout.mass_sums,
                                  layout.chain_sums, layout.scratch})
            ASSERT_EQ(part % 64, 0u);
        if (!rules.kept_keys) {
            ASSERT_EQ(layout.scratch, layout.chain_sums);
        }
        if (!rules.sum_bytes) { // without COLUMN_MASS nothing is reserved for it
            ASSERT_EQ(layout.scratch, layout.mass_starts);
        }
        // From an address that is a multiple of 16 the next multiple of 64 is at most 48 bytes away.
        ASSERT_GE(layout.bytes, layout.scratch + static_cast<size_t>(rules.workers) * rules.worker_bytes + 48) << rules;
    }
}

TEST(Schedule, LayoutIsMonotonicInEveryBound)
{
    Random random(32);
    for (int round = 0; round < 50000; ++round) {
        const ScheduleBounds large = random_bounds(random);
        const ScheduleRules rules = random_rules(random, large);
        ScheduleBounds small = large;
        int64_t *const fields[] = {&small.batch, &small.max_q, &small.max_kv, &small.total_q, &small.total_kv};
        int64_t &field = *fields[random.integer(0, 4)];
        field = random.integer(0, field);
        const WorkspaceLayout a = lay_out(rules, small), b = lay_out(rules, large);
        ASSERT_LE(a.bytes, b.bytes) << rules << "; " << small << "; " << large;
        ASSERT_LE(a.mass_starts - a.partials, b.mass_starts - b.partials) << rules << "; " << small << "; " << large;
    }
}

TEST(Schedule, LayoutIsMonotonicUpToTheLargestExtents)
{
    // A plan accepts extents of up to 2^47, and as many rows in all of its sequences; with the heads, products leave
    // 64 bits.
    Random random(33);
    for (int round = 0; round < 20000; ++round) {
        const int64_t batch_bits = random.integer(0, 47), length_bits = 47 - batch_bits;
        const ScheduleBounds large = {int64_t{1} << batch_bits, int64_t{1} << random.integer(0, length_bits),
                                      int64_t{1} << random.integer(0, length_bits)};
        ScheduleRules rules;
        rules.groups = int64_t{1} << random.integer(0, 47);
        rules.tile_rows = 48;
        rules.key_block = 256;
        rules.workers = 4;
        rules.partial_floats = 48 * 130;
        rules.fixed_range = 1024;
        rules.start_bytes = 16, rules.scale_bytes = 8 * rules.groups, rules.sum_bytes = size_t{1} << 47;
        rules.kept_keys = 20 * rules.key_block;
        ScheduleBounds small = large;
        small.batch = random.integer(1, large.batch);
        ASSERT_LE(lay_out(rules, small).bytes, lay_out(rules, large).bytes) << rules << "; " << small << "; " << large;
    }
}

TEST(Schedule, RowsOfATileAreCountedUpToTheLargestExtents)
{
    // One K head for 2^40 heads of Q: a sequence of 2^47 queries has 2^87 rows.
    ScheduleRules rules;
    rules.group = int64_t{1} << 40;
    rules.tile_rows = 48;
    rules.workers = 4;
    rules.partial_floats = 48 * 130;
    rules.fixed_range = 1024;
    const size_t small = lay_out(rules, {1, 1, 4096}).bytes;
    EXPECT_LE(small, lay_out(rules, {1, kLargestExtent, 4096}).bytes);
    rules.fixed_range = 0;
    EXPECT_GT(fixed_range(rules, kLargestExtent, 4096), 0);
}

TEST(Schedule, RangesCoverEveryKeyOnce)
{
    Random random(34);
    for (int round = 0; round < 20000; ++round) {
        const ScheduleBounds bounds = random_bounds(random);
        const ScheduleRules rules = random_rules(random, bounds);
        const Batch batch = random_batch(random, rules, bounds);
        const Schedule schedule = make_schedule(rules, batch.tiles, batch.longest);
        ASSERT_GE(schedule.ranges, 1);
        ASSERT_GE(schedule.range_keys, 1);
        // Ranges are multiples of range_keys, cut at a sequence's length; all of them must lie before `longest`.
        ASSERT_GE(schedule.ranges * schedule.range_keys, batch.longest) << rules;
        if (schedule.ranges > 1) {
            ASSERT_LT((schedule.ranges - 1) * schedule.range_keys, batch.longest) << rules;
            ASSERT_EQ(schedule.range_keys % rules.key_block, 0) << rules;
        }
        const int64_t length = random.integer(0, batch.longest);
        int64_t covered = 0;
        for (int64_t range = 0; range < schedule.ranges; ++range) {
            const int64_t begin = std::min(range * schedule.range_keys, length);
            const int64_t end = std::min(begin + schedule.range_keys, length);
            ASSERT_EQ(begin, covered);
            covered = end;
        }
        ASSERT_EQ(covered, length) << rules;
    }
}

TEST(Schedule, KeysAreSplitOnlyWhereTilesAreFew)
{
    ScheduleRules rules;
    rules.tile_rows = 48, rules.key_block = 256, rules.workers = 8, rules.partial_floats = 48 * 130;
    EXPECT_EQ(make_schedule(rules, 1, cpu::kShortestRange).ranges, 1);
    EXPECT_GT(make_schedule(rules, 1, 8192).ranges, 1);
    EXPECT_GT(make_schedule(rules, 15, 8192).ranges, 1);
    EXPECT_EQ(make_schedule(rules, 16, 8192).ranges, 1);
    EXPECT_EQ(make_schedule(rules, 0, 8192).tasks(), 0);
    EXPECT_EQ(make_schedule(rules, 4, 0).ranges, 1); // rows without keys are still written
    // No range is much shorter than is worth while.
    Random random(35);
    for (int round = 0; round < 5000; ++round) {
        const Schedule schedule = make_schedule(rules, random.integer(1, 40), random.integer(1, 100000));
        ASSERT_TRUE(schedule.ranges == 1 || schedule.range_keys >= cpu::kShortestRange / 2);
    }
}

TEST(Schedule, FixedRangesDoNotDependOnTheBatch)
{
    Random random(36);
    for (int round = 0; round < 20000; ++round) {
        const ScheduleBounds bounds = {random.integer(1, 64), random_size(random, 1, 5000),
                                       random_size(random, 1, 100000)};
        ScheduleRules rules = random_rules(random, bounds);
        rules.fixed_range = fixed_range(rules, bounds.max_q, bounds.max_kv);
        ASSERT_GT(rules.fixed_range, 0);
        const Batch a = random_batch(random, rules, bounds), b = random_batch(random, rules, bounds);
        const Schedule of_a = make_schedule(rules, a.tiles, a.longest), of_b = make_schedule(rules, b.tiles, b.longest);
        ASSERT_EQ(of_a.range_keys, of_b.range_keys);
        // A sequence's keys fall into the same ranges in both; only empty ranges may follow.
        ASSERT_EQ(of_a.ranges, std::max<int64_t>(1, divide_up(a.longest, rules.fixed_range)));
        ASSERT_EQ(of_b.ranges, std::max<int64_t>(1, divide_up(b.longest, rules.fixed_range)));
    }
}

} // namespace
} // namespace attn::test

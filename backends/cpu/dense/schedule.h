// How one execute is cut into tasks: tiles of query rows, and ranges of keys where tiles are few.
#ifndef ATTN_BACKENDS_CPU_DENSE_SCHEDULE_H
#define ATTN_BACKENDS_CPU_DENSE_SCHEDULE_H

#include "backends/cpu/dense/kernel.h"
#include "backends/cpu/dense/sequences.h"

namespace attn::cpu {

/// What the plan fixes for the cutting.
struct ScheduleRules {
    int64_t groups = 1;    ///< Groups of heads of one sequence.
    int64_t group = 1;     ///< Heads of a group: rows per token.
    int64_t tile_rows = 1; ///< Most rows of a tile.
    int64_t strip = 1;     ///< Rows of a tile come in multiples of it, but for the last.
    int64_t key_block = 1; ///< Key ranges begin at multiples of it.
    int64_t workers = 1;
    int64_t fixed_range = 0; ///< ATTN_BATCH_INVARIANT: keys of a range, whatever the batch. 0: chosen per execute.
    int64_t most_range =
        0; ///< Most keys of a range, a multiple of key_block; 0: no limit. Of no effect with a fixed range.
    int64_t partial_floats = 0; ///< Floats of a partial result.
    size_t worker_bytes = 0;    ///< Scratch of one worker.
    int64_t kept_keys = 0;      ///< COLUMN_MASS: longest key sequence of which a worker keeps the weights; 0: of none.
    // COLUMN_MASS: what it takes of the workspace; 0 without it.
    int64_t start_bytes = 0; ///< Of what comes before a sequence.
    int64_t scale_bytes = 0; ///< Of the scales of a token, all heads.
    size_t sum_bytes = 0;    ///< Sums of one worker.
};

/// Cutting of one execute.
struct Schedule {
    int64_t tiles = 0;      ///< Over all sequences and groups.
    int64_t ranges = 1;     ///< Ranges of keys; 1: each task writes its rows for good.
    int64_t range_keys = 0; ///< Keys of a range.

    int64_t tasks() const noexcept { return tiles * ranges; }
};

/// Shortest range of keys worth a partial result.
constexpr int64_t kShortestRange = 512;
/// Keys of a range where tiles wait for memory: tasks that follow each other read the same keys for other heads, which
/// often share pages of memory.
constexpr int64_t kSharedRange = 2048;

/// Largest sizes an execute may have.
struct ScheduleBounds {
    int64_t batch, max_q, max_kv;
    int64_t total_q = INT64_MAX;  ///< Queries of all sequences, where less than batch * max_q.
    int64_t total_kv = INT64_MAX; ///< Likewise keys.
};

/// Keys per range when batches must not matter: as many ranges as one longest sequence alone would get.
int64_t fixed_range(const ScheduleRules &rules, int64_t max_q, int64_t max_kv) noexcept;

/// Ranges that hold keys of a sequence of `keys`; at least the first.
int64_t ranges_of(const Schedule &schedule, int64_t keys) noexcept;

/// Cuts `tiles` tiles against at most `longest` keys.
Schedule make_schedule(const ScheduleRules &rules, int64_t tiles, int64_t longest) noexcept;

/// COLUMN_MASS by weights that are kept: the tiles of a sequence and group of heads are dealt to at most so many
/// chains, each a task that has its own sums.
int64_t most_chains(const ScheduleRules &rules, int64_t batch) noexcept;

/// Doubles from head to head of the sums of a chain: whole vectors.
constexpr int64_t chain_step(int64_t keys)
{
    return (keys + 15) / 16 * 16;
}

/// Where the parts of the workspace lie, from an address that is a multiple of 64.
struct WorkspaceLayout {
    size_t tile_starts; ///< int64 [batch + 1]: tiles before each sequence.
    size_t partials;    ///< float [tiles][ranges][partial_floats]
    size_t mass_starts; ///< [batch + 1][start_bytes]
    size_t row_scales;  ///< [queries][scale_bytes]
    size_t mass_sums;   ///< [workers][sum_bytes]
    size_t chain_sums;  ///< double [chain][head of a group][chain_step(keys of its sequence)]
    size_t scratch;     ///< [workers][worker_bytes]
    size_t bytes;       ///< With room to align the address.
};

/// Layout for sizes up to `bounds`; its parts hold every schedule of such sizes. Monotonic in every bound.
WorkspaceLayout lay_out(const ScheduleRules &rules, const ScheduleBounds &bounds) noexcept;

/// Rows of the tiles of a sequence of `queries` tokens, all but the last: as equal as strips allow.
int64_t rows_per_tile(const ScheduleRules &rules, int64_t queries) noexcept;

/// Tiles of a sequence of `queries` tokens and one group of heads.
int64_t tiles_of(const ScheduleRules &rules, int64_t queries) noexcept;

/// Fills tile_starts[0 .. batch] and returns the longest key length.
int64_t count_tiles(const ScheduleRules &rules, const Sequences &sequences, int64_t *tile_starts) noexcept;

} // namespace attn::cpu

#endif

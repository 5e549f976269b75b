// COLUMN_MASS: what the rows weigh each key, summed over the rows.
//
// Where a worker can keep the weights of a tile until its rows are done, tiles add them up themselves (tile_kept.h):
// the tiles of one sequence and group of heads are dealt in turns to a few chains, each a task of the first pass that
// has sums of its own. A second pass adds up the sums of chains; a task of it owns a block of keys of one sequence and
// group of heads, and writes it.
//
// Where keys are too many, or split, there are no chains: once the first pass has left what turns the scores of a row
// into its weights, a task of the second computes the scores of every row against its keys once more.
//
// No two tasks share a sum, and a task adds in a fixed order.
#ifndef ATTN_BACKENDS_CPU_DENSE_COLUMN_MASS_H
#define ATTN_BACKENDS_CPU_DENSE_COLUMN_MASS_H

#include "backends/cpu/dense/schedule.h"
#include "backends/cpu/dense/sequences.h"
#include "backends/cpu/views.h"

namespace attn::cpu {

/// What comes before a sequence.
struct MassStart {
    int64_t tasks, rows;
    int64_t runs; ///< Tasks of the first pass, where tiles add up what they keep.
    int64_t sums; ///< Doubles of the sums of its chains.
};

/// The keys and heads of one task.
struct MassTask {
    int64_t sequence, group;
    int64_t key_begin, key_end;
};

/// What COLUMN_MASS adds to the rules.
void set_mass_rules(const DenseProblem &problem, ScheduleRules *rules) noexcept;

/// Fills starts[0 .. batch] and returns the number of tasks.
int64_t count_mass_tasks(const ScheduleRules &rules, const Sequences &sequences, MassStart *starts) noexcept;

/// Whether tiles of a sequence of `keys` keys add up what they keep, in an execute that does not split keys.
constexpr bool is_kept(const ScheduleRules &rules, int64_t keys)
{
    return keys <= rules.kept_keys;
}

/// Tiles of one sequence and group of heads that a task of the first pass computes: every `step`-th from `first` on.
struct Chain {
    int64_t sequence, group;
    int64_t first, step;
    int64_t sums; ///< Place of its sums; -1: it has none.
};

Chain chain_of(const ScheduleRules &rules, const Sequences &sequences, const MassStart *starts, int64_t index) noexcept;

/// Adds up what the chains have of the keys of a task.
void add_chains(const ScheduleRules &rules, const Sequences &sequences, const MassStart *starts, const MassTask &task,
                const double *chain_sums, double *sums) noexcept;

MassTask mass_task(const ScheduleRules &rules, const Sequences &sequences, const MassStart *starts,
                   int64_t index) noexcept;

/// Writes the sums of a task, `sums` being double [heads of the group][key_block].
void write_mass(const Bytes &mass, bool packed, const ScheduleRules &rules, const Sequences &sequences,
                const MassTask &task, const double *sums) noexcept;

} // namespace attn::cpu

#endif

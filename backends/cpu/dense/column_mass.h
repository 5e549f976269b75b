// COLUMN_MASS: what the rows weigh each key, summed over the rows. A second pass, once the first has left what turns
// the scores of a row into its weights: a task owns a block of keys of one sequence and group of heads, computes the
// scores of every row against it once more, and writes the sums. No two tasks share a sum, and a task adds in a fixed
// order.
#ifndef ATTN_BACKENDS_CPU_DENSE_COLUMN_MASS_H
#define ATTN_BACKENDS_CPU_DENSE_COLUMN_MASS_H

#include "backends/cpu/dense/schedule.h"
#include "backends/cpu/dense/sequences.h"
#include "backends/cpu/views.h"

namespace attn::cpu {

/// What comes before a sequence.
struct MassStart {
    int64_t tasks, rows;
};

/// The keys and heads of one task.
struct MassTask {
    int64_t sequence, group;
    int64_t key_begin, key_end;
};

/// What the second pass adds to the rules.
void set_mass_rules(const DenseProblem &problem, ScheduleRules *rules) noexcept;

/// Fills starts[0 .. batch] and returns the number of tasks.
int64_t count_mass_tasks(const ScheduleRules &rules, const Sequences &sequences, MassStart *starts) noexcept;

MassTask mass_task(const ScheduleRules &rules, const Sequences &sequences, const MassStart *starts,
                   int64_t index) noexcept;

/// Writes the sums of a task, `sums` being double [heads of the group][key_block].
void write_mass(const Bytes &mass, bool packed, const ScheduleRules &rules, const Sequences &sequences,
                const MassTask &task, const double *sums) noexcept;

} // namespace attn::cpu

#endif

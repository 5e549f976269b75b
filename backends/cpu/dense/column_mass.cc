#include "backends/cpu/dense/column_mass.h"

#include <algorithm>
#include <cstring>

namespace attn::cpu {

void set_mass_rules(const DenseProblem &problem, ScheduleRules *rules) noexcept
{
    if (!problem.has(ATTN_SLOT_COLUMN_MASS)) return;
    rules->start_bytes = sizeof(MassStart);
    if (problem.activation == ATTN_SOFTMAX)
        rules->scale_bytes = problem.heads_out * static_cast<int64_t>(sizeof(RowScale));
    int64_t bytes = 0; // of no more sums than a workspace can hold
    if (__builtin_mul_overflow(rules->group, rules->key_block * static_cast<int64_t>(sizeof(double)), &bytes))
        bytes = kLargestExtent;
    rules->sum_bytes = static_cast<size_t>(std::min(bytes, kLargestExtent));
}

int64_t count_mass_tasks(const ScheduleRules &rules, const Sequences &sequences, MassStart *starts) noexcept
{
    const int64_t chains = most_chains(rules, sequences.batch());
    starts[0] = {0, 0, 0, 0};
    for (int64_t b = 0; b < sequences.batch(); ++b) {
        const Sequence sequence = sequences[b];
        const int64_t blocks = (sequence.k_length + rules.key_block - 1) / rules.key_block;
        const int64_t tiles = tiles_of(rules, sequence.q_length);
        const bool kept = is_kept(rules, sequence.k_length);
        const int64_t runs = rules.groups * (kept ? std::min(tiles, chains) : tiles);
        starts[b + 1] = {starts[b].tasks + rules.groups * blocks, starts[b].rows + sequence.q_length,
                         starts[b].runs + runs,
                         starts[b].sums + (kept ? runs * rules.group * chain_step(sequence.k_length) : 0)};
    }
    return starts[sequences.batch()].tasks;
}

Chain chain_of(const ScheduleRules &rules, const Sequences &sequences, const MassStart *starts, int64_t index) noexcept
{
    const auto begins_later = [](int64_t run, const MassStart &start) { return run < start.runs; };
    Chain chain = {};
    chain.sequence = std::upper_bound(starts, starts + sequences.batch() + 1, index, begins_later) - starts - 1;
    const MassStart *start = starts + chain.sequence;
    chain.step = (start[1].runs - start->runs) / rules.groups;
    const int64_t local = index - start->runs, keys = sequences[chain.sequence].k_length;
    chain.group = local / chain.step;
    chain.first = local % chain.step;
    chain.sums = is_kept(rules, keys) ? start->sums + local * rules.group * chain_step(keys) : -1;
    return chain;
}

void add_chains(const ScheduleRules &rules, const Sequences &sequences, const MassStart *starts, const MassTask &task,
                const double *chain_sums, double *sums) noexcept
{
    const MassStart *start = starts + task.sequence;
    const int64_t chains = (start[1].runs - start->runs) / rules.groups;
    const int64_t step = chain_step(sequences[task.sequence].k_length);
    const double *from = chain_sums + start->sums + task.group * chains * rules.group * step;
    for (int64_t row = 0; row < chains * rules.group; ++row, from += step) {
        double *sum = sums + row % rules.group * rules.key_block;
        for (int64_t key = task.key_begin; key < task.key_end; ++key) sum[key - task.key_begin] += from[key];
    }
}

MassTask mass_task(const ScheduleRules &rules, const Sequences &sequences, const MassStart *starts,
                   int64_t index) noexcept
{
    const auto begins_later = [](int64_t task, const MassStart &start) { return task < start.tasks; };
    MassTask task = {};
    task.sequence = std::upper_bound(starts, starts + sequences.batch() + 1, index, begins_later) - starts - 1;
    const int64_t blocks = (starts[task.sequence + 1].tasks - starts[task.sequence].tasks) / rules.groups;
    const int64_t local = index - starts[task.sequence].tasks;
    task.group = local / blocks;
    task.key_begin = local % blocks * rules.key_block;
    task.key_end = std::min(task.key_begin + rules.key_block, sequences[task.sequence].k_length);
    return task;
}

void write_mass(const Bytes &mass, bool packed, const ScheduleRules &rules, const Sequences &sequences,
                const MassTask &task, const double *sums) noexcept
{
    // [head, row of K] or [batch, head, key]
    const int64_t head_step = mass.step[packed ? 0 : 1], key_step = mass.step[packed ? 1 : 2];
    char *first = mass.at(packed ? sequences[task.sequence].k_first * key_step : task.sequence * mass.step[0]);
    for (int64_t h = 0; h < rules.group; ++h) {
        char *row = first + (task.group * rules.group + h) * head_step;
        const double *sum = sums + h * rules.key_block;
        for (int64_t key = task.key_begin; key < task.key_end; ++key) {
            const float value = static_cast<float>(sum[key - task.key_begin]);
            std::memcpy(row + key * key_step, &value, sizeof value);
        }
    }
}

} // namespace attn::cpu

#include "backends/cpu/dense/key_rows.h"

namespace attn::cpu {

KeyRows key_rows(const DenseProblem &problem, const Sequences &sequences, const Bytes &bytes, const Sequence &sequence,
                 int64_t b, int64_t head, bool has_heads) noexcept
{
    KeyRows rows = {};
    rows.channel_step = bytes.channel_step;
    switch (problem.storage) {
    case Storage::batched:
        rows.base = bytes.at(b * bytes.step[0] + (has_heads ? head * bytes.step[2] : 0));
        rows.row_step = bytes.step[1];
        break;
    case Storage::packed:
        rows.base = bytes.at(sequence.k_first * bytes.step[0] + (has_heads ? head * bytes.step[1] : 0));
        rows.row_step = bytes.step[0];
        break;
    case Storage::paged:
        rows.base = bytes.at(has_heads ? head * bytes.step[2] : 0);
        rows.page_step = bytes.step[0];
        rows.row_step = bytes.step[1];
        rows.page_size = problem.page_size;
        rows.table = sequence.table;
        rows.table_step = sequences.table_step();
        rows.table_wide = sequences.table_wide();
        break;
    }
    return rows;
}

void set_tile_ids(const DenseProblem &problem, const Arguments &arguments, const Sequences &sequences,
                  const Sequence &sequence, int64_t b, TileIds *ids) noexcept
{
    for (const MaskPair &pair : problem.program.pairs) {
        TileIds &tile = *ids++;
        tile = {};
        if (pair.q) {
            const int position = problem.find(ATTN_SLOT_IDS_Q, pair.index);
            const Bytes bytes(*arguments.view[position]);
            tile.q = bytes.at((problem.packed_q ? sequence.q_first : b) * bytes.step[0]);
            tile.q_step = bytes.step[problem.packed_q ? 0 : 1];
            tile.q_wide = problem.tensors[static_cast<size_t>(position)].dtype == ATTN_INT64;
        }
        if (pair.kv) {
            const int position = problem.find(ATTN_SLOT_IDS_KV, pair.index);
            tile.k = key_rows(problem, sequences, Bytes(*arguments.view[position]), sequence, b, 0, false);
            tile.k_wide = problem.tensors[static_cast<size_t>(position)].dtype == ATTN_INT64;
        }
    }
}

void set_program(const MaskProgram &program, ForwardShape *shape) noexcept
{
    shape->program = program.terms.data(), shape->program_terms = static_cast<int64_t>(program.terms.size());
    shape->program_parameters = program.parameters.data();
    shape->program_depth = program.depth, shape->program_pairs = static_cast<int64_t>(program.pairs.size());
    shape->program_words = program.present() ? (shape->key_block + 63) / 64 : 0;
    shape->program_by_head = program.by_head, shape->program_by_position = program.by_position;
}

} // namespace attn::cpu

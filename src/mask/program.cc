#include "mask/program.h"

#include "json.h"
#include "mask/atom_table.h"
#include "names.h"

#include <array>

namespace attn {
namespace {

using mask::Bound;
using mask::Coverage;
using mask::Range;
using mask::Value;

/// The values of one query and key.
struct PairValues {
    const MaskSequence &sequence;
    int64_t h, i, j;

    int64_t of(Value value, int32_t pair) const
    {
        switch (value) {
        case Value::row_index:
            return i;
        case Value::row_level:
            return i + sequence.tk - sequence.tq;
        case Value::row_position:
            return sequence.positions_q[i];
        case Value::row_id:
            return sequence.ids_q[pair][i];
        case Value::head:
            return h;
        case Value::key_index:
            return j;
        case Value::key_position:
            return sequence.positions_kv[j];
        case Value::key_id:
            return sequence.ids_kv[pair][j];
        default:
            return 0;
        }
    }
};

/// The ranges of a tile, for one of its heads.
struct TileRanges {
    const MaskTile &tile;
    int64_t h;

    Range of(Value value, int32_t pair) const
    {
        const int64_t shift = tile.tk - tile.tq;
        switch (value) {
        case Value::row_index:
            return tile.rows;
        case Value::row_level:
            return {tile.rows.least + shift, tile.rows.most + shift};
        case Value::row_position:
            return tile.positions_q;
        case Value::row_id:
            return tile.ids_q[pair];
        case Value::head:
            return {h, h};
        case Value::key_index:
            return tile.keys;
        case Value::key_position:
            return tile.positions_kv;
        case Value::key_id:
            return tile.ids_kv[pair];
        default:
            return {0, 0};
        }
    }
};

/// Bounds of the terms, resolved as they are asked for.
struct Resolver {
    const MaskProgram &program;
    int64_t h, tq, tk;

    Bound operator()(int32_t n) const
    {
        return mask::resolve(program.terms[static_cast<size_t>(n)], program.parameters.data(), program.heads, h, tq,
                             tk);
    }
};

} // namespace

bool visible(const MaskProgram &program, const MaskSequence &sequence, int64_t h, int64_t i, int64_t j)
{
    return mask::evaluate(program.terms.data(), static_cast<int32_t>(program.terms.size()),
                          Resolver{program, h, sequence.tq, sequence.tk}, PairValues{sequence, h, i, j});
}

Coverage classify(const MaskProgram &program, const MaskTile &tile)
{
    Coverage result = Coverage::partial;
    const int64_t last = program.by_head ? tile.heads.most : tile.heads.least;
    for (int64_t h = tile.heads.least; h <= last; ++h) {
        const Coverage coverage = mask::classify(program.terms.data(), static_cast<int32_t>(program.terms.size()),
                                                 Resolver{program, h, tile.tq, tile.tk}, TileRanges{tile, h});
        if (h != tile.heads.least && coverage != result) return Coverage::partial;
        result = coverage;
    }
    return result;
}

void describe_terms(JsonWriter &json, const MaskProgram &program)
{
    for (size_t n = 0; n < program.terms.size(); ++n) {
        const mask::Term &term = program.terms[n];
        const GivenTerm &given = program.given[n];
        json.open();
        json.add("op", mask_term_name(given.op));
        if (given.align != ATTN_ALIGN_NONE) json.add("align", align_name(given.align));
        if (given.axis != 0) json.add("axis", static_cast<int64_t>(given.axis));
        const mask::Parameter *first = program.parameters.data() + term.parameter;
        if (term.parameter_count > given.columns) {
            json.open_array("p");
            for (int64_t c = 0; c < term.parameter_count; ++c)
                json.add(nullptr, static_cast<int64_t>(first[c].integer));
            json.close_array();
            if (given.columns == 0 && first->slope != 0) json.add("f", first->slope);
        }
        if (given.columns != 0) {
            json.add("columns", given.columns);
            bool grows = false;
            json.open_array("values");
            for (int64_t row = 0; row < term.parameter_rows; ++row)
                for (int64_t c = 0; c < given.columns; ++c) {
                    const mask::Parameter &p = first[row * term.parameter_count + c];
                    json.add(nullptr, p.value); // null: no limit
                    grows |= p.slope != 0;
                }
            json.close_array();
            if (grows) {
                json.open_array("slopes");
                for (int64_t row = 0; row < term.parameter_rows; ++row)
                    for (int64_t c = 0; c < given.columns; ++c)
                        json.add(nullptr, first[row * term.parameter_count + c].slope);
                json.close_array();
            }
        }
        json.close();
    }
}

} // namespace attn

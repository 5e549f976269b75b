// Mask programs on a block of keys: what the program may be there at all, and where that does not decide, a bit for
// each row and key.
//
// Sets of keys are words of 64 bits, and operators work on words. Of an atom that goes by the index of the key a word
// takes a few instructions; one by ids or positions compares 64 numbers, unless the range of those of the block, or a
// row that sees all or none of it, decides.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_PROGRAM_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_PROGRAM_H

#include "backends/cpu/dense/tile_memory.h"

namespace attn::cpu {
namespace {

using mask::Bound;
using mask::Coverage;
using mask::Kind;
using mask::Range;
using mask::Value;

typedef int64_t VecLong __attribute__((vector_size(kWidth * 4)));
constexpr int kLongs = kWidth / 2;

/// Values of the rows of a tile and of a block of keys: numbers of one row, or ranges of all.
struct RowValues {
    const ForwardTile &tile;
    int64_t token, head;

    int64_t of(Value value, int32_t pair) const
    {
        switch (value) {
        case Value::row_index:
            return token;
        case Value::row_level:
            return token + tile.k_length - tile.q_length;
        case Value::row_position:
            return read_integer(tile.q_positions + token * tile.q_position_step, tile.q_positions_wide);
        case Value::row_id:
            return read_integer(tile.ids[pair].q + token * tile.ids[pair].q_step, tile.ids[pair].q_wide);
        case Value::head:
            return head;
        default:
            return 0;
        }
    }
};

struct BlockRanges {
    const Scratch &scratch;
    int64_t head;
    Range tokens, keys;
    int64_t shift; ///< Of the bottom right diagonal.

    Range of(Value value, int32_t pair) const
    {
        const ProgramScratch &program = scratch.program;
        switch (value) {
        case Value::row_index:
            return tokens;
        case Value::row_level:
            return {tokens.least + shift, tokens.most + shift};
        case Value::row_position:
            return *program.row_positions;
        case Value::row_id:
            return program.row_ids[pair];
        case Value::head:
            return {head, head};
        case Value::key_index:
            return keys;
        case Value::key_position:
            return {scratch.position.least(), scratch.position.most()};
        case Value::key_id:
            return program.key_ids[pair];
        default:
            return {0, 0};
        }
    }
};

ATTN_INLINE bool has_program(const ForwardShape &shape)
{
    return shape.program_terms > 0;
}

/// Heads that are told apart: row r of the tile has the bounds of slot r % slots.
ATTN_INLINE int64_t program_slots(const ForwardShape &shape, const ForwardTile &tile)
{
    return shape.program_by_head ? smaller_of(shape.group, tile.rows) : 1;
}

ATTN_INLINE void widen(Range *range, int64_t value)
{
    range->least = smaller_of(range->least, value), range->most = larger_of(range->most, value);
}

/// Once for each tile: the bounds of the atoms for its heads, and the ranges of what its rows have.
inline void begin_program(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch)
{
    if (!has_program(shape)) return;
    const ProgramScratch &program = scratch.program;
    *program.by_bits = false;
    const int64_t slots = program_slots(shape, tile), count = shape.program_terms;
    for (int64_t slot = 0; slot < slots; ++slot)
        for (int64_t n = 0; n < count; ++n)
            if (mask::is_atom(shape.program[n]))
                program.bounds[slot * count + n] =
                    mask::resolve(shape.program[n], shape.program_parameters, shape.heads_out,
                                  RowPlace(shape, tile, slot).head, tile.q_length, tile.k_length);
    const int64_t first = tile.first_row / shape.group, last = (tile.first_row + tile.rows - 1) / shape.group;
    constexpr Range kNone = {INT64_MAX, INT64_MIN};
    if (shape.program_by_position) {
        *program.row_positions = kNone;
        for (int64_t token = first; token <= last; ++token)
            widen(program.row_positions, RowValues{tile, token, 0}.of(Value::row_position, 0));
    }
    for (int32_t pair = 0; pair < shape.program_pairs; ++pair) {
        program.row_ids[pair] = kNone;
        for (int64_t token = first; token <= last && tile.ids[pair].q; ++token)
            widen(program.row_ids + pair, RowValues{tile, token, 0}.of(Value::row_id, pair));
    }
}

ATTN_INLINE int64_t *key_ids(const ForwardShape &shape, const Scratch &scratch, int64_t pair)
{
    return scratch.program.values + pair * 64 * shape.program_words;
}

/// The ids of a block of keys, and their ranges.
inline void read_ids(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                     int64_t length)
{
    for (int64_t pair = 0; pair < shape.program_pairs; ++pair) {
        const TileIds &ids = tile.ids[pair];
        if (!ids.k.base) continue;
        int64_t *values = key_ids(shape, scratch, pair);
        Range range = {INT64_MAX, INT64_MIN};
        for (int64_t j = 0; j < length; ++j) {
            values[j] = read_integer(key_row(ids.k, block + j), ids.k_wide);
            widen(&range, values[j]);
        }
        for (int64_t j = length; j < 64 * shape.program_words; ++j) values[j] = 0; // read, but not used
        scratch.program.key_ids[pair] = range;
    }
}

/// What the program may be on the tile and the block.
inline Coverage classify_block(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch,
                               int64_t block, int64_t length)
{
    const int64_t slots = program_slots(shape, tile), count = shape.program_terms;
    BlockRanges ranges = {scratch,
                          0,
                          {tile.first_row / shape.group, (tile.first_row + tile.rows - 1) / shape.group},
                          {block, block + length - 1},
                          tile.k_length - tile.q_length};
    Coverage result = Coverage::partial;
    for (int64_t slot = 0; slot < slots; ++slot) {
        const Bound *bounds = scratch.program.bounds + slot * count;
        ranges.head = RowPlace(shape, tile, slot).head;
        const Coverage coverage = mask::classify(
            shape.program, static_cast<int32_t>(count), [&](int32_t n) { return bounds[n]; }, ranges);
        if (coverage == Coverage::partial || (slot > 0 && coverage != result)) return Coverage::partial;
        result = coverage;
    }
    return result;
}

/// Bits [begin, end) of a word, for places that may lie outside.
ATTN_INLINE uint64_t bits_between(int64_t begin, int64_t end)
{
    begin = clamp(begin, 0, 64), end = clamp(end, 0, 64);
    if (begin >= end) return 0;
    return (end == 64 ? ~uint64_t{0} : (uint64_t{1} << end) - 1) & ~uint64_t{0} << begin;
}

/// Bits of 64 numbers within limits.
inline uint64_t bits_within(const int64_t *values, int64_t low, int64_t high)
{
    int64_t lanes[kLongs];
    for (int i = 0; i < kLongs; ++i) lanes[i] = int64_t{1} << i;
    VecLong bit, sum = {};
    __builtin_memcpy(&bit, lanes, sizeof bit);
    for (int64_t j = 0; j < 64; j += kLongs) {
        VecLong value;
        __builtin_memcpy(&value, values + j, sizeof value);
        sum |= (value >= low) & (value <= high) & bit;
        bit <<= kLongs;
    }
    uint64_t word = 0;
    for (int i = 0; i < kLongs; ++i) word |= static_cast<uint64_t>(sum[i]);
    return word;
}

/// Bits of 64 keys from `first` whose number of units is of one residue: runs of a unit, a period apart.
inline uint64_t residue_bits(const Bound &bound, int64_t first)
{
    uint64_t word = 0;
    const int64_t unit = bound.unit, last = (first + 63) / unit;
    int64_t at = first / unit;
    const int64_t rest = at % bound.period;
    int64_t ahead = bound.low >= rest ? bound.low - rest : bound.period + (bound.low - rest);
    while (ahead <= last - at) {
        at += ahead;
        word |= bits_between(at * unit - first, at * unit - first + unit);
        ahead = bound.period;
    }
    return word;
}

/// Bits of 64 keys from `first` that are behind `level` by 0 or a power of two units.
inline uint64_t power_bits(const Bound &bound, int64_t level, int64_t first)
{
    const int64_t unit = bound.unit, at = mask::floor_divide(level, unit);
    uint64_t word = 0;
    for (int64_t back = 0; back <= at - first / unit; back = back == 0 ? 1 : 2 * back) {
        const int64_t begin = (at - back) * unit - first;
        word |= bits_between(begin, begin + unit);
        if (back > INT64_MAX / 2) break;
    }
    return word;
}

/// Likewise by position.
inline uint64_t power_bits(const Bound &bound, int64_t level, const int64_t *values)
{
    const int64_t at = mask::floor_divide(level, bound.unit);
    uint64_t word = 0;
    for (int j = 0; j < 64; ++j)
        if (mask::is_power(mask::subtract(at, mask::floor_divide(values[j], bound.unit)))) word |= uint64_t{1} << j;
    return word;
}

/// The words of an atom, for the keys of the block; bits beyond it may be anything.
inline void atom_words(const ForwardShape &shape, const Scratch &scratch, int64_t n, const Bound &bound,
                       const RowValues &row, int64_t block, uint64_t *words)
{
    const mask::Term &term = shape.program[n];
    const int64_t count = shape.program_words, y = row.of(term.y, term.pair);
    const auto fill = [&](uint64_t value) {
        for (int64_t w = 0; w < count; ++w) words[w] = value;
    };
    const Range limits = mask::limits_of(bound.low, bound.high, y);
    const int64_t low = limits.least, high = limits.most;
    switch (term.x) {
    case Value::key_index:
        for (int64_t w = 0; w < count; ++w) {
            const int64_t first = block + 64 * w;
            words[w] = term.kind == Kind::power ? power_bits(bound, y, first)
                                                : bits_between(saturating_subtract(low, first),
                                                               saturating_add(saturating_subtract(high, first), 1));
        }
        return;
    case Value::key_residue:
        for (int64_t w = 0; w < count; ++w) words[w] = residue_bits(bound, block + 64 * w);
        return;
    case Value::key_position:
    case Value::key_id: {
        const bool by_id = term.x == Value::key_id;
        const int64_t *values = by_id ? key_ids(shape, scratch, term.pair) : scratch.position.position;
        if (term.kind == Kind::power) {
            for (int64_t w = 0; w < count; ++w) words[w] = power_bits(bound, y, values + 64 * w);
            return;
        }
        const Range range =
            by_id ? scratch.program.key_ids[term.pair] : Range{scratch.position.least(), scratch.position.most()};
        if (range.most < low || high < range.least) return fill(0);
        if (low <= range.least && range.most <= high) return fill(~uint64_t{0});
        for (int64_t w = 0; w < count; ++w) words[w] = bits_within(values + 64 * w, low, high);
        return;
    }
    default: { // of the row alone
        const int64_t x = row.of(term.x, term.pair);
        return fill(low <= x && x <= high ? ~uint64_t{0} : 0);
    }
    }
}

/// Whether an atom has the same keys for every row of a head.
ATTN_INLINE bool is_of_keys(const mask::Term &term)
{
    return term.kind == Kind::interval && term.y == Value::zero && term.x >= Value::key_index;
}

/// The keys that a row sees by the program alone.
inline void evaluate_row(const ForwardShape &shape, const Scratch &scratch, const Bound *bounds, const RowValues &row,
                         int64_t block, uint64_t *words)
{
    const int64_t count = shape.program_words;
    uint64_t *top = scratch.program.stack - count;
    for (int64_t n = 0; n < shape.program_terms; ++n) {
        const mask::Term &term = shape.program[n];
        if (term.kind == Kind::complement) {
            for (int64_t w = 0; w < count; ++w) top[w] = ~top[w];
        } else if (!mask::is_atom(term)) {
            uint64_t *below = top - count;
            for (int64_t w = 0; w < count; ++w)
                below[w] = term.kind == Kind::conjunction ? below[w] & top[w] : below[w] | top[w];
            top = below;
        } else {
            top += count;
            if (is_of_keys(term))
                for (int64_t w = 0; w < count; ++w) top[w] = scratch.program.constants[n * count + w];
            else
                atom_words(shape, scratch, n, bounds[n], row, block, top);
        }
    }
    for (int64_t w = 0; w < count; ++w) words[w] = top[w];
}

/// Bits of the rows of the tile, by the program alone.
inline void evaluate_rows(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block)
{
    const int64_t slots = program_slots(shape, tile), words = shape.program_words;
    for (int64_t slot = 0; slot < slots; ++slot) {
        const Bound *bounds = scratch.program.bounds + slot * shape.program_terms;
        const RowPlace at(shape, tile, slot);
        for (int64_t n = 0; n < shape.program_terms; ++n)
            if (is_of_keys(shape.program[n]))
                atom_words(shape, scratch, n, bounds[n], {tile, at.token, at.head}, block,
                           scratch.program.constants + n * words);
        int64_t token = -1;
        for (int64_t r = slot; r < tile.rows; r += shape.program_by_head ? shape.group : 1) {
            uint64_t *row = scratch.program.bits + r * words;
            const RowPlace place(shape, tile, r);
            if (place.token == token && !shape.program_by_head) // another head of the same token
                for (int64_t w = 0; w < words; ++w) row[w] = (row - words)[w];
            else
                evaluate_row(shape, scratch, bounds, {tile, place.token, place.head}, block, row);
            token = place.token;
        }
    }
}

} // namespace
} // namespace attn::cpu

#endif

// Which keys a row sees, and which part of a block of keys concerns some rows.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_MASK_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_MASK_H

#include "backends/cpu/dense/tile_program.h"

namespace attn::cpu {
namespace {

inline RowMask mask_of_row(const ForwardShape &shape, const ForwardTile &tile, int64_t row)
{
    const RowPlace at(shape, tile, row);
    const int64_t token = at.token;
    RowMask mask;
    // A row that its head weight makes 0 need not be computed if nothing else is wanted of it.
    if (tile.head_weight.base && tile.out && !tile.lse.base && !tile.row_max.base && !tile.row_entropy.base &&
        !tile.row_scale.base && !tile.sums &&
        read_float(token_row(tile.head_weight, token, at.head), Element::float32) == 0.0f)
        return {0, 0, 0, INT64_MIN};
    if (shape.by_position) {
        const int64_t at = read_integer(tile.q_positions + token * tile.q_position_step, tile.q_positions_wide);
        mask.limit = shape.causal ? at : INT64_MAX;
        mask.begin = shape.has_left ? saturating_add(at, -shape.left) : INT64_MIN;
        mask.end = shape.has_right ? saturating_add(at, shape.right) : INT64_MAX;
        mask.sinks = shape.sink_tokens;
        return mask;
    }
    const int64_t diagonal = token + tile.diagonal;
    const int64_t limit = shape.causal ? smaller_of(tile.k_length, diagonal + 1) : tile.k_length;
    mask.limit = limit;
    mask.begin = shape.has_left ? larger_of(0, diagonal - shape.left) : 0;
    mask.end = shape.has_right ? smaller_of(limit, diagonal + shape.right + 1) : limit;
    mask.sinks = smaller_of(shape.sink_tokens, limit);
    if (mask.begin >= mask.end) mask.begin = mask.end = larger_of(mask.sinks, 0);
    if (mask.sinks >= mask.begin && mask.sinks > 0) { // the two ranges meet
        mask.begin = 0;
        mask.end = larger_of(mask.end, mask.sinks);
        mask.sinks = 0;
    }
    return mask;
}

/// Keys of a block that some row sees, as offsets in the block, and whether every row sees all of them.
struct Hull {
    int64_t begin, end;
    bool full;
};

/// Of `rows` masks by index.
inline Hull hull_of(const RowMask *masks, int64_t rows, int64_t block, int64_t length)
{
    int64_t begin = length, end = 0;
    for (int64_t r = 0; r < rows; ++r) {
        const int64_t low = larger_of(masks[r].begin - block, 0), high = smaller_of(masks[r].end - block, length);
        if (low < high) begin = smaller_of(begin, low), end = larger_of(end, high);
        const int64_t sinks = smaller_of(masks[r].sinks - block, length);
        if (sinks > 0) begin = 0, end = larger_of(end, sinks);
    }
    bool full = true;
    for (int64_t r = 0; r < rows; ++r)
        full &= (masks[r].begin - block <= begin && masks[r].end - block >= end) || masks[r].sinks - block >= end;
    return {begin, end, full};
}

ATTN_INLINE bool sees_position(const RowMask &mask, int64_t key, int64_t position)
{
    return position <= mask.limit && ((mask.begin <= position && position <= mask.end) || key < mask.sinks);
}

/// Of `rows` masks by position. Between keys that some row sees there may be others.
inline Hull hull_by_position(const RowMask *masks, int64_t rows, int64_t block, int64_t length,
                             const KeyPositions &positions)
{
    RowMask any = {0, INT64_MAX, INT64_MIN, INT64_MIN}; // sees what some row sees, and perhaps more
    bool full = true;
    for (int64_t r = 0; r < rows; ++r) {
        const RowMask &mask = masks[r];
        any = {larger_of(any.sinks, mask.sinks), smaller_of(any.begin, mask.begin), larger_of(any.end, mask.end),
               larger_of(any.limit, mask.limit)};
        full &= positions.most() <= smaller_of(mask.limit, mask.end) && positions.least() >= mask.begin;
    }
    if (full) return {0, length, true};
    int64_t begin = 0, end = length;
    while (begin < end && !sees_position(any, block + begin, positions[begin])) ++begin;
    while (begin < end && !sees_position(any, block + end - 1, positions[end - 1])) --end;
    return {begin, end, false};
}

/// Whether what is visible has been put into bits.
ATTN_INLINE bool by_bits(const ForwardShape &shape, const Scratch &scratch)
{
    return has_program(shape) && *scratch.program.by_bits;
}

ATTN_INLINE const uint64_t *row_bits(const ForwardShape &shape, const Scratch &scratch, int64_t row)
{
    return scratch.program.bits + row * shape.program_words;
}

/// Whether a row of the tile sees key j of the block.
ATTN_INLINE bool sees(const ForwardShape &shape, const Scratch &scratch, int64_t row, int64_t block, int64_t j)
{
    if (by_bits(shape, scratch)) return row_bits(shape, scratch, row)[j / 64] >> j % 64 & 1;
    const RowMask &mask = scratch.mask[row];
    if (shape.by_position) return sees_position(mask, block + j, scratch.position[j]);
    return block + j < mask.sinks || (mask.begin <= block + j && block + j < mask.end);
}

/// The keys of the block that a row may see without a program, as words.
inline void and_mask(const ForwardShape &shape, const Scratch &scratch, const RowMask &mask, int64_t block,
                     int64_t length, uint64_t *words)
{
    for (int64_t w = 0; w < shape.program_words; ++w) {
        const int64_t first = block + 64 * w;
        const auto between = [&](int64_t begin, int64_t end) {
            return bits_between(saturating_subtract(begin, first), saturating_subtract(end, first));
        };
        uint64_t seen = between(0, mask.sinks);
        if (!shape.by_position) {
            seen |= between(mask.begin, mask.end);
        } else {
            const int64_t *position = scratch.position.position + 64 * w;
            seen |= bits_within(position, mask.begin, mask.end);
            seen &= bits_within(position, INT64_MIN, mask.limit);
        }
        words[w] &= seen & between(0, block + length);
    }
}

/// Keys that some of the rows see, and whether all see all of them, by bits.
inline Hull hull_by_bits(const ForwardShape &shape, const Scratch &scratch, int64_t first, int64_t rows)
{
    const int64_t count = shape.program_words;
    int64_t begin = 64 * count, end = 0;
    uint64_t every[kMostKeysPerBlock / 64];
    for (int64_t w = 0; w < count; ++w) {
        uint64_t some = 0;
        every[w] = ~uint64_t{0};
        for (int64_t r = first; r < first + rows; ++r) {
            const uint64_t word = row_bits(shape, scratch, r)[w];
            some |= word, every[w] &= word;
        }
        if (some == 0) continue;
        begin = smaller_of(begin, 64 * w + __builtin_ctzll(some));
        end = 64 * w + 64 - __builtin_clzll(some);
    }
    bool full = true;
    for (int64_t w = 0; w < count; ++w) full &= (bits_between(begin - 64 * w, end - 64 * w) & ~every[w]) == 0;
    return {begin, end, full};
}

/// Positions of the keys of a block; those up to `padded` are read, but not used.
inline void read_positions(const ForwardTile &tile, int64_t block, int64_t length, int64_t padded,
                           const KeyPositions &positions)
{
    int64_t least = INT64_MAX, most = INT64_MIN;
    for (int64_t j = 0; j < length; ++j) {
        const int64_t position = read_integer(key_row(tile.k_positions, block + j), tile.k_positions_wide);
        positions.position[j] = position;
        least = smaller_of(least, position), most = larger_of(most, position);
    }
    for (int64_t j = length; j < padded; ++j) positions.position[j] = 0;
    positions.range[0] = least, positions.range[1] = most;
    if (!positions.near()) return;
    for (int64_t j = 0; j < round_up(length, kWidth); ++j)
        positions.offset[j] = j < length ? static_cast<int32_t>(positions[j] - least) : 0;
}

ATTN_INLINE void fill_lowest(float *s, int64_t begin, int64_t end)
{
    for (int64_t j = begin; j < end; ++j) s[j] = kLowest;
}

/// Scores of keys [begin, end) of the block that the row does not see become -inf.
inline void mask_by_position(const RowMask &mask, const KeyPositions &positions, int64_t block, int64_t begin,
                             int64_t end, float *s)
{
    if (!positions.near()) {
        for (int64_t j = begin; j < end; ++j)
            if (!sees_position(mask, block + j, positions[j])) s[j] = kLowest;
        return;
    }
    const auto offset = [&](int64_t position) { // of positions out of reach one that is
        return static_cast<int32_t>(clamp(saturating_subtract(position, positions.least()), -1, kFarthest + 1));
    };
    const int32_t limit = offset(mask.limit), first = offset(mask.begin), last = offset(mask.end);
    const auto sinks = static_cast<int32_t>(clamp(mask.sinks - block, 0, end));
    const VecI lanes = lane_numbers();
    for (int64_t j = round_down(begin, kWidth); j < end; j += kWidth) {
        const VecI at = load_integers(positions.offset + j);
        const VecI in_window = (at >= first) & (at <= last), is_sink = lanes + static_cast<int32_t>(j) < sinks;
        store(s + j, ((in_window | is_sink) & (at <= limit)) != 0 ? load(s + j) : splat(kLowest));
    }
}

/// Likewise by bits.
inline void mask_by_bits(const uint64_t *bits, int64_t begin, int64_t end, float *s)
{
    const VecI lane_bits = (VecI{} + 1) << lane_numbers();
    for (int64_t j = round_down(begin, kWidth); j < end; j += kWidth) {
        const VecI seen = (VecI{} + static_cast<int32_t>(bits[j / 64] >> j % 64 & 0xffff)) & lane_bits;
        store(s + j, seen != 0 ? load(s + j) : splat(kLowest));
    }
}

/// Scores of a row of the tile that it does not see become -inf, for keys [begin, end) of the block.
inline void mask_row(const ForwardShape &shape, const Scratch &scratch, int64_t row, int64_t block, int64_t begin,
                     int64_t end, float *s)
{
    if (by_bits(shape, scratch)) return mask_by_bits(row_bits(shape, scratch, row), begin, end, s);
    const RowMask &mask = scratch.mask[row];
    if (shape.by_position) return mask_by_position(mask, scratch.position, block, begin, end, s);
    const int64_t sinks = larger_of(begin, smaller_of(end, mask.sinks - block));
    const int64_t from = larger_of(sinks, smaller_of(end, mask.begin - block));
    const int64_t to = larger_of(from, smaller_of(end, mask.end - block));
    fill_lowest(s, sinks, from);
    fill_lowest(s, to, end);
}

/// Of rows [first, first + rows) of the tile, once see_block() has been called for the block.
inline Hull hull_of_rows(const ForwardShape &shape, const Scratch &scratch, int64_t first, int64_t rows, int64_t block,
                         int64_t length)
{
    if (by_bits(shape, scratch)) return hull_by_bits(shape, scratch, first, rows);
    const RowMask *masks = scratch.mask + first;
    return shape.by_position ? hull_by_position(masks, rows, block, length, scratch.position)
                             : hull_of(masks, rows, block, length);
}

/// What the rows of the tile see of a block of keys, whose positions and ids it reads.
inline Hull see_block(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                      int64_t length)
{
    if (shape.by_position || shape.program_by_position)
        read_positions(tile, block, length, larger_of(length, 64 * shape.program_words), scratch.position);
    if (!has_program(shape)) return hull_of_rows(shape, scratch, 0, tile.rows, block, length);
    *scratch.program.by_bits = false;
    const Hull hull = hull_of_rows(shape, scratch, 0, tile.rows, block, length);
    if (hull.begin >= hull.end) return hull;
    read_ids(shape, tile, scratch, block, length);
    const Coverage coverage = classify_block(shape, tile, scratch, block, length);
    if (coverage == Coverage::skip) return {0, 0, false};
    if (coverage == Coverage::full) return hull;
    evaluate_rows(shape, tile, scratch, block);
    *scratch.program.by_bits = true;
    for (int64_t r = 0; r < tile.rows; ++r)
        and_mask(shape, scratch, scratch.mask[r], block, length, scratch.program.bits + r * shape.program_words);
    return hull_by_bits(shape, scratch, 0, tile.rows);
}

} // namespace
} // namespace attn::cpu

#endif

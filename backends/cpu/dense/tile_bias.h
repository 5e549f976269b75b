// Biases of the scores of one row: tensor, ALiBi, table.
//
// They are added to whole vectors on a grid that begins at key 0; what is added outside the hull is not used.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_BIAS_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_BIAS_H

#include "backends/cpu/dense/tile_ranks.h"

namespace attn::cpu {
namespace {

ATTN_INLINE Vec absolute(Vec v)
{
    return from_bits(bits(v) & 0x7fffffff);
}

inline void add_tensor_bias(const TokenRows &bias, const char *row, int64_t first, int64_t begin, int64_t end,
                            float factor, float *s)
{
    const int64_t bytes = element_bytes(bias.type);
    int64_t j = begin;
    if (bias.channel_step == bytes)
        for (; j + kWidth <= end; j += kWidth)
            store(s + j, load(s + j) + read_vector(row + (first + j) * bytes, bias.type) * factor);
    for (; j < end; ++j) s[j] += read_float(row + (first + j) * bias.channel_step, bias.type) * factor;
}

/// value(key) for each key of a vector within the hull, one by one.
template <class Value>
ATTN_INLINE Vec vector_of(int64_t j, const Hull &hull, Value value)
{
    float lanes[kWidth] = {};
    for (int64_t i = larger_of(j, hull.begin); i < smaller_of(j + kWidth, hull.end); ++i) lanes[i - j] = value(i);
    return load(lanes);
}

/// Adds slope * distance from the diagonal.
inline void add_alibi(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t token,
                      int64_t block, const Hull &hull, float slope, float *s)
{
    const int64_t rank = distance_rank(shape, tile, token);
    const auto add = [&](auto distances) {
        for (int64_t j = round_down(hull.begin, kWidth); j < hull.end; j += kWidth)
            store(s + j, load(s + j) + absolute(distances(j)) * slope);
    };
    if (!shape.by_position) {
        const Vec lanes = __builtin_convertvector(lane_numbers(), Vec);
        return add([&](int64_t j) { return lanes + static_cast<float>(block + j - rank); });
    }
    const int64_t shift = saturating_subtract(scratch.ranks->least, rank);
    if (are_positions(shape) && scratch.ranks->near && -kFarthest <= shift && shift <= kFarthest)
        return add([&](int64_t j) {
            return __builtin_convertvector(load_integers(scratch.offset + j) + static_cast<int32_t>(shift), Vec);
        });
    add([&](int64_t j) {
        return vector_of(
            j, hull, [&](int64_t key) { return static_cast<float>(saturating_subtract(scratch.position[key], rank)); });
    });
}

/// Adds factor * entry of the table.
inline void add_table(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, const RowPlace &at,
                      int64_t block, const Hull &hull, float factor, float *s)
{
    const BlockRanks &ranks = *scratch.ranks;
    const int64_t rank = token_rank(shape, tile, at.token);
    const int64_t begin = round_down(hull.begin, kWidth);
    if (ranks.width == 0) {
        const char *table = table_of_head(tile, at.head);
        for (int64_t j = begin; j < hull.end; j += kWidth) {
            const Vec bias = vector_of(j, hull, [&](int64_t key) {
                return look_up(shape, tile, table, saturating_subtract(key_rank(shape, scratch, block, key), rank));
            });
            store(s + j, load(s + j) + bias * factor);
        }
        return;
    }
    const float *slice = scratch.slice + (at.head - tile.head0) * scratch.slice_step;
    const auto shift = static_cast<int32_t>(
        clamp(saturating_subtract(saturating_subtract(ranks.least, rank), ranks.low), -kFarthest, kFarthest));
    const auto last = static_cast<int32_t>(ranks.width - 1);
    for (int64_t j = begin; j < hull.end; j += kWidth) {
        const int64_t first = scratch.offset[j] + shift;
        Vec bias;
        if (scratch.adjacent[j / kWidth] && first >= 0 && first + kWidth <= ranks.width) {
            bias = load(slice + first);
        } else {
            VecI entry = load_integers(scratch.offset + j) + shift;
            entry = entry < 0 ? VecI{} : entry;
            bias = gather(slice, entry > last ? VecI{} + last : entry);
        }
        store(s + j, load(s + j) + bias * factor);
    }
}

/// Adds factor * bias to the scores of the keys of the hull.
inline void add_bias(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t row,
                     int64_t block, const Hull &hull, float factor, float *s)
{
    const RowPlace at(shape, tile, row);
    if (tile.bias.base)
        add_tensor_bias(tile.bias, token_row(tile.bias, at.token, at.head), block, hull.begin, hull.end, factor, s);
    if (tile.slopes) {
        const float slope = -factor * read_float(tile.slopes + at.head * tile.slope_step, Element::float32);
        add_alibi(shape, tile, scratch, at.token, block, hull, slope, s);
    }
    if (shape.lookup != Lookup::none) add_table(shape, tile, scratch, at, block, hull, factor, s);
}

} // namespace
} // namespace attn::cpu

#endif

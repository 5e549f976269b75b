// Biases of the scores of one row: tensor, ALiBi, table.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_BIAS_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_BIAS_H

#include "backends/cpu/dense/tile_mask.h"

namespace attn::cpu {
namespace {

/// 0, 1, 2 ...
ATTN_INLINE Vec lane_numbers()
{
    float lanes[kWidth];
    for (int i = 0; i < kWidth; ++i) lanes[i] = static_cast<float>(i);
    return load(lanes);
}

/// Distance of key `key` of the block from the diagonal of a token: by index, or of positions.
ATTN_INLINE int64_t distance_of(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch,
                                int64_t token, int64_t q_position, int64_t block, int64_t key)
{
    if (!shape.by_position) return block + key - (token + tile.diagonal);
    return saturating_add(scratch.position[key], q_position == INT64_MIN ? INT64_MAX : -q_position);
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

/// Adds factor * bias to the scores of the keys of the hull.
inline void add_bias(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t row,
                     int64_t block, const Hull &hull, float factor, float *s)
{
    const RowPlace at(shape, tile, row);
    if (tile.bias.base)
        add_tensor_bias(tile.bias, token_row(tile.bias, at.token, at.head), block, hull.begin, hull.end, factor, s);
    const int64_t position =
        shape.by_position ? read_integer(tile.q_positions + at.token * tile.q_position_step, tile.q_positions_wide) : 0;
    const auto distance = [&](int64_t j) { return distance_of(shape, tile, scratch, at.token, position, block, j); };
    if (tile.slopes) {
        const float slope = -factor * read_float(tile.slopes + at.head * tile.slope_step, Element::float32);
        int64_t j = hull.begin;
        if (!shape.by_position)
            for (; j + kWidth <= hull.end; j += kWidth) {
                const Vec far = lane_numbers() + static_cast<float>(distance(j));
                store(s + j, load(s + j) + from_bits(bits(far) & 0x7fffffff) * slope);
            }
        for (; j < hull.end; ++j) s[j] += __builtin_fabsf(static_cast<float>(distance(j))) * slope;
    }
    if (shape.lookup == Lookup::none) return;
    const char *table = tile.table + at.head * tile.table_head_step;
    for (int64_t j = hull.begin; j < hull.end; ++j) {
        int64_t entry;
        if (shape.lookup == Lookup::grid) {
            entry =
                static_cast<int64_t>(shape.grid_offset[at.token]) - shape.grid_offset[block + j] + shape.grid_center;
        } else {
            const int64_t clamped = larger_of(-shape.max_distance, smaller_of(shape.max_distance, distance(j)));
            entry = shape.entry_of_distance[clamped + shape.max_distance];
        }
        s[j] += read_float(table + entry * tile.table_entry_step, Element::float32) * factor;
    }
}

} // namespace
} // namespace attn::cpu

#endif

// Ranks of the keys of a block: what ALiBi and bias tables subtract from each other, as vectors of 32-bit offsets; and
// the part of a bias table that the block needs, laid out so that the biases of a row are adjacent wherever the ranks
// of its keys are.
//
// The rank of a token or key is its position, its place on the diagonal, or, for a table by grid, its offset in the
// table. All rows of a tile look up differences of ranks from one short range, so a block takes them out of the table
// once for each head of the tile.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_RANKS_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_RANKS_H

#include "backends/cpu/dense/tile_mask.h"

namespace attn::cpu {
namespace {

ATTN_INLINE int64_t distance_rank(const ForwardShape &shape, const ForwardTile &tile, int64_t token)
{
    if (!shape.by_position) return token + tile.diagonal;
    return read_integer(tile.q_positions + token * tile.q_position_step, tile.q_positions_wide);
}

ATTN_INLINE int64_t token_rank(const ForwardShape &shape, const ForwardTile &tile, int64_t token)
{
    return shape.lookup == Lookup::grid ? shape.grid_offset[token] : distance_rank(shape, tile, token);
}

/// Of a key of the block.
ATTN_INLINE int64_t key_rank(const ForwardShape &shape, const Scratch &scratch, int64_t block, int64_t key)
{
    if (shape.lookup == Lookup::grid) return shape.grid_offset[block + key];
    return shape.by_position ? scratch.position[key] : block + key;
}

/// Whether the ranks are positions.
ATTN_INLINE bool are_positions(const ForwardShape &shape)
{
    return shape.by_position && shape.lookup != Lookup::grid;
}

/// Bias of a difference of ranks, key minus token. `table` is that of a head.
ATTN_INLINE float look_up(const ForwardShape &shape, const ForwardTile &tile, const char *table, int64_t difference)
{
    int64_t entry;
    if (shape.lookup == Lookup::grid)
        entry = shape.grid_center - difference;
    else
        entry =
            shape.entry_of_distance[clamp(difference, -shape.max_distance, shape.max_distance) + shape.max_distance];
    return read_float(table + entry * tile.table_entry_step, Element::float32);
}

ATTN_INLINE const char *table_of_head(const ForwardTile &tile, int64_t head)
{
    return tile.table + head * tile.table_head_step;
}

/// Takes differences from the least rank of a key minus the most of a token to the reverse, if they are few beside the
/// pairs that look them up; of many, those that a table by distance tells apart.
inline void take_slice(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t keys,
                       int64_t most_key)
{
    BlockRanks &ranks = *scratch.ranks;
    int64_t least = INT64_MAX, most = INT64_MIN;
    const int64_t last = (tile.first_row + tile.rows - 1) / shape.group;
    for (int64_t token = tile.first_row / shape.group; token <= last; ++token) {
        const int64_t rank = token_rank(shape, tile, token);
        least = smaller_of(least, rank), most = larger_of(most, rank);
    }
    const int64_t most_width = smaller_of(scratch.slice_step, tile.rows * keys / (2 * shape.group));
    int64_t low = saturating_subtract(ranks.least, most), high = saturating_subtract(most_key, least);
    if (saturating_subtract(high, low) >= most_width) {
        if (shape.lookup == Lookup::grid) return;
        low = clamp(low, -shape.max_distance, shape.max_distance);
        high = clamp(high, -shape.max_distance, shape.max_distance);
        if (high - low >= most_width) return;
    }
    ranks.low = low, ranks.width = high - low + 1;
    for (int64_t h = 0; h < shape.group; ++h) {
        const char *table = table_of_head(tile, tile.head0 + h);
        float *slice = scratch.slice + h * scratch.slice_step;
        for (int64_t n = 0; n < ranks.width; ++n) slice[n] = look_up(shape, tile, table, low + n);
    }
}

/// Ranks of the keys of the hull of a tile, where an option needs them.
inline void rank_keys(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                      const Hull &hull)
{
    if (shape.lookup == Lookup::none && !(tile.slopes && shape.by_position)) return;
    BlockRanks &ranks = *scratch.ranks;
    int64_t least = INT64_MAX, most = INT64_MIN;
    for (int64_t j = hull.begin; j < hull.end; ++j) {
        const int64_t rank = key_rank(shape, scratch, block, j);
        least = smaller_of(least, rank), most = larger_of(most, rank);
    }
    ranks.least = least;
    ranks.near = saturating_subtract(most, least) <= kFarthest;
    ranks.width = 0;
    if (!ranks.near) return;
    for (int64_t j = round_down(hull.begin, kWidth); j < hull.end; j += kWidth) {
        bool adjacent = true;
        for (int64_t i = j; i < j + kWidth; ++i) { // outside the hull as at its end: read, but not used
            const int64_t key = clamp(i, hull.begin, hull.end - 1);
            scratch.offset[i] = static_cast<int32_t>(key_rank(shape, scratch, block, key) - least);
            adjacent &= scratch.offset[i] == scratch.offset[j] + (i - j);
        }
        scratch.adjacent[j / kWidth] = adjacent;
    }
    if (shape.lookup != Lookup::none) take_slice(shape, tile, scratch, hull.end - hull.begin, most);
}

} // namespace
} // namespace attn::cpu

#endif

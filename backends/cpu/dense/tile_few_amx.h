// Both products of few rows with the tiles of AMX, where there are rows enough: K is read where it is, as rows of
// tiles.
//
//   for each 16 keys:     S^T[key][row] = k[key] . q[row]       Q packed once, as the other operand
//   for each 32 keys:     O[row] += P[row][key] * v[key]        V goes by pairs of keys through memory
//
// Tiles 0 and 1 are sums, 4 and 5 rows, 6 and 7 the other operand.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_FEW_AMX_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_FEW_AMX_H

#include "backends/cpu/dense/amx.h"
#include "backends/cpu/dense/tile_few_pairs.h"

namespace attn::cpu {
namespace {

constexpr int64_t kTiledKeys = 2 * kTileSide; ///< Of a tile of weights, in pairs.
constexpr int64_t kFewestTiledRows = 5;       ///< With fewer, dot products keep up with memory as well.

ATTN_INLINE bool is_tiled(const ForwardTile &tile)
{
    return tile.rows >= kFewestTiledRows;
}

/// In place of pack_few_q(): Q as [channel pair][kTileSide rows], where panels of K would be, which few rows do not
/// have.
inline void pack_few_tiles(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch)
{
    for (int64_t r = 0; r < tile.rows; ++r) {
        read_pairs(q_row(shape, tile, r), tile.q_channel_step, shape.dim_k, scratch.row + r * scratch.row_columns);
        scratch.factor[r] = score_factor(shape, tile, r);
    }
    for (int64_t c = 0; c < scratch.q_columns; c += kWidth) {
        Vec words[kWidth];
        for (int64_t r = 0; r < kWidth; ++r)
            words[r] = r < tile.rows ? load(scratch.row + r * scratch.row_columns + c) : Vec{};
        transpose(words);
        for (int64_t i = 0; i < kWidth; ++i) store(scratch.k + (c + i) * kTileSide, words[i]);
    }
}

/// Rows of a group as tiles are loaded: equally far apart.
struct SpacedRows {
    const float *first;
    int64_t bytes;

    /// Copied to `copy` where they are not.
    ATTN_INLINE SpacedRows(const KeyGroup &keys, const Scratch &scratch, float *copy)
        : first(reinterpret_cast<const float *>(keys.row[0])), bytes(keys.row[1] - keys.row[0])
    {
        bool even = true;
        for (int i = 2; i < kWidth; ++i) even &= keys.row[i] - keys.row[i - 1] == bytes;
        if (even) return;
        for (int64_t i = 0; i < kWidth; ++i)
            for (int64_t c = 0; c < scratch.q_columns; c += kWidth)
                store(copy + i * scratch.row_columns + c, load(reinterpret_cast<const float *>(keys.row[i]) + c));
        first = copy, bytes = scratch.row_columns * 4;
    }
};

/// Scores of all rows against a group of keys.
inline void score_tiled(const ForwardTile &tile, const Scratch &scratch, const KeyGroup &keys, NextLine &next, float *s)
{
    const SpacedRows rows(keys, scratch, scratch.row);
    const auto fetch = [&] {
        for (int i = 0; i < kWidth; ++i) next.fetch(0);
    };
    tile_zero<0>();
    tile_zero<1>();
    for (int64_t c = 0; c < scratch.q_columns; c += 2 * kWidth) { // two sums, as one would be waited for
        tile_load<4>(rows.first + c, rows.bytes);
        tile_load<6>(scratch.k + c * kTileSide, kTileBytes);
        tile_add_pair_products<0, 4, 6>();
        fetch();
        if (c + kWidth >= scratch.q_columns) break;
        tile_load<5>(rows.first + c + kWidth, rows.bytes);
        tile_load<7>(scratch.k + (c + kWidth) * kTileSide, kTileBytes);
        tile_add_pair_products<1, 5, 7>();
        fetch();
    }
    next.fetch_rest();
    alignas(64) float sums[2][kTileWords];
    tile_store<0>(sums[0], kTileBytes);
    tile_store<1>(sums[1], kTileBytes);
    Vec scores[kWidth];
    for (int i = 0; i < kWidth; ++i) scores[i] = load(sums[0] + i * kWidth) + load(sums[1] + i * kWidth);
    transpose(scores);
    for (int64_t r = 0; r < tile.rows; ++r) store(s + r * kRowStep, scores[r]);
}

/// Rows of V of a group, by pairs of keys, to half `half` of tiles of [key pair][16 channels].
inline void pair_values(const Scratch &scratch, const KeyGroup &keys, NextLine &next, int64_t half)
{
    float *place = scratch.v + half * (kTileWords / 2);
    for (int i = 0; i < kWidth; i += 2, place += kWidth)
        for (int64_t c = 0; c < scratch.o_columns; c += kChunk) {
            Vec low, high;
            interleave(load(reinterpret_cast<const float *>(keys.row[i]) + c / 2),
                       load(reinterpret_cast<const float *>(keys.row[i + 1]) + c / 2), &low, &high);
            next.fetch(0), next.fetch(0);
            store(place + c * kTileSide, low);
            store(place + (c + kWidth) * kTileSide, high);
        }
    next.fetch_rest();
}

/// Adds kTiledKeys keys that all rows see, by their weights at `p`, to what the block adds.
inline void weigh_tiled(const ForwardTile &tile, const Scratch &scratch, const float *p)
{
    alignas(64) float weights[kTileWords] = {};
    for (int64_t r = 0; r < tile.rows; ++r) store(weights + r * kWidth, load(p + r * kRowStep));
    tile_load<4>(weights, kTileBytes);
    const int64_t bytes = scratch.o_columns * 4;
    for (int64_t c = 0; c < scratch.o_columns; c += kChunk) {
        float *o = scratch.block_o + c;
        tile_load<0>(o, bytes);
        tile_load<6>(scratch.v + c * kTileSide, kTileBytes);
        tile_add_pair_products<0, 4, 6>();
        tile_load<1>(o + kWidth, bytes);
        tile_load<7>(scratch.v + (c + kWidth) * kTileSide, kTileBytes);
        tile_add_pair_products<1, 4, 7>();
        tile_store<0>(o, bytes);
        tile_store<1>(o + kWidth, bytes);
    }
}

} // namespace
} // namespace attn::cpu

#endif

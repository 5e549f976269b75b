// Both products of few rows with the tiles of AMX, where there are rows enough: K is read where it is, as rows of
// tiles.
//
//   for each 16 keys:     S^T[key][row] = k[key] . q[row]       Q packed once, as the other operand
//   for each 64 channels of V, for each 32 keys:
//                         O[row] += P[row][key] * v[key]        V goes by pairs of keys through memory
//
// A core waits for memory longer than it multiplies. So each loop fetches what the next one reads, evenly: near rows,
// as other kernels of few rows fetch them, would leave memory idle while the other product runs.
//
// Tiles 0 .. 3 are sums, or up to 128 channels of Q; 4 and 5 rows; 6 and 7 the other operand, or sums of scores.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_FEW_AMX_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_FEW_AMX_H

#include "backends/cpu/dense/amx.h"
#include "backends/cpu/dense/tile_few_lines.h"
#include "backends/cpu/dense/tile_few_pairs.h"

namespace attn::cpu {
namespace {

/// With fewer, dot products keep up with memory as well: 2 rows read at 22.6 GB/s, in tiles at 20.7.
constexpr int64_t kFewestTiledRows = 3;
constexpr int64_t kTiledKeys = 2 * kTileSide; ///< Of a tile of weights, in pairs.

ATTN_INLINE bool is_tiled(const ForwardTile &tile)
{
    return tile.rows >= kFewestTiledRows;
}

/// Calls run<0>() .. run<N - 1>().
template <int N, int Tile = 0, class Run>
ATTN_INLINE void each_tile(Run run)
{
    if constexpr (Tile < N) {
        run.template operator()<Tile>();
        each_tile<N, Tile + 1>(run);
    }
}

/// In place of pack_few_q().
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
        for (int64_t i = 0; i < kWidth; ++i) store(scratch.tiles.q + (c + i) * kTileSide, words[i]);
    }
}

/// A group of keys as tiles: chunk i at first + i * chunk_words.
struct KeyTiles {
    const float *first;
    int64_t row_bytes, chunk_words;

    /// Where they are, or copied where they are not equally far apart.
    ATTN_INLINE KeyTiles(const Scratch &scratch, const KeyGroup &keys)
        : first(reinterpret_cast<const float *>(keys.row[0])),
          row_bytes(keys.row[1] - keys.row[0]),
          chunk_words(kTileSide)
    {
        bool even = true;
        for (int i = 2; i < kWidth; ++i) even &= keys.row[i] - keys.row[i - 1] == row_bytes;
        if (even) return;
        for (int64_t c = 0; c < scratch.q_columns; c += kTileSide)
            for (int64_t i = 0; i < kWidth; ++i)
                store(scratch.tiles.k + (c + i) * kTileSide, load(reinterpret_cast<const float *>(keys.row[i]) + c));
        first = scratch.tiles.k, row_bytes = kTileBytes, chunk_words = kTileWords;
    }
};

/// Products of all rows with a group of keys to tile 6. The first Held chunks of Q are in registers.
template <int Held>
ATTN_INLINE void multiply_keys(const Scratch &scratch, const KeyTiles &keys, LineQueue &later)
{
    tile_zero<6>();
    each_tile<Held>([&]<int Chunk>() {
        constexpr int kRows = 4 + Chunk % 2;
        tile_load<kRows>(keys.first + Chunk * keys.chunk_words, keys.row_bytes);
        tile_add_pair_products<6, kRows, Chunk>();
        later.fetch(kWidth);
    });
    for (int64_t c = Held; c < scratch.q_columns / kTileSide; ++c) {
        tile_load<4>(keys.first + c * keys.chunk_words, keys.row_bytes);
        tile_load<5>(scratch.tiles.q + c * kTileWords, kTileBytes);
        tile_add_pair_products<6, 4, 5>();
        later.fetch(kWidth);
    }
}

/// Products of a group of keys, [key][row], to scores.
ATTN_INLINE void turn_scores(const float *products, int64_t rows, float *s)
{
    Vec scores[kWidth];
    for (int i = 0; i < kWidth; ++i) scores[i] = load(products + i * kWidth);
    transpose(scores);
    for (int64_t r = 0; r < rows; ++r) store(s + r * kRowStep, scores[r]);
}

/// Scores of the rows against the keys of a block, of which `group_at(first)` places those of a group.
template <int Held, class GroupAt>
inline void score_held(const Scratch &scratch, int64_t rows, const Hull &hull, GroupAt group_at, LineQueue &later)
{
    LineQueue next = later; // a copy, to be kept in registers
    each_tile<Held>([&]<int Chunk>() { tile_load<Chunk>(scratch.tiles.q + Chunk * kTileWords, kTileBytes); });
    // What is stored is not read right away, for which it would have to wait, but after the next products.
    alignas(64) float products[2][kTileWords];
    const int64_t begin = round_down(hull.begin, kWidth);
    int64_t first = begin;
    for (; first < hull.end; first += kWidth) {
        const KeyGroup group = group_at(first);
        multiply_keys<Held>(scratch, KeyTiles(scratch, group), next);
        tile_store<6>(products[first / kWidth % 2], kTileBytes);
        if (first > begin) turn_scores(products[(first / kWidth + 1) % 2], rows, scratch.s + first - kWidth);
    }
    turn_scores(products[(first / kWidth + 1) % 2], rows, scratch.s + first - kWidth);
    later = next;
}

template <class GroupAt>
inline void score_tiled(const Scratch &scratch, int64_t rows, const Hull &hull, GroupAt group_at, LineQueue &later)
{
    switch (scratch.q_columns / kTileSide) { // of 64 and 128 channels, which most heads have
    case 2:
        return score_held<2>(scratch, rows, hull, group_at, later);
    case 4:
        return score_held<4>(scratch, rows, hull, group_at, later);
    default:
        return score_held<0>(scratch, rows, hull, group_at, later);
    }
}

/// Rows of 32 keys, 16 N channels from channel `c` on, by pairs of keys to N tiles: of each 32 channels first the even
/// ones, then the odd ones, for which no unit has to shuffle.
template <int N>
ATTN_INLINE void pair_values(const char *const *rows, int64_t c, float *place, LineQueue &later)
{
    for (int i = 0; i < kTileSide; ++i, place += kTileSide) {
        const float *first = reinterpret_cast<const float *>(rows[2 * i] + 2 * c);
        const float *second = reinterpret_cast<const float *>(rows[2 * i + 1] + 2 * c);
        ATTN_UNROLL
        for (int t = 0; t < N; t += 2) {
            const VecI a = bits(load(first + t / 2 * kWidth)), b = bits(load(second + t / 2 * kWidth));
            store(place + t * kTileWords, from_bits((a & 0xffff) | b << 16));
            store(place + (t + 1) * kTileWords, from_bits((a >> 16 & 0xffff) | (b & INT32_C(-65536))));
            later.fetch(2);
        }
    }
}

/// Sums over keys [begin, end) of the block, whole tiles, of 16 N channels from channel `c` on, to
/// Scratch::tiles.o.
template <int N>
inline void weigh_channels(const Scratch &scratch, const char *const *rows, int64_t begin, int64_t end, int64_t c,
                           LineQueue &later)
{
    LineQueue next = later;
    each_tile<N>([]<int T>() { tile_zero<T>(); });
    // A tile is not loaded right after it is stored, for which it would have to wait: one ahead, in turns.
    float *v = scratch.tiles.v, *ahead = v + 4 * kTileWords;
    pair_values<N>(rows, c, v, next);
    for (int64_t key = begin; key < end; key += kTiledKeys) {
        rows += kTiledKeys;
        if (key + kTiledKeys < end) pair_values<N>(rows, c, ahead, next);
        tile_load<4>(scratch.p + key / 2, kRowStep * 4);
        each_tile<N>([&]<int T>() {
            constexpr int kValues = 6 + T % 2;
            tile_load<kValues>(v + T * kTileWords, kTileBytes);
            tile_add_pair_products<T, 4, kValues>();
        });
        float *used = v;
        v = ahead, ahead = used;
    }
    each_tile<N>([&]<int T>() { tile_store<T>(scratch.tiles.o + c + T * kTileSide, scratch.o_columns * 4); });
    later = next;
}

/// Adds what keys [begin, end) of the block, whole tiles that all rows see, weigh to what the block adds.
inline void weigh_tiled(const ForwardTile &tile, const Scratch &scratch, int64_t block, int64_t begin, int64_t end,
                        LineQueue &later)
{
    const char *rows[kMostKeysPerBlock];
    for (int64_t key = begin; key < end; key += kWidth) {
        const char *group[kWidth];
        place_rows(tile.v, block + key, block + begin, block + end, group);
        for (int i = 0; i < kWidth; ++i) rows[key - begin + i] = group[i];
    }
    const int64_t columns = scratch.o_columns;
    int64_t c = 0;
    for (; c + 64 <= columns; c += 64) weigh_channels<4>(scratch, rows, begin, end, c, later);
    if (c < columns) weigh_channels<2>(scratch, rows, begin, end, c, later);

    const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    for (int64_t r = 0; r < tile.rows; ++r)
        for (int64_t i = r * columns; i < (r + 1) * columns; i += kChunk) {
            const float *sum = scratch.tiles.o + i;
            const Vec even = load(sum), odd = load(sum + kWidth);
            float *o = scratch.block_o + i;
            store(o, load(o) + (Vec)_mm512_permutex2var_ps(even, low, odd));
            store(o + kWidth, load(o + kWidth) + (Vec)_mm512_permutex2var_ps(even, high, odd));
        }
}

} // namespace
} // namespace attn::cpu

#endif

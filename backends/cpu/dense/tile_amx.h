// Both products of a block of keys with the tiles of AMX: 16 rows, 16 columns and 16 pairs deep.
//
// Tiles 0 .. 3 are the sums of two tiles of rows and two of columns, 4 and 5 rows of Q or P, 6 and 7 panels of K or V.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_AMX_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_AMX_H

#include "backends/cpu/dense/amx.h"
#include "backends/cpu/dense/tile_weigh_pairs.h"

namespace attn::cpu {
namespace {

constexpr int64_t kScoreBytes = kRowStep * 4; ///< From row to row of S and P.

/// Sums over `depth` tiles, from a tile of rows at `a` (and one kTileSide rows further) and two of panels at `b`.
template <int M>
ATTN_INLINE void multiply(const float *a, int64_t a_bytes, const float *b, int64_t panel_step, int64_t depth)
{
    const float *below = a + kTileSide * a_bytes / 4;
    tile_zero<0>();
    tile_zero<1>();
    if constexpr (M == 32) {
        tile_zero<2>();
        tile_zero<3>();
    }
    for (int64_t k = 0; k < depth; ++k) {
        tile_load<6>(b + k * kTileWords, kTileBytes);
        tile_load<4>(a + k * kTileSide, a_bytes);
        tile_add_pair_products<0, 4, 6>();
        tile_load<7>(b + k * kTileWords + panel_step, kTileBytes);
        tile_add_pair_products<1, 4, 7>();
        if constexpr (M == 32) {
            tile_load<5>(below + k * kTileSide, a_bytes);
            tile_add_pair_products<2, 5, 6>();
            tile_add_pair_products<3, 5, 7>();
        }
    }
}

template <int M>
ATTN_INLINE void store_sums(float *c, int64_t row_bytes)
{
    tile_store<0>(c, row_bytes);
    tile_store<1>(c + kTileSide, row_bytes);
    if constexpr (M == 32) {
        float *below = c + kTileSide * row_bytes / 4;
        tile_store<2>(below, row_bytes);
        tile_store<3>(below + kTileSide, row_bytes);
    }
}

/// S = Q K^T, not scaled, for the strip at row `row` and the panels that hold keys [begin, end).
template <int M>
inline void score_strip(const ForwardShape &, const Scratch &scratch, int64_t row, int64_t begin, int64_t end)
{
    const int64_t pairs = scratch.q_columns;
    for (int64_t first = round_down(begin, kPanel); first < end; first += kPanel) {
        multiply<M>(scratch.q + row * pairs, pairs * 4, scratch.k + first * pairs, kWidth * pairs, pairs / kTileSide);
        store_sums<M>(scratch.s + first, kScoreBytes);
    }
}

/// O = O * alpha + sums for rows [from, to) of the strip at row `row` and two vectors of channels.
ATTN_INLINE void add_sums(const Scratch &scratch, const float *sums, int64_t row, int64_t from, int64_t to, int64_t c)
{
    for (int64_t m = from; m < to; ++m) {
        float *o = scratch.o + (row + m) * scratch.o_columns + c;
        ATTN_UNROLL
        for (int n = 0; n < kVectors; ++n)
            store(o + n * kWidth, load(o + n * kWidth) * scratch.alpha[m] + load(sums + m * kPanel + n * kWidth));
    }
}

/// O = O * alpha + P V for the strip at row `row`.
template <int M>
inline void weigh_strip(const ForwardShape &shape, const Scratch &scratch, int64_t row, int64_t begin, int64_t end)
{
    const int64_t panel_step = shape.key_block / 2 * kWidth;
    const int64_t from = round_down(begin, kPanel) / 2, depth = round_up(end, kPanel) / 2 - from;
    alignas(64) float sums[M * kPanel];
    for (int64_t c = 0; c < scratch.o_columns; c += kPanel) {
        multiply<M>(scratch.p + from, kScoreBytes, scratch.v + c / kWidth * panel_step + from * kWidth, panel_step,
                    depth / kTileSide);
        store_sums<M>(sums, kPanel * 4);
        add_sums(scratch, sums, row, 0, M, c);
    }
}

/// Likewise where V is not finite, row by row: keys that a row does not see count as 0, which adds the same bits as
/// finite ones.
template <int M>
inline void weigh_visible(const ForwardShape &shape, const Scratch &scratch, int64_t row, int64_t rows, int64_t block,
                          int64_t begin, int64_t end)
{
    const int64_t panel_step = shape.key_block / 2 * kWidth;
    alignas(64) float sums[M * kPanel], seen_v[2 * kTileWords];
    for (int64_t m = 0; m < rows; ++m) {
        const auto seen = [&](int64_t j) { return j >= begin && j < end && sees(shape, scratch, row + m, block, j); };
        for (int64_t c = 0; c < scratch.o_columns; c += kPanel) {
            tile_zero<0>();
            tile_zero<1>();
            for (int64_t first = round_down(begin, kPanel); first < end; first += kPanel) {
                for (int64_t j = 0; j < kPanel; j += 2) {
                    const uint32_t kept = (seen(first + j) ? 0xffffu : 0u) | (seen(first + j + 1) ? 0xffff0000u : 0u);
                    const float *v = scratch.v + c / kWidth * panel_step + (first + j) / 2 * kWidth;
                    float *place = seen_v + j / 2 * kWidth;
                    store(place, from_bits(bits(load(v)) & static_cast<int32_t>(kept)));
                    store(place + kTileWords, from_bits(bits(load(v + panel_step)) & static_cast<int32_t>(kept)));
                }
                tile_load<4>(scratch.p + m / kTileSide * kTileSide * kRowStep + first / 2, kScoreBytes);
                tile_load<6>(seen_v, kTileBytes);
                tile_load<7>(seen_v + kTileWords, kTileBytes);
                tile_add_pair_products<0, 4, 6>();
                tile_add_pair_products<1, 4, 7>();
            }
            store_sums<kTileSide>(sums + m / kTileSide * kTileSide * kPanel, kPanel * 4);
            add_sums(scratch, sums, row, m, m + 1, c);
        }
    }
}

} // namespace
} // namespace attn::cpu

#endif

// A block of keys against few query rows, as when decoding: K and V are read once, where they are, without panels.
//
//   for each kWidth keys:     S[row][key] = q[row] . k[key]     kWidth sums along the channels, folded into one vector
//   softcap, mask, running maximum, P = 2^(S - max), running sum
//   for each kWidth keys:     O[row] += P[row][key] * v[key]    the rows of V stay in L1 for all query rows
//
// The next keys are prefetched: rows of one head are far apart in memory, further than a hardware prefetcher follows.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_FEW_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_FEW_H

#include "backends/cpu/dense/tile_mask.h"
#include "backends/cpu/dense/tile_pack.h"
#include "backends/cpu/dense/tile_weigh.h"

namespace attn::cpu {
namespace {

/// Q times its factor, row by row; channels beyond the last are 0.
inline void pack_few_q(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch)
{
    for (int64_t r = 0; r < tile.rows; ++r) {
        float *row = scratch.q + r * scratch.q_columns;
        read_q_row(shape, tile, r, scratch.row);
        for (int64_t c = 0; c < scratch.q_columns; c += kWidth) store(row + c, load(scratch.row + c));
    }
}

template <int Block>
ATTN_INLINE void fold_from(Vec (&rows)[kWidth])
{
    ATTN_UNROLL
    for (int i = 0; i < Block; ++i) {
        exchange<Block>(rows[i], rows[i + Block], typename MakeIndices<kWidth>::type{});
        rows[i] += rows[i + Block];
    }
    if constexpr (Block > 1) fold_from<Block / 2>(rows);
}

/// The sums of the lanes of kWidth vectors, in one vector.
ATTN_INLINE Vec fold(Vec (&rows)[kWidth])
{
    fold_from<kWidth / 2>(rows);
    return rows[0];
}

ATTN_INLINE void prefetch_row(const char *row, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + i);
}

/// Rows of kWidth keys as floats: in place, or converted by `read(key, floats)`. Keys outside [begin, end) repeat the
/// first, unused.
struct KeyGroup {
    const float *row[kWidth];

    template <class Read>
    ATTN_INLINE KeyGroup(const KeyRows &rows, int64_t bytes, bool in_place, const Scratch &scratch, int64_t block,
                         int64_t first, int64_t begin, int64_t end, Read read)
    {
        for (int i = 0; i < kWidth; ++i) {
            const int64_t key = first + i, used = block + (key < begin || key >= end ? begin : key);
            if (in_place) {
                row[i] = reinterpret_cast<const float *>(key_row(rows, used));
            } else {
                float *converted = scratch.row + i * scratch.row_columns;
                read(used, converted);
                row[i] = converted;
            }
            if (key + kWidth < end && key + kWidth >= begin) prefetch_row(key_row(rows, block + key + kWidth), bytes);
        }
    }
};

inline void score_few(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                      const Hull &hull)
{
    const bool in_place = is_k_in_place(shape, tile);
    const int64_t bytes = shape.dim_k * element_bytes(shape.k_type);
    const auto read = [&](int64_t key, float *out) { read_k_row(shape, tile, key, out); };
    for (int64_t first = round_down(hull.begin, kWidth); first < hull.end; first += kWidth) {
        const KeyGroup keys(tile.k, bytes, in_place, scratch, block, first, hull.begin, hull.end, read);
        for (int64_t r = 0; r < tile.rows; ++r) {
            const float *q = scratch.q + r * scratch.q_columns;
            Vec sum[kWidth] = {};
            for (int64_t c = 0; c < scratch.q_columns; c += kWidth) {
                const Vec channels = load(q + c);
                ATTN_UNROLL
                for (int i = 0; i < kWidth; ++i) sum[i] += channels * load(keys.row[i] + c);
            }
            store(scratch.s + r * kRowStep + first, fold(sum));
        }
    }
}

/// out[c ..] += sum of weights[i] * rows[i][c ..] over the keys in `visible`, for N vectors of channels.
template <int N>
ATTN_INLINE void add_keys(const KeyGroup &keys, const float *weights, uint32_t visible, int64_t c, float *out)
{
    Vec acc[N];
    ATTN_UNROLL
    for (int n = 0; n < N; ++n) acc[n] = load(out + c + n * kWidth);
    for (int i = 0; i < kWidth; ++i) {
        if (!(visible >> i & 1)) continue;
        const Vec weight = splat(weights[i]);
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) acc[n] += weight * load(keys.row[i] + c + n * kWidth);
    }
    ATTN_UNROLL
    for (int n = 0; n < N; ++n) store(out + c + n * kWidth, acc[n]);
}

inline void weigh_few(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                      const Hull &hull)
{
    const bool in_place = is_v_in_place(shape, tile);
    const int64_t bytes = shape.dim_v * element_bytes(shape.v_type);
    const auto read = [&](int64_t key, float *out) { read_v_row(shape, tile, key, out); };
    const int64_t columns = scratch.o_columns;
    for (int64_t i = 0; i < tile.rows * columns; i += kWidth) store(scratch.block_o + i, Vec{});
    for (int64_t first = round_down(hull.begin, kWidth); first < hull.end; first += kWidth) {
        const KeyGroup keys(tile.v, bytes, in_place, scratch, block, first, hull.begin, hull.end, read);
        for (int64_t r = 0; r < tile.rows; ++r) {
            // Only keys the row sees are added, whatever V holds elsewhere.
            uint32_t visible = 0;
            for (int i = 0; i < kWidth; ++i) {
                const int64_t key = first + i;
                if (key < hull.begin || key >= hull.end) continue;
                const int64_t position = shape.by_position ? scratch.position[key] : 0;
                if (hull.full || sees(shape, scratch.mask[r], block + key, position)) visible |= 1u << i;
            }
            const float *weights = scratch.s + r * kRowStep + first;
            float *out = scratch.block_o + r * columns;
            int64_t c = 0;
            for (; c + 8 * kWidth <= columns; c += 8 * kWidth) add_keys<8>(keys, weights, visible, c, out);
            for (; c + 4 * kWidth <= columns; c += 4 * kWidth) add_keys<4>(keys, weights, visible, c, out);
            for (; c < columns; c += kWidth) add_keys<1>(keys, weights, visible, c, out);
        }
    }
    for (int64_t r = 0; r < tile.rows; ++r)
        for (int64_t c = 0; c < columns; c += kWidth) {
            float *o = scratch.o + r * columns + c;
            store(o, load(o) * scratch.alpha[r] + load(scratch.block_o + r * columns + c));
        }
}

/// Everything a tile of at most kFewRows rows does with one block of keys.
inline void run_few(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                    const Hull &hull)
{
    score_few(shape, tile, scratch, block, hull);
    for (int64_t r = 0; r < tile.rows; ++r)
        scratch.alpha[r] = weigh_scores(shape, tile, scratch, r, scratch.s + r * kRowStep, block, hull);
    weigh_few(shape, tile, scratch, block, hull);
}

} // namespace
} // namespace attn::cpu

#endif

// A block of keys against strips of query rows: both products as register-blocked loops over panels.
//
//   for each strip of kStrip query rows:
//       S = Q K^T      [kStrip, keys]      registers: kStrip x kVectors accumulators, Q broadcast, K streamed
//       softcap, mask, running maximum, P = 2^(S - max), running sum                        (S and P in L1)
//       O = O * 2^(old max - max) + P V    the same loop, P broadcast, V streamed
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_BLOCKED_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_BLOCKED_H

#include "backends/cpu/dense/tile_mask.h"
#include "backends/cpu/dense/tile_pack.h"
#include "backends/cpu/dense/tile_weigh.h"

namespace attn::cpu {
namespace {

constexpr int64_t kDepth = 32; ///< Channels that a score sums in one go.

/// acc += a b over `depth`: a[m * RowStep + k * DepthStep] is broadcast, b[k] is a row of N vectors.
template <int M, int N, int RowStep, int DepthStep>
ATTN_INLINE void multiply(const float *__restrict a, const float *__restrict b, int64_t depth, Vec (&acc)[M][N])
{
    for (int64_t k = 0; k < depth; ++k) {
        Vec row[N];
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) row[n] = load(b + n * kWidth);
        ATTN_UNROLL
        for (int m = 0; m < M; ++m) {
            const Vec value = splat(a[m * RowStep]);
            ATTN_UNROLL
            for (int n = 0; n < N; ++n) acc[m][n] += value * row[n];
        }
        a += DepthStep;
        b += N * kWidth;
    }
}

template <int M, int N>
ATTN_INLINE void store_tile(float *p, int64_t row_step, const Vec (&tile)[M][N])
{
    ATTN_UNROLL
    for (int m = 0; m < M; ++m) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) store(p + m * row_step + n * kWidth, tile[m][n]);
    }
}

template <int M, int N>
ATTN_INLINE void add_tile(float *p, int64_t row_step, const Vec (&tile)[M][N])
{
    ATTN_UNROLL
    for (int m = 0; m < M; ++m) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) {
            float *place = p + m * row_step + n * kWidth;
            store(place, load(place) + tile[m][n]);
        }
    }
}

/// S = Q K^T for one strip and the panels that hold keys [begin, end). Every kDepth channels are summed on their own: a
/// score is rounded as if heads were that small, which long sums of large scores need to stay within 2e-6.
template <int M>
inline void score_strip(const float *q, const float *k, int64_t dim, int64_t begin, int64_t end, float *s)
{
    for (int64_t first = round_down(begin, kPanel); first < end; first += kPanel) {
        const float *panel = k + first * dim;
        for (int64_t c = 0; c < dim; c += kDepth) {
            Vec acc[M][kVectors] = {};
            multiply<M, kVectors, 1, M>(q + c * M, panel + c * kPanel, smaller_of(kDepth, dim - c), acc);
            if (c == 0)
                store_tile<M, kVectors>(s + first, kRowStep, acc);
            else
                add_tile<M, kVectors>(s + first, kRowStep, acc);
        }
    }
}

/// O = O * alpha + P V for one strip and one panel of N vectors of channels. The products of a block are summed on
/// their own first: rounding errors then grow with the block and the number of blocks, not with the number of keys.
template <int M, int N>
inline void weigh_panel(const float *p, const float *v, int64_t keys, const float *alpha, float *o, int64_t o_step)
{
    Vec acc[M][N] = {};
    multiply<M, N, kRowStep, 1>(p, v, keys, acc);
    ATTN_UNROLL
    for (int m = 0; m < M; ++m) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) {
            float *place = o + m * o_step + n * kWidth;
            store(place, load(place) * alpha[m] + acc[m][n]);
        }
    }
}

template <int M>
inline void weigh_strip(const Scratch &scratch, int64_t key_block, int64_t begin, int64_t end, float *o)
{
    for (int64_t c = 0; c < scratch.o_columns; c += kPanel) {
        const float *panel = scratch.v + c * key_block;
        if (c + kWidth < scratch.o_columns)
            weigh_panel<M, kVectors>(scratch.s + begin, panel + begin * kPanel, end - begin, scratch.alpha, o + c,
                                     scratch.o_columns);
        else
            weigh_panel<M, 1>(scratch.s + begin, panel + begin * kWidth, end - begin, scratch.alpha, o + c,
                              scratch.o_columns);
    }
}

/// Likewise for one row, adding only the keys it sees: the same products in the same order, so the same bits where V is
/// finite.
inline void weigh_visible(const ForwardShape &shape, const Scratch &scratch, const RowMask &mask, int64_t block,
                          int64_t begin, int64_t end, const float *p, float alpha, float *o)
{
    for (int64_t c = 0; c < scratch.o_columns; c += kWidth) {
        const int64_t first = round_down(c, kPanel);
        const int64_t step = first + kWidth < scratch.o_columns ? kPanel : kWidth;
        const float *panel = scratch.v + first * shape.key_block + (c - first);
        Vec acc = {};
        for (int64_t j = begin; j < end; ++j)
            if (sees(shape, mask, block + j, shape.by_position ? scratch.position[j] : 0))
                acc += splat(p[j]) * load(panel + j * step);
        store(o + c, load(o + c) * alpha + acc);
    }
}

/// Everything one strip does with one block of keys.
template <int M>
inline void run_strip(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t first,
                      int64_t rows, int64_t block, const Hull &hull, bool v_finite)
{
    const int64_t begin = hull.begin, end = hull.end;
    score_strip<M>(scratch.q + first * shape.dim_qk, scratch.k, shape.dim_qk, begin, end, scratch.s);
    for (int m = 0; m < M; ++m) {
        float *s = scratch.s + m * kRowStep;
        if (m < rows) {
            scratch.alpha[m] = weigh_scores(shape, tile, scratch, first + m, s, block, hull);
        } else { // padding: no weight
            for (int64_t j = round_down(begin, kWidth); j < end; j += kWidth) store(s + j, Vec{});
            scratch.alpha[m] = 1.0f;
        }
    }
    float *o = scratch.o + first * scratch.o_columns;
    if (v_finite || hull.full) {
        weigh_strip<M>(scratch, shape.key_block, begin, end, o);
        return;
    }
    for (int64_t m = 0; m < rows; ++m)
        weigh_visible(shape, scratch, scratch.mask[first + m], block, begin, end, scratch.s + m * kRowStep,
                      scratch.alpha[m], o + m * scratch.o_columns);
}

} // namespace
} // namespace attn::cpu

#endif

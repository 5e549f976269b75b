// Both products of a block of keys in float: register-blocked loops over panels.
//
// Registers hold kStrip x kVectors accumulators; an element of Q or P is broadcast, a row of K or V streamed.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_FLOAT_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_FLOAT_H

#include "backends/cpu/dense/tile_mask.h"
#include "backends/cpu/dense/tile_pack_float.h"
#include "backends/cpu/dense/tile_soften.h"

namespace attn::cpu {
namespace {

/// Channels that a score sums in one go: at most 32, all sums of a score alike, two at least beyond 16 channels.
///
/// The terms of a large score mostly agree in sign, so n of them in one sum round off about sqrt(n / 3) times as much
/// as one addition to the score does; m equal sums of them, added up, sqrt(n / (3 m^2) + m / 3) times. A long sum with
/// a short one behind it is hardly better than one sum.
ATTN_INLINE int64_t channels_at_once(int64_t channels)
{
    const int64_t sums = larger_of(channels > 16 ? 2 : 1, (channels + 31) / 32);
    return (channels + sums - 1) / sums;
}

/// Floats ahead of the loads of a panel that are fetched from L2: not every processor follows two streams by itself.
constexpr int64_t kAhead = 1024;

/// acc += a b over `depth`: a[m * RowStep + k * DepthStep] is broadcast, b[k] is a row of N vectors.
template <int M, int N, int RowStep, int DepthStep>
ATTN_INLINE void multiply(const float *__restrict a, const float *__restrict b, int64_t depth, Vec (&acc)[M][N])
{
    for (int64_t k = 0; k < depth; ++k) {
        Vec row[N];
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) {
            row[n] = load(b + n * kWidth);
            if (n * kWidth % 16 == 0) __builtin_prefetch(b + n * kWidth + kAhead);
        }
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

/// S = Q K^T for the strip at row `row` and the panels that hold keys [begin, end). Every channels_at_once() channels
/// are summed on their own, which large scores need to stay within 2e-6.
template <int M>
inline void score_strip(const ForwardShape &shape, const Scratch &scratch, int64_t row, int64_t begin, int64_t end)
{
    const int64_t dim = shape.dim_qk, depth = channels_at_once(dim);
    const float *q = scratch.q + row * dim;
    float *s = scratch.s;
    for (int64_t first = round_down(begin, kPanel); first < end; first += kPanel) {
        const float *panel = scratch.k + first * dim;
        for (int64_t c = 0; c < dim; c += depth) {
            Vec acc[M][kVectors] = {};
            multiply<M, kVectors, 1, M>(q + c * M, panel + c * kPanel, smaller_of(depth, dim - c), acc);
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

/// O = O * alpha + P V for the strip at row `row`.
template <int M>
inline void weigh_strip(const ForwardShape &shape, const Scratch &scratch, int64_t row, int64_t begin, int64_t end)
{
    float *o = scratch.o + row * scratch.o_columns;
    for (int64_t c = 0; c < scratch.o_columns; c += kPanel) {
        const float *panel = scratch.v + c * shape.key_block;
        if (c + kWidth < scratch.o_columns)
            weigh_panel<M, kVectors>(scratch.p + begin, panel + begin * kPanel, end - begin, scratch.alpha, o + c,
                                     scratch.o_columns);
        else
            weigh_panel<M, 1>(scratch.p + begin, panel + begin * kWidth, end - begin, scratch.alpha, o + c,
                              scratch.o_columns);
    }
}

/// Likewise where V is not finite, adding to each row only the keys it sees: the same products in the same order, so
/// the same bits where V is finite.
template <int M>
inline void weigh_visible(const ForwardShape &shape, const Scratch &scratch, int64_t row, int64_t rows, int64_t block,
                          int64_t begin, int64_t end)
{
    for (int64_t m = 0; m < rows; ++m) {
        const float *p = scratch.p + m * kRowStep;
        float *o = scratch.o + (row + m) * scratch.o_columns;
        for (int64_t c = 0; c < scratch.o_columns; c += kWidth) {
            const int64_t first = round_down(c, kPanel);
            const int64_t step = first + kWidth < scratch.o_columns ? kPanel : kWidth;
            const float *panel = scratch.v + first * shape.key_block + (c - first);
            Vec acc = {};
            for (int64_t j = begin; j < end; ++j)
                if (sees(shape, scratch, row + m, block, j)) acc += splat(p[j]) * load(panel + j * step);
            store(o + c, load(o + c) * scratch.alpha[m] + acc);
        }
    }
}

/// Rows of products to weights; alpha becomes the factor of what each row has summed before.
inline void weigh_rows(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t first,
                       int64_t rows, int64_t block, const Hull &hull)
{
    if (is_plain(shape)) {
        soften_strip(shape, scratch, first, rows, block, hull, kWidth);
        return;
    }
    for (int64_t m = 0; m < rows; ++m)
        scratch.alpha[m] = weigh_scores(shape, tile, scratch, first + m, scratch.s + m * kRowStep, block, hull);
}
/// What pads a strip weighs nothing.
inline void clear_row(float *s, int64_t begin, int64_t end)
{
    for (int64_t j = round_down(begin, kWidth); j < end; j += kWidth) store(s + j, Vec{});
}

/// Products to scores: the factor is in Q.
ATTN_INLINE void scale_products(const Scratch &, int64_t, float *, int64_t, int64_t) {}

} // namespace
} // namespace attn::cpu

#endif

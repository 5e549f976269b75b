// Both products of a block of keys with the dot products of AVX512-BF16: as tile_float.h, a pair of channels or keys
// for each of its elements.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_DOT_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_DOT_H

#include "backends/cpu/dense/tile_weigh_pairs.h"

namespace attn::cpu {
namespace {

/// acc += a b over `depth` pairs: a[m * RowStep + k * DepthStep] is broadcast, b[k] of two panels is streamed.
template <int M, int RowStep, int DepthStep>
ATTN_INLINE void multiply(const float *__restrict a, const float *__restrict b, int64_t panel_step, int64_t depth,
                          Vec (&acc)[M][kVectors])
{
    for (int64_t k = 0; k < depth; ++k) {
        Vec row[kVectors];
        ATTN_UNROLL
        for (int n = 0; n < kVectors; ++n) row[n] = load(b + n * panel_step);
        ATTN_UNROLL
        for (int m = 0; m < M; ++m) {
            int32_t pair;
            __builtin_memcpy(&pair, a + m * RowStep, sizeof pair);
            const Vec value = (Vec)_mm512_set1_epi32(pair);
            ATTN_UNROLL
            for (int n = 0; n < kVectors; ++n) acc[m][n] = add_pair_products(acc[m][n], value, row[n]);
        }
        a += DepthStep;
        b += kWidth;
    }
}

/// S = Q K^T, not scaled, for the strip at row `row` and the panels that hold keys [begin, end).
template <int M>
inline void score_strip(const ForwardShape &, const Scratch &scratch, int64_t row, int64_t begin, int64_t end)
{
    const int64_t pairs = scratch.q_columns;
    for (int64_t first = round_down(begin, kPanel); first < end; first += kPanel) {
        Vec acc[M][kVectors] = {};
        multiply<M, 1, M>(scratch.q + row * pairs, scratch.k + first * pairs, kWidth * pairs, pairs, acc);
        ATTN_UNROLL
        for (int m = 0; m < M; ++m) {
            ATTN_UNROLL
            for (int n = 0; n < kVectors; ++n) store(scratch.s + m * kRowStep + first + n * kWidth, acc[m][n]);
        }
    }
}

/// O = O * alpha + P V for the strip at row `row`.
template <int M>
inline void weigh_strip(const ForwardShape &shape, const Scratch &scratch, int64_t row, int64_t begin, int64_t end)
{
    const int64_t panel_step = shape.key_block / 2 * kWidth;
    const int64_t from = round_down(begin, kPanel) / 2, to = round_up(end, kPanel) / 2;
    for (int64_t c = 0; c < scratch.o_columns; c += kPanel) {
        Vec acc[M][kVectors] = {};
        multiply<M, kRowStep, 1>(scratch.p + from, scratch.v + c / kWidth * panel_step + from * kWidth, panel_step,
                                 to - from, acc);
        ATTN_UNROLL
        for (int m = 0; m < M; ++m) {
            float *o = scratch.o + (row + m) * scratch.o_columns + c;
            ATTN_UNROLL
            for (int n = 0; n < kVectors; ++n)
                store(o + n * kWidth, load(o + n * kWidth) * scratch.alpha[m] + acc[m][n]);
        }
    }
}

/// Likewise where V is not finite: keys that a row does not see count as 0, which adds the same bits as finite ones.
template <int M>
inline void weigh_visible(const ForwardShape &shape, const Scratch &scratch, int64_t row, int64_t rows, int64_t block,
                          int64_t begin, int64_t end)
{
    const int64_t panel_step = shape.key_block / 2 * kWidth;
    for (int64_t m = 0; m < rows; ++m) {
        const auto seen = [&](int64_t j) { return j >= begin && j < end && sees(shape, scratch, row + m, block, j); };
        for (int64_t c = 0; c < scratch.o_columns; c += kWidth) {
            Vec acc = {};
            for (int64_t j = round_down(begin, kPanel); j < round_up(end, kPanel); j += 2) {
                const int32_t kept = static_cast<int32_t>((seen(j) ? 0xffffu : 0u) | (seen(j + 1) ? 0xffff0000u : 0u));
                int32_t pair;
                __builtin_memcpy(&pair, scratch.p + m * kRowStep + j / 2, sizeof pair);
                const Vec v = load(scratch.v + c / kWidth * panel_step + j / 2 * kWidth);
                acc = add_pair_products(acc, (Vec)_mm512_set1_epi32(pair), from_bits(bits(v) & kept));
            }
            float *o = scratch.o + (row + m) * scratch.o_columns + c;
            store(o, load(o) * scratch.alpha[m] + acc);
        }
    }
}

} // namespace
} // namespace attn::cpu

#endif

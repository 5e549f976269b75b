// Products of small matrices for chunks, in registers: kRows x N vectors of sums. Internal linkage: see simd.h.
//
// Every element sums its terms one after the other in the order of their index, whatever rows are computed beside it:
// so a row of a chunk has the same bits however many rows follow.
#ifndef ATTN_BACKENDS_CPU_LINEAR_CHUNK_MATRIX_H
#define ATTN_BACKENDS_CPU_LINEAR_CHUNK_MATRIX_H

#include "backends/cpu/simd.h"

namespace attn::cpu {
namespace {

/// Rows of a block. kWidth is a multiple.
constexpr int kRows = 4;
/// Vectors of a panel of columns: what registers hold for kRows rows.
#if defined(__AVX512F__) || defined(ATTN_NEON)
constexpr int kPanel = 4;
#else
constexpr int kPanel = 2;
#endif
constexpr int64_t kPanelWidth = kPanel * kWidth;

template <int N>
using Block = Vec[kRows][N];

template <int N>
ATTN_INLINE void clear(Block<N> &acc)
{
    ATTN_UNROLL
    for (int m = 0; m < kRows; ++m) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) acc[m][n] = Vec{};
    }
}

template <int N>
ATTN_INLINE void load_block(const float *p, int64_t step, Block<N> &acc)
{
    ATTN_UNROLL
    for (int m = 0; m < kRows; ++m) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) acc[m][n] = load(p + m * step + n * kWidth);
    }
}

template <int N>
ATTN_INLINE void store_block(float *p, int64_t step, const Block<N> &acc)
{
    ATTN_UNROLL
    for (int m = 0; m < kRows; ++m) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) store(p + m * step + n * kWidth, acc[m][n]);
    }
}

/// acc += a b: a[m][k] is broadcast, b[k] a row of N vectors.
template <int N>
ATTN_INLINE void multiply(const float *__restrict a, int64_t a_step, const float *__restrict b, int64_t b_step,
                          int64_t depth, Block<N> &acc)
{
    for (int64_t k = 0; k < depth; ++k) {
        Vec row[N];
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) row[n] = load(b + n * kWidth);
        ATTN_UNROLL
        for (int m = 0; m < kRows; ++m) {
            const Vec value = splat(a[m * a_step + k]);
            ATTN_UNROLL
            for (int n = 0; n < N; ++n) acc[m][n] += value * row[n];
        }
        b += b_step;
    }
}

/// acc[m] += sum of a[m][k] b[k] for the k < m, or <= m where not `Strict`, of the block on the diagonal.
template <int N, bool Strict>
ATTN_INLINE void multiply_lower(const float *a, int64_t a_step, const float *b, int64_t b_step, Block<N> &acc)
{
    ATTN_UNROLL
    for (int k = 0; k < kRows; ++k) {
        Vec row[N];
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) row[n] = load(b + k * b_step + n * kWidth);
        ATTN_UNROLL
        for (int m = Strict ? k + 1 : k; m < kRows; ++m) {
            const Vec value = splat(a[m * a_step + k]);
            ATTN_UNROLL
            for (int n = 0; n < N; ++n) acc[m][n] += value * row[n];
        }
    }
}

/// acc = (I - l)^-1 acc for the strictly lower block l on the diagonal, by substitution.
template <int N>
ATTN_INLINE void solve_lower(const float *l, int64_t l_step, Block<N> &acc)
{
    ATTN_UNROLL
    for (int k = 0; k < kRows; ++k) {
        ATTN_UNROLL
        for (int m = k + 1; m < kRows; ++m) {
            const Vec value = splat(l[m * l_step + k]);
            ATTN_UNROLL
            for (int n = 0; n < N; ++n) acc[m][n] += value * acc[k][n];
        }
    }
}

/// A number as a type.
template <int N>
struct Count {
    static constexpr int value = N;
};

/// Calls body(Count<vectors>{}) with the number of vectors, 1 .. kPanel.
template <class Body>
ATTN_INLINE void with_vectors(int64_t vectors, Body body)
{
    if (vectors == 1) return body(Count<1>{});
    if constexpr (kPanel == 2) {
        body(Count<2>{});
    } else {
        if (vectors == 2) return body(Count<2>{});
        if (vectors == 3) return body(Count<3>{});
        body(Count<4>{});
    }
}

/// The lower part of scores x y^T for `rows` rows: out[i][j] for j <= i, and some of what is above. `y_columns` holds y
/// by columns: [channel][row].
inline void multiply_scores(const float *x, int64_t x_step, const float *y_columns, int64_t y_step, int64_t channels,
                            int64_t rows, float *out, int64_t out_step)
{
    for (int64_t i = 0; i < rows; i += kRows)
        for (int64_t j = 0; j < i + kRows; j += kPanelWidth) {
            const int64_t left = (i + kRows - j + kWidth - 1) / kWidth;
            with_vectors(left < kPanel ? left : kPanel, [&](auto count) {
                Block<decltype(count)::value> acc;
                clear(acc);
                multiply(x + i * x_step, x_step, y_columns + j, y_step, channels, acc);
                store_block(out + i * out_step + j, out_step, acc);
            });
        }
}

/// Rows to columns: `rows` is a whole number of vectors, so are the channels.
inline void transpose_rows(const float *from, int64_t from_step, int64_t rows, int64_t channels, float *to,
                           int64_t to_step)
{
    for (int64_t i = 0; i < rows; i += kWidth)
        for (int64_t c = 0; c < channels; c += kWidth) {
            Vec square[kWidth];
            ATTN_UNROLL
            for (int r = 0; r < kWidth; ++r) square[r] = load(from + (i + r) * from_step + c);
            transpose(square);
            ATTN_UNROLL
            for (int r = 0; r < kWidth; ++r) store(to + (c + r) * to_step + i, square[r]);
        }
}

} // namespace
} // namespace attn::cpu

#endif

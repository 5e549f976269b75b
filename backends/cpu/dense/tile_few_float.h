// What few rows do with floats, or with halves widened in registers.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_FEW_FLOAT_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_FEW_FLOAT_H

#include "backends/cpu/dense/tile_few_rows.h"

namespace attn::cpu {
namespace {

/// Q times its factor; channels beyond the last are 0.
inline void pack_few_q(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch)
{
    pack_few_rows(scratch, tile.rows, [&](int64_t row, float *words) { read_q_row(shape, tile, row, words); });
}

ATTN_INLINE void read_key(const ForwardShape &shape, const ForwardTile &tile, int64_t key, float *out)
{
    read_k_row(shape, tile, key, out);
}
ATTN_INLINE void read_value(const ForwardShape &shape, const ForwardTile &tile, int64_t key, float *out)
{
    read_v_row(shape, tile, key, out);
}
ATTN_INLINE bool is_k_direct(const ForwardShape &shape, const ForwardTile &tile)
{
    return !tile.rank_q.base && tile.k.channel_step == 1 && shape.dim_qk % kWidth == 0;
}
ATTN_INLINE bool is_v_direct(const ForwardShape &shape, const ForwardTile &tile)
{
    return !tile.v_temperature.base && tile.v.channel_step == 1 && shape.dim_v % kWidth == 0;
}

ATTN_INLINE Vec add_product(Vec sum, Vec q, Vec k)
{
    return sum + q * k;
}

/// Calls `run` with the type of rows read where they are, or float for converted ones, as a constant.
template <class Run>
ATTN_INLINE void with_type(Element type, bool direct, Run run)
{
    if (!direct || type == Element::float32)
        run.template operator()<Element::float32>();
    else if (type == Element::float16)
        run.template operator()<Element::float16>();
    else
        run.template operator()<Element::bfloat16>();
}

/// out[r][c ..] += sum of weights[r][i] * keys.row[i][c ..] for N vectors of channels; of one row only the visible
/// keys.
template <Element Type, int Rows, int N, bool AllVisible>
ATTN_INLINE void add_keys(const KeyGroup &keys, NextLine &next, const float *weights, uint32_t visible, int64_t c,
                          int64_t columns, float *out)
{
    constexpr int64_t kBytes = element_bytes(Type);
    constexpr bool kWholeLines = N * kWidth * kBytes % 64 == 0; // then c is a multiple of N vectors
    Vec acc[Rows][N];
    ATTN_UNROLL
    for (int r = 0; r < Rows; ++r) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) acc[r][n] = load(out + r * columns + c + n * kWidth);
    }
    for (int i = 0; i < kWidth; ++i) {
        if (!AllVisible && !(visible >> i & 1)) continue;
        Vec channels[N];
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) channels[n] = read_vector(keys.row[i] + (c + n * kWidth) * kBytes, Type);
        ATTN_UNROLL
        for (int r = 0; r < Rows; ++r) {
            const Vec weight = splat(weights[r * kRowStep + i]);
            ATTN_UNROLL
            for (int n = 0; n < N; ++n)
                if (n * Rows / N == r) next.fetch((kWholeLines ? 0 : c * kBytes) + n * kWidth * kBytes);
            ATTN_UNROLL
            for (int n = 0; n < N; ++n) acc[r][n] += weight * channels[n];
        }
    }
    ATTN_UNROLL
    for (int r = 0; r < Rows; ++r) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) store(out + r * columns + c + n * kWidth, acc[r][n]);
    }
}
constexpr int64_t kWeightsPerWord = 1;
constexpr int kFewestVectors = 1; ///< Of channels that add_keys() can do.

} // namespace
} // namespace attn::cpu

#endif

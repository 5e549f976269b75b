// What few rows do with pairs of bfloat16: channels of K and keys of V go by twos.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_FEW_PAIRS_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_FEW_PAIRS_H

#include "backends/cpu/dense/tile_few_rows.h"

namespace attn::cpu {
namespace {

inline void pack_few_q(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch)
{
    pack_few_rows(scratch, tile.rows, [&](int64_t row, float *words) {
        read_pairs(q_row(shape, tile, row), tile.q_channel_step, shape.dim_k, words);
        scratch.factor[row] = score_factor(shape, tile, row);
    });
}

ATTN_INLINE void read_key(const ForwardShape &shape, const ForwardTile &tile, int64_t key, float *out)
{
    read_pairs(key_row(tile.k, key), tile.k.channel_step, shape.dim_k, out);
}
ATTN_INLINE void read_value(const ForwardShape &shape, const ForwardTile &tile, int64_t key, float *out)
{
    read_pairs(key_row(tile.v, key), tile.v.channel_step, shape.dim_v, out);
}
ATTN_INLINE bool is_k_direct(const ForwardShape &shape, const ForwardTile &tile)
{
    return is_pairs_in_place(tile.k, shape.dim_k);
}
ATTN_INLINE bool is_v_direct(const ForwardShape &shape, const ForwardTile &tile)
{
    return is_pairs_in_place(tile.v, shape.dim_v);
}

/// sum + q k, for words that are pairs.
ATTN_INLINE Vec add_product(Vec sum, Vec q, Vec k)
{
    return add_pair_products(sum, q, k);
}

/// Words are read as they are.
template <class Run>
ATTN_INLINE void with_type(Element, bool, Run run)
{
    run.template operator()<Element::float32>();
}

/// out[r][c ..] += sum of weights[r][i] * keys.row[i][c ..] for N vectors of channels and a pair of keys at a time; of
/// one row only the visible keys. `weights` are pairs.
template <Element, int Rows, int N, bool AllVisible>
ATTN_INLINE void add_keys(const KeyGroup &keys, NextLine &next, const float *weights, uint32_t visible, int64_t c,
                          int64_t columns, float *out)
{
    Vec acc[Rows][N];
    ATTN_UNROLL
    for (int r = 0; r < Rows; ++r) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) acc[r][n] = load(out + r * columns + c + n * kWidth);
    }
    for (int i = 0; i < kWidth; i += 2) {
        Vec channels[N];
        ATTN_UNROLL
        for (int n = 0; n < N; n += 2) {
            const int64_t byte = (c + n * kWidth) * 2;
            interleave(load(reinterpret_cast<const float *>(keys.row[i] + byte)),
                       load(reinterpret_cast<const float *>(keys.row[i + 1] + byte)), &channels[n], &channels[n + 1]);
        }
        if (!AllVisible) {
            const uint32_t kept = (visible >> i & 1 ? 0xffffu : 0u) | (visible >> i & 2 ? 0xffff0000u : 0u);
            ATTN_UNROLL
            for (int n = 0; n < N; ++n) channels[n] = from_bits(bits(channels[n]) & static_cast<int32_t>(kept));
        }
        ATTN_UNROLL
        for (int r = 0; r < Rows; ++r) {
            int32_t pair;
            __builtin_memcpy(&pair, weights + r * kRowStep + i / 2, sizeof pair);
            const Vec weight = (Vec)_mm512_set1_epi32(pair);
            ATTN_UNROLL
            for (int n = 0; n < N; ++n)
                if (n * Rows / N == r) next.fetch(0); // two rows for two vectors
            ATTN_UNROLL
            for (int n = 0; n < N; ++n) acc[r][n] = add_pair_products(acc[r][n], weight, channels[n]);
        }
    }
    ATTN_UNROLL
    for (int r = 0; r < Rows; ++r) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) store(out + r * columns + c + n * kWidth, acc[r][n]);
    }
}
constexpr int64_t kWeightsPerWord = 2;
constexpr int kFewestVectors = 2; ///< Of channels that add_keys() can do.

} // namespace
} // namespace attn::cpu

#endif

// Panels of bfloat16 pairs for products of pairs. Words are 32 bits: two adjacent channels of Q and K, two adjacent
// keys of P and V. Channels are padded with zeros to a multiple of 32, unseen keys of V with zeros to a multiple of 32.
//
//   K: for each 16 keys       [channel pair][16 keys]
//   V: for each 16 channels   [key pair][16 channels]
//   Q: rows, or for dot products strips of [channel pair][rows of the strip]
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_PACK_PAIRS_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_PACK_PAIRS_H

#include "backends/cpu/dense/bfloat16_pairs.h"
#include "backends/cpu/dense/tile_panels.h"

namespace attn::cpu {
namespace {

constexpr int64_t kChunk = 2 * kWidth; ///< Elements of a vector.

/// A row of channels in whole vectors of pairs, the tail 0.
inline void read_pairs(const char *p, int64_t step, int64_t channels, float *out)
{
    auto *halves = reinterpret_cast<char *>(out);
    int64_t c = 0;
    if (step == 1)
        for (; c + kChunk <= channels; c += kChunk)
            store(out + c / 2, load(reinterpret_cast<const float *>(p + 2 * c)));
    if (c == channels) return;
    store(out + round_up(channels, kChunk) / 2 - kWidth, Vec{});
    for (; c < channels; ++c) __builtin_memcpy(halves + 2 * c, p + 2 * c * step, 2);
}

/// Whether rows can be read where they are, in whole vectors of pairs.
ATTN_INLINE bool is_pairs_in_place(const KeyRows &rows, int64_t channels)
{
    return rows.channel_step == 1 && channels % kChunk == 0;
}

/// The row of a key: in place, or copied to `copy`.
ATTN_INLINE const float *key_pairs(const KeyRows &rows, int64_t key, int64_t channels, bool in_place, float *copy)
{
    const char *row = key_row(rows, key);
    if (in_place) return reinterpret_cast<const float *>(row);
    read_pairs(row, rows.channel_step, channels, copy);
    return copy;
}

/// What products of row `row` are multiplied by.
ATTN_INLINE float score_factor(const ForwardShape &shape, const ForwardTile &tile, int64_t row)
{
    if (!tile.q_temperature.base) return shape.q_factor;
    const RowPlace at(shape, tile, row);
    const int64_t head = at.head * shape.heads_q / shape.heads_out;
    return shape.q_factor * read_float(token_row(tile.q_temperature, at.token, head), Element::float32);
}

inline void pack_q(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch)
{
    const int64_t pairs = scratch.q_columns;
    for (int64_t first = 0; first < tile.rows; first += kStrip) {
        const int64_t rows = smaller_of(kStrip, tile.rows - first), height = strip_height(rows);
        float *panel = scratch.q + first * pairs;
#if defined(ATTN_PRODUCTS_AMX)
        for (int64_t r = 0; r < height; ++r) {
            float *row = panel + r * pairs;
            for (int64_t c = 0; c < pairs; c += kWidth) store(row + c, Vec{});
            if (r >= rows) continue;
            read_pairs(q_row(shape, tile, first + r), tile.q_channel_step, shape.dim_k, row);
        }
#else
        RowGroup group;
        for (int64_t i = 0; i < kWidth; ++i) {
            float *copy = scratch.row + i * scratch.row_columns;
            read_pairs(q_row(shape, tile, first + smaller_of(i, rows - 1)), tile.q_channel_step, shape.dim_k, copy);
            group.row[i] = copy;
        }
        write_transposed<false>(group, pairs, 1.0f, height, panel);
#endif
        for (int64_t r = 0; r < rows; ++r) scratch.factor[first + r] = score_factor(shape, tile, first + r);
    }
}

/// Keys [begin, end) of the block at `block`. Keys outside that a panel needs repeat one inside: their scores are
/// masked.
inline void pack_k(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                   int64_t begin, int64_t end)
{
    const bool in_place = is_pairs_in_place(tile.k, shape.dim_k);
    const int64_t pairs = scratch.q_columns, last = round_up(end, kPanel);
    for (int64_t first = round_down(begin, kPanel); first < last; first += kWidth) {
        RowGroup group;
        for (int i = 0; i < kWidth; ++i) {
            const int64_t key = block + smaller_of(larger_of(first + i, begin), end - 1);
            group.row[i] = key_pairs(tile.k, key, shape.dim_k, in_place, scratch.row + i * scratch.row_columns);
        }
        write_transposed<false>(group, pairs, 1.0f, kWidth, scratch.k + first * pairs);
    }
}

/// Likewise V, keys outside being 0. Returns whether all elements are finite.
inline bool pack_v(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                   int64_t begin, int64_t end)
{
    const bool in_place = is_pairs_in_place(tile.v, shape.dim_v);
    const int64_t panel_step = shape.key_block / 2 * kWidth, last = round_up(end, kPanel);
    VecI bad = {};
    for (int64_t key = round_down(begin, kPanel); key < last; key += 2) {
        const float *row[2] = {};
        for (int i = 0; i < 2; ++i)
            if (key + i >= begin && key + i < end)
                row[i] =
                    key_pairs(tile.v, block + key + i, shape.dim_v, in_place, scratch.row + i * scratch.row_columns);
        float *place = scratch.v + key / 2 * kWidth;
        for (int64_t c = 0; c < scratch.o_columns; c += kChunk, place += 2 * panel_step) {
            const Vec even = row[0] ? load(row[0] + c / 2) : Vec{}, odd = row[1] ? load(row[1] + c / 2) : Vec{};
            bad |= not_finite(even) | not_finite(odd);
            Vec low, high;
            interleave(even, odd, &low, &high);
            store(place, low);
            store(place + panel_step, high);
        }
    }
    return _mm512_test_epi32_mask((__m512i)bad, (__m512i)bad) == 0;
}

} // namespace
} // namespace attn::cpu

#endif

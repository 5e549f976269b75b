// Sums of weights by key, as a second pass: one tile against one block of keys, once the first has scaled its rows.
//
//   for each strip of query rows:
//       S = Q K^T, softcap, bias, mask      as in the first pass                                  (tile_blocked.h)
//       P = factor * 2^(S - max)            the rows' final ones; or sigmoid or ReLU
//       sums[head of the row] += P          in double: what a key gets does not depend on how its rows are grouped
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_COLUMNS_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_COLUMNS_H

#include "backends/cpu/dense/tile_blocked.h"

namespace attn::cpu {
namespace {

/// Whether a row may see a key of the tile, from its first and last token: most tiles of a causal or windowed plan need
/// no closer look.
inline bool may_see(const ForwardShape &shape, const ForwardTile &tile)
{
    if (shape.by_position) return true;
    const int64_t first = tile.first_row / shape.group + tile.diagonal;
    const int64_t last = (tile.first_row + tile.rows - 1) / shape.group + tile.diagonal;
    const int64_t limit = shape.causal ? smaller_of(tile.k_length, last + 1) : tile.k_length;
    const int64_t begin = shape.has_left ? first - shape.left : 0;
    const int64_t end = shape.has_right ? smaller_of(limit, last + shape.right + 1) : limit;
    return (begin < tile.key_end && tile.key_begin < end) || tile.key_begin < smaller_of(shape.sink_tokens, limit);
}

/// Scores of a row to the weights that its output has used. Where a row holds a NaN, what it does not see stays 0.
inline void scale_row(float *s, int64_t begin, int64_t end, const RowScale &scale)
{
    for (int64_t j = begin; j < end; j += kWidth) {
        const Vec score = load(s + j);
        const Vec distance = score - scale.max;
        // Never above 0, also where rounding differs from that of the first pass.
        const Vec weight = exp2_below_128(distance > 0.0f ? Vec{} : distance) * scale.factor;
        store(s + j, score == kLowest ? Vec{} : weight);
    }
}

ATTN_INLINE bool is_nan(float x)
{
    return x != x;
}

ATTN_INLINE RowScale read_scale(const ForwardTile &tile, const RowPlace &at)
{
    const TokenOutput &place = tile.row_scale;
    RowScale scale;
    __builtin_memcpy(&scale, place.base + at.token * place.token_step + at.head * place.head_step, sizeof scale);
    return scale;
}

/// Rows that are added: of a softmax also those alone whose factors are NaN.
enum class Rows { all, nan };

/// Adds to sums [group][sums_step].
template <Rows Which>
inline void add_columns_of(const ForwardShape &shape, const ForwardTile &tile, double *sums, int64_t sums_step,
                           void *memory)
{
    if (!may_see(shape, tile)) return;
    const Scratch scratch(shape, memory);
    [[maybe_unused]] const TileRegisters registers{};
    const int64_t block = tile.key_begin, length = tile.key_end - block;
    for (int64_t r = 0; r < tile.rows; ++r) scratch.mask[r] = mask_of_row(shape, tile, r);
    begin_program(shape, tile, scratch);
    const Hull all = see_block(shape, tile, scratch, block, length);
    if (all.begin >= all.end) return;
    rank_keys(shape, tile, scratch, block, all);
    pack_q(shape, tile, scratch);
    pack_k(shape, tile, scratch, block, all.begin, all.end);

    for (int64_t first = 0; first < tile.rows; first += kStrip) {
        const int64_t rows = smaller_of(kStrip, tile.rows - first);
        const Hull part = all.full ? all : hull_of_rows(shape, scratch, first, rows, block, length);
        if (part.begin >= part.end) continue;
        at_height(strip_height(rows),
                  [&]<int M>(StripHeight<M>) { score_strip<M>(shape, scratch, first, part.begin, part.end); });
        const int64_t begin = round_down(part.begin, kWidth), end = round_up(part.end, kWidth);
        for (int64_t m = 0; m < rows; ++m) {
            float *s = scratch.s + m * kRowStep;
            scale_products(scratch, first + m, s, part.begin, part.end);
            finish_scores(shape, tile, scratch, first + m, s, block, part);
            const RowPlace at(shape, tile, first + m);
            if (shape.weight == Weight::softmax) {
                const RowScale scale = read_scale(tile, at);
                if (Which == Rows::nan && !is_nan(scale.factor)) continue;
                scale_row(s, begin, end, scale);
            } else {
                float max = kLowest; // not wanted here
                weigh_each(shape, tile, s, begin, end, &max);
            }
            double *sum = sums + (at.head - tile.head0) * sums_step;
            for (int64_t j = part.begin; j < part.end; ++j) sum[j] += static_cast<double>(s[j]);
        }
    }
}

inline void add_columns(const ForwardShape &shape, const ForwardTile &tile, double *sums, void *memory)
{
    add_columns_of<Rows::all>(shape, tile, sums, shape.key_block, memory);
}

} // namespace
} // namespace attn::cpu

#endif

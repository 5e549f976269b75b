// From scores to weights as bfloat16, for one row over one block of keys.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_WEIGH_PAIRS_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_WEIGH_PAIRS_H

#include "backends/cpu/dense/tile_pack_pairs.h"
#include "backends/cpu/dense/tile_soften.h"

namespace attn::cpu {
namespace {

/// What pads a strip weighs nothing.
inline void clear_row(float *s, int64_t begin, int64_t end)
{
    const int64_t last = round_up(end, kPanel);
    for (int64_t j = round_down(begin, kPanel); j < last; j += kChunk) store(s + j / 2, Vec{});
}

/// Products of row `row` to scores, over whole vectors around [begin, end).
inline void scale_products(const Scratch &scratch, int64_t row, float *s, int64_t begin, int64_t end)
{
    const float factor = scratch.factor[row];
    for (int64_t j = round_down(begin, kWidth); j < end; j += kWidth) store(s + j, load(s + j) * factor);
}

/// Weights as floats to weights as pairs, in the first half of row `p`, which may be that of the floats. Outside whole
/// vectors around [begin, end) they become 0.
inline void narrow_row(const float *s, float *p, int64_t begin, int64_t end)
{
    const int64_t from = round_down(begin, kWidth), to = round_up(end, kWidth), last = round_up(end, kPanel);
    for (int64_t j = round_down(begin, kPanel); j < last; j += kChunk) {
        const Vec low = j >= from && j < to ? load(s + j) : Vec{};
        const Vec high = j + kWidth < to ? load(s + j + kWidth) : Vec{};
        store(p + j / 2, narrow(low, high));
    }
}

/// Rows of products to weights; alpha becomes the factor of what each row has summed before.
inline void weigh_rows(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t first,
                       int64_t rows, int64_t block, const Hull &hull)
{
    bool plain = is_plain(shape);
    for (int64_t m = 0; m < rows; ++m) plain &= scratch.factor[first + m] > 0.0f;
    if (plain) {
        soften_strip(shape, scratch, first, rows, block, hull, kPanel);
        return;
    }
    for (int64_t m = 0; m < rows; ++m) {
        float *s = scratch.s + m * kRowStep;
        scale_products(scratch, first + m, s, hull.begin, hull.end);
        scratch.alpha[m] = weigh_scores(shape, tile, scratch, first + m, s, block, hull);
        narrow_row(s, scratch.p + m * kRowStep, hull.begin, hull.end);
    }
}

} // namespace
} // namespace attn::cpu

#endif

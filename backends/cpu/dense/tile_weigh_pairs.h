// From scores to weights as bfloat16, for one row over one block of keys.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_WEIGH_PAIRS_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_WEIGH_PAIRS_H

#include "backends/cpu/dense/tile_pack_pairs.h"
#include "backends/cpu/dense/tile_weigh.h"

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

/// Weights as floats to weights as pairs, in the first half of their row. Outside whole vectors around [begin, end)
/// they become 0.
inline void narrow_row(float *p, int64_t begin, int64_t end)
{
    const int64_t from = round_down(begin, kWidth), to = round_up(end, kWidth), last = round_up(end, kPanel);
    for (int64_t j = round_down(begin, kPanel); j < last; j += kChunk) {
        const Vec low = j >= from && j < to ? load(p + j) : Vec{};
        const Vec high = j + kWidth < to ? load(p + j + kWidth) : Vec{};
        store(p + j / 2, narrow(low, high));
    }
}

/// The softmax step without more: S times a positive factor -> P as pairs. Scores of whole vectors around the keys are
/// -inf where the row does not see them. Weights need no more precision than 2^-17 before they are rounded to 2^-9.
inline float soften_pairs(float *s, int64_t begin, int64_t end, float factor, float *max, float *sum)
{
    const int64_t first = round_down(begin, kPanel), last = round_up(end, kPanel);
    Vec top = splat(kLowest), second_top = top;
    for (int64_t j = first; j < last; j += kChunk) {
        top = larger(top, load(s + j));
        second_top = larger(second_top, load(s + j + kWidth));
    }
    const float seen = reduce_max(larger(top, second_top)) * factor;
    const float old = *max;
    const float now = seen > old ? seen : old;
    const float reference = now == kLowest ? 0.0f : now; // nothing seen yet: every weight becomes 0
    Vec total = {}, second_total = {};
    for (int64_t j = first; j < last; j += kChunk) {
        const Vec low = exp2_below_128<4>(load(s + j) * factor - reference);
        const Vec high = exp2_below_128<4>(load(s + j + kWidth) * factor - reference);
        total += low;
        second_total += high;
        store(s + j / 2, narrow(low, high));
    }
    *max = now;
    float alpha = 1.0f; // = 2^0
    if (now != old) {
        float lanes[kWidth];
        store(lanes, exp2(splat(old - reference)));
        alpha = lanes[0];
    }
    store(sum, load(sum) * alpha + (total + second_total));
    return alpha;
}

/// Row `row` of the tile, whose products with a block of keys are `s`, to weights. Returns the factor of what the row
/// has summed before.
inline float weigh_row(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t row,
                       float *s, int64_t block, const Hull &hull)
{
    const float factor = scratch.factor[row];
    const bool plain = shape.weight == Weight::softmax && shape.cap_factor == 0.0f && !shape.has_bias &&
                       !shape.has_entropy && factor > 0.0f;
    if (plain) {
        if (!hull.full) mask_row(shape, scratch.mask[row], scratch.position, block, hull.begin, hull.end, s);
        fill_lowest(s, round_down(hull.begin, kPanel), hull.begin);
        fill_lowest(s, hull.end, round_up(hull.end, kPanel));
        return soften_pairs(s, hull.begin, hull.end, factor, scratch.max + row, scratch.sum + row * kWidth);
    }
    scale_products(scratch, row, s, hull.begin, hull.end);
    const float alpha = weigh_scores(shape, tile, scratch, row, s, block, hull);
    narrow_row(s, hull.begin, hull.end);
    return alpha;
}

} // namespace
} // namespace attn::cpu

#endif

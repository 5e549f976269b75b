// The online softmax of one row over one block of keys.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_SOFTMAX_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_SOFTMAX_H

#include "backends/cpu/dense/tile_mask.h"

namespace attn::cpu {
namespace {

/// One step of the online softmax of one row: S -> P over vectors [begin, end); updates maximum and sum.
inline float soften_row(float *s, int64_t begin, int64_t end, float *max, float *sum)
{
    Vec top = splat(kLowest);
    for (int64_t j = begin; j < end; j += kWidth) top = larger(top, load(s + j));
    const float seen = reduce_max(top);
    const float old = *max;
    const float now = seen > old ? seen : old;
    const float reference = now == kLowest ? 0.0f : now; // nothing seen yet: every weight becomes 0
    Vec total = {};
    for (int64_t j = begin; j < end; j += kWidth) {
        const Vec weight = exp2_below_128(load(s + j) - reference);
        store(s + j, weight);
        total += weight;
    }
    *max = now;
    float alpha = 1.0f; // = 2^0
    if (now != old) {
        float lanes[kWidth];
        store(lanes, exp2(splat(old - reference)));
        alpha = lanes[0];
    }
    store(sum, load(sum) * alpha + total);
    return alpha;
}

/// Softcap, mask and softmax step of row `row` of the tile, whose scores of a block are `s`. Returns the factor of what
/// the row has summed before.
inline float soften_scores(const ForwardShape &shape, const Scratch &scratch, int64_t row, float *s, int64_t block,
                           const Hull &hull)
{
    const int64_t begin = round_down(hull.begin, kWidth), end = round_up(hull.end, kWidth);
    if (shape.cap_factor != 0.0f)
        for (int64_t j = begin; j < end; j += kWidth) store(s + j, tanh(load(s + j)) * shape.cap_factor);
    if (!hull.full) mask_row(shape, scratch.mask[row], scratch.position, block, hull.begin, hull.end, s);
    fill_lowest(s, begin, hull.begin);
    fill_lowest(s, hull.end, end);
    return soften_row(s, begin, end, scratch.max + row, scratch.sum + row * kWidth);
}

} // namespace
} // namespace attn::cpu

#endif

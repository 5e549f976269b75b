// From scores to weights, for one row over one block of keys: softcap, bias, mask, then the step of the online softmax,
// or sigmoid or ReLU.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_WEIGH_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_WEIGH_H

#include "backends/cpu/dense/tile_bias.h"

namespace attn::cpu {
namespace {

/// Weights from scores less the row's maximum. Smaller ones than 2^-100 are nothing beside that of the maximum, but
/// times V they would be numbers below 2^-126, with which processors multiply a hundred times slower.
template <int Degree = 6>
ATTN_INLINE Vec exp2_weight(Vec x)
{
    return exp2_below_128<Degree, -100>(x);
}

/// One step of the online softmax of one row: S -> P over vectors [begin, end); updates maximum and sum.
/// With a `spread`, also the sum of weight times score minus maximum, from which the entropy follows.
inline float soften_with_spread(float *s, int64_t begin, int64_t end, float *max, float *sum, float *spread)
{
    Vec top = splat(kLowest);
    for (int64_t j = begin; j < end; j += kWidth) top = larger(top, load(s + j));
    const float seen = reduce_max(top);
    const float old = *max;
    const float now = seen > old ? seen : old;
    const float reference = now == kLowest ? 0.0f : now; // nothing seen yet: every weight becomes 0
    if (spread) *spread += old == kLowest ? 0.0f : (old - now) * reduce_add(load(sum));
    Vec total = {}, distances = {};
    for (int64_t j = begin; j < end; j += kWidth) {
        const Vec weight = exp2_weight(load(s + j) - reference);
        if (spread) distances += weight == 0.0f ? Vec{} : weight * (load(s + j) - reference);
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
    if (spread) *spread = *spread * alpha + reduce_add(distances);
    return alpha;
}

/// Weights that do not depend on the other keys of the row. Masked scores are -inf and weigh 0.
inline void weigh_each(const ForwardShape &shape, const ForwardTile &tile, float *s, int64_t begin, int64_t end,
                       float *max)
{
    Vec top = splat(*max);
    const int64_t length = shape.weight_length ? shape.weight_length : tile.k_length;
    const float factor = 1.0f / static_cast<float>(length);
    for (int64_t j = begin; j < end; j += kWidth) {
        const Vec score = load(s + j);
        top = larger(top, score);
        if (shape.weight == Weight::sigmoid)
            store(s + j, 1.0f / (1.0f + exp2(-(score + shape.weight_bias))));
        else
            store(s + j, (score < 0.0f ? Vec{} : score) * factor);
    }
    *max = reduce_max(top);
}

/// Row `row` of the tile: from its products with a block of keys to scores, over whole vectors. What the row does not
/// see becomes -inf.
inline void finish_scores(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t row,
                          float *s, int64_t block, const Hull &hull)
{
    const int64_t begin = round_down(hull.begin, kWidth), end = round_up(hull.end, kWidth);
    const auto cap = [&](float inverse) {
        for (int64_t j = begin; j < end; j += kWidth) store(s + j, tanh(load(s + j) * inverse) * shape.cap_factor);
    };
    if (shape.cap_inverse != 0.0f) { // a bias before the softcap
        add_bias(shape, tile, scratch, row, block, hull, 1.0f, s);
        cap(shape.cap_inverse);
    } else {
        if (shape.cap_factor != 0.0f) cap(1.0f);
        if (shape.has_bias) add_bias(shape, tile, scratch, row, block, hull, shape.unit, s);
    }
    if (!hull.full) mask_row(shape, scratch, row, block, hull.begin, hull.end, s);
    fill_lowest(s, begin, hull.begin);
    fill_lowest(s, hull.end, end);
}

/// Likewise, and on to weights. Returns the factor of what the row has summed before.
inline float weigh_scores(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t row,
                          float *s, int64_t block, const Hull &hull)
{
    finish_scores(shape, tile, scratch, row, s, block, hull);
    const int64_t begin = round_down(hull.begin, kWidth), end = round_up(hull.end, kWidth);
    if (shape.weight != Weight::softmax) {
        weigh_each(shape, tile, s, begin, end, scratch.max + row);
        return 1.0f;
    }
    return soften_with_spread(s, begin, end, scratch.max + row, scratch.sum + row * kWidth,
                              shape.has_entropy ? scratch.spread + row : nullptr);
}

} // namespace
} // namespace attn::cpu

#endif

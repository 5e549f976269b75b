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
        const Vec weight = exp2(load(s + j) - reference);
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

} // namespace
} // namespace attn::cpu

#endif

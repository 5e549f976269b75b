// The row operations, for the instruction set that the including unit is compiled for.
#ifndef ATTN_TESTS_PERF_ROWS_SIMD_H
#define ATTN_TESTS_PERF_ROWS_SIMD_H

#include "backends/cpu/simd.h"
#include "rows.h"

namespace attn::perf {
namespace {

using namespace attn::cpu;

constexpr int64_t kUnroll = 4; ///< Accumulators, to hide the latency of max and add.

inline float soften(float *scores, int64_t visible, int64_t columns)
{
    for (int64_t i = visible; i < columns; ++i) scores[i] = kLowest;
    Vec top[kUnroll];
    for (Vec &v : top) v = splat(kLowest);
    int64_t i = 0;
    for (; i + kUnroll * kWidth <= columns; i += kUnroll * kWidth) {
        ATTN_UNROLL
        for (int64_t u = 0; u < kUnroll; ++u) top[u] = larger(top[u], load(scores + i + u * kWidth));
    }
    for (; i < columns; i += kWidth) top[0] = larger(top[0], load(scores + i));
    const float max = reduce_max(larger(larger(top[0], top[1]), larger(top[2], top[3])));
    Vec sum = {};
    for (i = 0; i < columns; i += kWidth) {
        const Vec weight = exp2(load(scores + i) - max);
        store(scores + i, weight);
        sum += weight;
    }
    return reduce_add(sum);
}

inline void scale(float *row, int64_t columns, float factor)
{
    for (int64_t i = 0; i < columns; i += kWidth) store(row + i, load(row + i) * factor);
}

inline void widen(const uint16_t *values, float *out, int64_t count, bool brain)
{
    for (int64_t i = 0; i < count; i += kWidth)
        store(out + i, brain ? from_bfloat16(values + i) : from_float16(values + i));
}

} // namespace
} // namespace attn::perf

#endif

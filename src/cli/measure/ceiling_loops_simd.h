// The loops, for the instruction set that the including unit is compiled for.
#ifndef ATTN_SRC_CLI_MEASURE_CEILING_LOOPS_SIMD_H
#define ATTN_SRC_CLI_MEASURE_CEILING_LOOPS_SIMD_H

#include "ceiling_loops.h"

#include <cstring>

#if defined(__clang__)
#define ATTN_MEASURE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ATTN_MEASURE_UNROLL _Pragma("GCC unroll 64")
#endif

namespace attn::perf {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kWidth = 16, kChains = 24; // of 32 registers
#elif defined(__AVX2__)
constexpr int64_t kWidth = 8, kChains = 12; // of 16 registers; two units of latency 4 or 5 need 10
#else
constexpr int64_t kWidth = 4, kChains = 8;
#endif
using Vec = float __attribute__((vector_size(kWidth * sizeof(float))));

inline float total_of(const Vec &v)
{
    float total = 0;
    for (int64_t i = 0; i < kWidth; ++i) total += v[i];
    return total;
}

/// x = x * factor + term, contracted to one instruction where there is one. Towards term / (1 - factor): neither
/// subnormal nor infinite.
inline float multiply_add(int64_t rounds, float factor, float term)
{
    const Vec f = Vec{} + factor, t = Vec{} + term;
    Vec x[kChains];
    for (int64_t c = 0; c < kChains; ++c) x[c] = t * static_cast<float>(c + 1);
    for (int64_t round = 0; round < rounds; ++round) {
        ATTN_MEASURE_UNROLL
        for (int64_t c = 0; c < kChains; ++c) x[c] = x[c] * f + t;
    }
    for (int64_t c = 1; c < kChains; ++c) x[0] += x[c];
    return total_of(x[0]);
}

constexpr int64_t kFlopsPerRound = 2 * kChains * kWidth;

inline float sum(const float *values, int64_t count)
{
    constexpr int64_t kStreams = 8;
    Vec total[kStreams] = {};
    for (int64_t i = 0; i < count; i += kStreams * kWidth) {
        ATTN_MEASURE_UNROLL
        for (int64_t s = 0; s < kStreams; ++s) {
            Vec part;
            std::memcpy(&part, values + i + s * kWidth, sizeof part);
            total[s] += part;
        }
    }
    for (int64_t s = 1; s < kStreams; ++s) total[0] += total[s];
    return total_of(total[0]);
}

} // namespace
} // namespace attn::perf

#endif

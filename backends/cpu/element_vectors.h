// Vectors of elements of any type: reading, writing, gates. Internal linkage: see simd.h.
#ifndef ATTN_BACKENDS_CPU_ELEMENT_VECTORS_H
#define ATTN_BACKENDS_CPU_ELEMENT_VECTORS_H

#include "backends/cpu/elements.h"
#include "backends/cpu/simd.h"

namespace attn::cpu {
namespace {

/// kWidth adjacent elements.
ATTN_INLINE Vec read_vector(const char *p, Element type)
{
    if (type == Element::float32) {
        Vec v;
        __builtin_memcpy(&v, p, sizeof v);
        return v;
    }
    const uint16_t *half = reinterpret_cast<const uint16_t *>(p);
    return type == Element::float16 ? from_float16(half) : from_bfloat16(half);
}

/// Up to kWidth elements, `step` elements apart; the lanes beyond are 0.
ATTN_INLINE Vec read_some(const char *p, Element type, int64_t step, int64_t count)
{
    if (type == Element::float32) {
        float lanes[kWidth] = {};
        for (int64_t i = 0; i < count; ++i) __builtin_memcpy(&lanes[i], p + i * step * 4, 4);
        return load(lanes);
    }
    uint16_t lanes[kWidth] = {};
    for (int64_t i = 0; i < count; ++i) __builtin_memcpy(&lanes[i], p + i * step * 2, 2);
    return type == Element::float16 ? from_float16(lanes) : from_bfloat16(lanes);
}

ATTN_INLINE float read_float(const char *p, Element type)
{
    float lanes[kWidth];
    store(lanes, read_some(p, type, 0, 1));
    return lanes[0];
}

/// kWidth adjacent elements.
ATTN_INLINE void write_vector(char *p, Element type, Vec v)
{
    if (type == Element::float32) {
        __builtin_memcpy(p, &v, sizeof v);
        return;
    }
    if (type == Element::bfloat16) { // nearest even; NaN stays a NaN
        const VecU u = reinterpret_cast<VecU>(v);
        const VecU rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
        const VecU quiet = (u >> 16) | 0x40;
        const VecHalf half = __builtin_convertvector((u & 0x7fffffff) > 0x7f800000 ? quiet : rounded, VecHalf);
        __builtin_memcpy(p, &half, sizeof half);
        return;
    }
#if defined(__AVX512F__)
    const __m256i half = _mm512_maskz_cvtps_ph(0xffff, v, _MM_FROUND_TO_NEAREST_INT);
    __builtin_memcpy(p, &half, sizeof half);
#elif defined(__F16C__)
    const __m128i half = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
    __builtin_memcpy(p, &half, sizeof half);
#elif defined(ATTN_NEON)
    const float16x4_t half = vcvt_f16_f32(v);
    __builtin_memcpy(p, &half, sizeof half);
#else
    for (int i = 0; i < kWidth; ++i) {
        const uint16_t half = to_float16(v[i]);
        __builtin_memcpy(p + 2 * i, &half, 2);
    }
#endif
}

ATTN_INLINE void write_element(char *p, Element type, float x)
{
    if (type == Element::float32) {
        __builtin_memcpy(p, &x, 4);
        return;
    }
    const uint16_t half = type == Element::float16 ? to_float16(x) : to_bfloat16(x);
    __builtin_memcpy(p, &half, 2);
}

/// The first `count` lanes, `step` elements apart.
ATTN_INLINE void write_some(char *p, Element type, int64_t step, int64_t count, Vec v)
{
    if (count == kWidth && step == 1) {
        write_vector(p, type, v);
        return;
    }
    float lanes[kWidth];
    store(lanes, v);
    for (int64_t i = 0; i < count; ++i) write_element(p + i * step * element_bytes(type), type, lanes[i]);
}

ATTN_INLINE Vec gate_value(Gate gate, Vec g)
{
    if (gate == Gate::linear) return g;
    const Vec sigmoid = 1.0f / (1.0f + exp(-g));
    return gate == Gate::silu ? g * sigmoid : sigmoid;
}

} // namespace
} // namespace attn::cpu

#endif

// The functions of backends/cpu/simd.h and element_vectors.h as one instruction set has them, behind plain pointers:
// the tests themselves are compiled for the baseline, so nothing of them can end up in a unit that needs a newer
// processor.
#ifndef ATTN_TESTS_UNIT_CORE_SIMD_H
#define ATTN_TESTS_UNIT_CORE_SIMD_H

#include <stdint.h>

namespace attn::test {

constexpr int kMostLanes = 16;

/// What core_simd_body.h fills in. Counts are multiples of kMostLanes.
struct SimdUnit {
    const char *isa; ///< As cpu::isa_name() has it.
    int width;
    void (*exp2)(const float *x, float *y, int64_t count);
    void (*exp)(const float *x, float *y, int64_t count);
    void (*tanh)(const float *x, float *y, int64_t count);
    void (*larger)(const float *a, const float *b, float *y); ///< [width]
    void (*splat)(float x, float *y);                         ///< [width]
    void (*transpose)(const float *x, float *y);              ///< [width, width]
    float (*reduce_max)(const float *x);                      ///< [width]
    float (*reduce_add)(const float *x);                      ///< [width]
    void (*from_bfloat16)(const uint16_t *x, float *y, int64_t count);
    void (*from_float16)(const uint16_t *x, float *y, int64_t count);
    void (*to_bfloat16)(const float *x, uint16_t *y, int64_t count);
    void (*to_float16)(const float *x, uint16_t *y, int64_t count);
    void (*write_bfloat16)(const float *x, uint16_t *y, int64_t count); ///< By whole vectors.
    void (*write_float16)(const float *x, uint16_t *y, int64_t count);
};

extern const SimdUnit kSimdBaseline;
#if defined(__x86_64__)
extern const SimdUnit kSimdAvx2;
extern const SimdUnit kSimdAvx512;
#elif defined(__aarch64__)
extern const SimdUnit kSimdNeon;
#endif

} // namespace attn::test

#endif

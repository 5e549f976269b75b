// Row operations of the baselines, once per instruction set, so that they are as fast as the processor allows.
#ifndef ATTN_TESTS_PERF_ROWS_H
#define ATTN_TESTS_PERF_ROWS_H

#include <cstdint>

namespace attn::perf {

struct RowKernels {
    /// Scores in units of log2(e) become softmax numerators in place; those from `visible` on are masked first. Returns
    /// the sum. `columns` is a multiple of 16.
    float (*soften)(float *scores, int64_t visible, int64_t columns);
    /// row *= factor. `columns` is a multiple of 16.
    void (*scale)(float *row, int64_t columns, float factor);
    /// out = values, `count` IEEE halves or (`brain`) bfloat16; a multiple of 16.
    void (*widen)(const uint16_t *values, float *out, int64_t count, bool brain);
};

extern const RowKernels kRowsBaseline;
#if defined(__x86_64__)
extern const RowKernels kRowsAvx2;
extern const RowKernels kRowsAvx512;
#endif

} // namespace attn::perf

#endif

// What a processor can do at best, measured: loops that do nothing but multiply and add, or nothing but read. Once per
// instruction set.
#ifndef ATTN_SRC_CLI_MEASURE_CEILING_LOOPS_H
#define ATTN_SRC_CLI_MEASURE_CEILING_LOOPS_H

#include <cstdint>

namespace attn::perf {

struct CeilingLoops {
    const char *isa; ///< As a value of ATTN_CPU_ISA.
    /// `rounds` rounds of independent multiplications and additions of floats in registers. Returns something that
    /// depends on all of them.
    float (*multiply_add)(int64_t rounds, float factor, float term);
    int64_t flops_per_round;
    /// Sum over `count` floats, a multiple of 128: reads at full bandwidth.
    float (*sum)(const float *values, int64_t count);
};

extern const CeilingLoops kCeilingBaseline;
#if defined(__x86_64__)
extern const CeilingLoops kCeilingAvx2;
extern const CeilingLoops kCeilingAvx512;
#endif

} // namespace attn::perf

#endif

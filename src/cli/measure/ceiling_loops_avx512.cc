#include "ceiling_loops_simd.h"

namespace attn::perf {

const CeilingLoops kCeilingAvx512 = {"avx512", multiply_add, kFlopsPerRound, sum};

} // namespace attn::perf

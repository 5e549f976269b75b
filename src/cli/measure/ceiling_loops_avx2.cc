#include "ceiling_loops_simd.h"

namespace attn::perf {

const CeilingLoops kCeilingAvx2 = {"avx2", multiply_add, kFlopsPerRound, sum};

} // namespace attn::perf

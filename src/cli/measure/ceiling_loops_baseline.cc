#include "ceiling_loops_simd.h"

namespace attn::perf {

const CeilingLoops kCeilingBaseline = {"baseline", multiply_add, kFlopsPerRound, sum};

} // namespace attn::perf

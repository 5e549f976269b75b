// Dense forward attention for the instruction set that the build compiles this file for: avx512.
#include "backends/cpu/dense/forward_tile.h"

namespace attn::cpu {

const ForwardKernel kForwardAvx512 = {
    "cpu.dense.forward.avx512", kStrip, kPanel, 768, kFewRows, scratch_bytes, run_tile, merge_tile, add_columns};

} // namespace attn::cpu

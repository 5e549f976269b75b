// Dense forward attention for the instruction set that the build compiles this file for: avx2.
#include "backends/cpu/dense/forward_tile.h"

namespace attn::cpu {

const ForwardKernel kForwardAvx2 = {
    "cpu.dense.forward.avx2", kStrip, kPanel, 768, kFewRows, scratch_bytes, run_tile, merge_tile, add_columns};

} // namespace attn::cpu

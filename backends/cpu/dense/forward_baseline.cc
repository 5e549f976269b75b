// Dense forward attention for the instruction set that the build compiles this file for: baseline.
#include "backends/cpu/dense/forward_tile.h"

namespace attn::cpu {

const ForwardKernel kForwardBaseline = {
    "cpu.dense.forward.baseline", kStrip, kPanel, 192, kFewRows, scratch_bytes, run_tile, merge_tile, add_columns};

} // namespace attn::cpu

// Dense forward attention for NEON, which every AArch64 processor has.
#define ATTN_NEON
#include "backends/cpu/dense/forward_tile.h"

namespace attn::cpu {

const ForwardKernel kForwardNeon = {
    "cpu.dense.forward.neon", kStrip, kPanel, 192, kFewRows, scratch_bytes, run_tile, merge_tile, add_columns};

} // namespace attn::cpu

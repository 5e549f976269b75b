// Linear attention in chunks for the instruction set that the build compiles this file for: baseline.
#include "backends/cpu/linear/chunk_forward.h"

namespace attn::cpu {

const LinearKernel kLinearBaseline = {"cpu.linear.chunk.baseline", scratch_bytes, run_linear, total_decay};

} // namespace attn::cpu

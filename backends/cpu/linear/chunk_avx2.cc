// Linear attention in chunks for the instruction set that the build compiles this file for: avx2.
#include "backends/cpu/linear/chunk_forward.h"

namespace attn::cpu {

const LinearKernel kLinearAvx2 = {"cpu.linear.chunk.avx2", scratch_bytes, run_linear, total_decay};

} // namespace attn::cpu

// Linear attention in chunks for the instruction set that the build compiles this file for: avx512.
#include "backends/cpu/linear/chunk_forward.h"

namespace attn::cpu {

const LinearKernel kLinearAvx512 = {"cpu.linear.chunk.avx512", scratch_bytes, run_linear, total_decay};

} // namespace attn::cpu

// Linear attention in chunks for NEON, which every AArch64 processor has.
#define ATTN_NEON
#include "backends/cpu/linear/chunk_forward.h"

namespace attn::cpu {

const LinearKernel kLinearNeon = {"cpu.linear.chunk.neon", scratch_bytes, run_linear, total_decay};

} // namespace attn::cpu

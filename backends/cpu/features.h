// What the processor offers, and which of the compiled instruction sets to use.
#ifndef ATTN_BACKENDS_CPU_FEATURES_H
#define ATTN_BACKENDS_CPU_FEATURES_H

#include "status.h"

namespace attn::cpu {

/// Instruction sets that kernels are compiled for, worst first. On one architecture each has what those before it have.
enum class Isa : int { baseline, neon, avx2, avx512, avx512_bf16, amx };

/// "baseline", "neon", "avx2", "avx512", "avx512_bf16" (with its dot products), "amx" (with bfloat16 tiles as well).
const char *isa_name(Isa isa) noexcept;

/// The best that both this build and this processor have.
Isa best_isa() noexcept;

/// The best, or the one the variable ATTN_CPU_ISA names; a name that is unknown or not available here is an error.
[[nodiscard]] attn_status choose_isa(Isa *isa) noexcept;

} // namespace attn::cpu

#endif

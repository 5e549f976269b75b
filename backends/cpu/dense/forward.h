// Dense forward attention on the CPU: entry of the implementation list.
#ifndef ATTN_BACKENDS_CPU_DENSE_FORWARD_H
#define ATTN_BACKENDS_CPU_DENSE_FORWARD_H

#include "backend.h"
#include "backends/cpu/features.h"

namespace attn::cpu {

/// Why the kernel does not serve a problem; empty if it does.
std::string refuse_forward(const Problem &problem, Isa isa);

/// Prepares the kernel of an instruction set for a problem that refuse_forward() accepted.
std::unique_ptr<Executor> make_forward(const attn_handle_s &handle, const Problem &problem, Isa isa);

// Likewise with products of bfloat16 pairs, which the processor must have: weights are rounded to bfloat16 and summed
// in float, so OUT must be bfloat16, too.
std::string refuse_forward_bf16(const Problem &problem, Isa isa);
std::unique_ptr<Executor> make_forward_bf16(const attn_handle_s &handle, const Problem &problem, Isa isa);

} // namespace attn::cpu

#endif

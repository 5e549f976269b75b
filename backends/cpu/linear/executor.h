// Linear attention on the CPU: which implementation serves a plan, and how its work is shared out.
#ifndef ATTN_BACKENDS_CPU_LINEAR_EXECUTOR_H
#define ATTN_BACKENDS_CPU_LINEAR_EXECUTOR_H

#include "backend.h"
#include "backends/cpu/features.h"

namespace attn::cpu {

std::string refuse_linear_recurrent(const Problem &problem, Isa isa);
std::unique_ptr<Executor> make_linear_recurrent(const attn_handle_s &handle, const Problem &problem, Isa isa);

std::string refuse_linear_chunk(const Problem &problem, Isa isa);
std::unique_ptr<Executor> make_linear_chunk(const attn_handle_s &handle, const Problem &problem, Isa isa);

} // namespace attn::cpu

#endif

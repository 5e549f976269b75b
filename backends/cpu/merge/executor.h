// Merge of partial results on the CPU: entry of the implementation list.
#ifndef ATTN_BACKENDS_CPU_MERGE_EXECUTOR_H
#define ATTN_BACKENDS_CPU_MERGE_EXECUTOR_H

#include "backend.h"
#include "backends/cpu/features.h"

namespace attn::cpu {

/// Why the kernel does not serve a problem; empty if it does.
std::string refuse_merge(const Problem &problem, Isa isa);

/// Prepares the kernel of an instruction set for a problem that refuse_merge() accepted.
std::unique_ptr<Executor> make_merge(const attn_handle_s &handle, const Problem &problem, Isa isa);

} // namespace attn::cpu

#endif

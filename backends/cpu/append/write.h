// Append to a cache on the CPU: entry of the implementation list.
#ifndef ATTN_BACKENDS_CPU_APPEND_WRITE_H
#define ATTN_BACKENDS_CPU_APPEND_WRITE_H

#include "backend.h"
#include "backends/cpu/features.h"

namespace attn::cpu {

/// Why the kernel does not serve a problem; empty if it does.
std::string refuse_append(const Problem &problem, Isa isa);

/// Prepares the kernel for a problem that refuse_append() accepted. One kernel serves every instruction set: it moves
/// memory.
std::unique_ptr<Executor> make_append(const attn_handle_s &handle, const Problem &problem, Isa isa);

} // namespace attn::cpu

#endif

// Convolutions and scans on the CPU: how their work is shared out.
#ifndef ATTN_BACKENDS_CPU_SEQUENCE_EXECUTOR_H
#define ATTN_BACKENDS_CPU_SEQUENCE_EXECUTOR_H

#include "backend.h"
#include "backends/cpu/sequence/call.h"

namespace attn::cpu {

std::unique_ptr<Executor> make_conv(const attn_handle_s &handle, const Problem &problem, Isa isa);
std::unique_ptr<Executor> make_scan(const attn_handle_s &handle, const Problem &problem, Isa isa);

} // namespace attn::cpu

#endif

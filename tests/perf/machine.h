// What the figures were taken on.
#ifndef ATTN_TESTS_PERF_MACHINE_H
#define ATTN_TESTS_PERF_MACHINE_H

#include "rows.h"

#include <string>

namespace attn::perf {

/// Environment variable of the process that measures: the processors it is confined to.
inline constexpr const char *kProcessors = "ATTN_BENCH_PROCESSORS";

/// Confines the process, and what it starts, to `count` processors, each of a core of its own. Returns their numbers,
/// or "any" where there are not as many.
std::string pin_to_cores(int count);

/// Instruction set that libattn uses here: "baseline", "avx2", "avx512". Follows ATTN_CPU_ISA.
std::string library_isa();
const RowKernels &row_kernels(const std::string &isa);

/// Lines on processor, instruction sets, OpenBLAS, threads and date, each beginning with `prefix`.
std::string describe_machine(const char *prefix, int threads, int repetitions);

} // namespace attn::perf

#endif

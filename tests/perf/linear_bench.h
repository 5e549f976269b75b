// Linear attention in chunks beside the recurrence, sgemm and the bandwidth of memory, in one process.
#ifndef ATTN_TESTS_PERF_LINEAR_BENCH_H
#define ATTN_TESTS_PERF_LINEAR_BENCH_H

#include <string>

namespace attn::perf {

/// Measures the forms whose name contains `filter` and prints a table. Returns whether all bars are met.
bool measure_linear(const std::string &filter, int threads, int repetitions);

} // namespace attn::perf

#endif

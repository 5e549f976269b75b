// What the options of dense attention cost: each beside attention without it, in turns.
#ifndef ATTN_TESTS_PERF_OPTION_BENCH_H
#define ATTN_TESTS_PERF_OPTION_BENCH_H

#include <attn/attn.h>

#include <string>

namespace attn::perf {

/// ATTN_FLOAT32 of "fp32", and so on; 0 of another name.
attn_dtype option_dtype(const std::string &name);

/// Measures the options whose name contains `filter` and prints a table. Returns whether all bars are met; those are
/// for float32.
bool measure_options(attn_dtype dtype, const std::string &filter, int threads, int repetitions);

} // namespace attn::perf

#endif

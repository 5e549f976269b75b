// The table for people, the one for programs, and the verdict.
#ifndef ATTN_TESTS_PERF_REPORT_H
#define ATTN_TESTS_PERF_REPORT_H

#include "bench.h"

#include <cstdio>

namespace attn::perf {

void print_header();
void print_row(const Result &result);

void write_csv_header(std::FILE *file);
void write_csv_row(std::FILE *file, const std::string &table, const Result &result);

/// One line for each bar, met or missed, and for each case whose outputs differ. Returns whether all is well.
bool print_verdict(const std::vector<Result> &results);

} // namespace attn::perf

#endif

// The results of `attn bench` for people and for programs.
#ifndef ATTN_SRC_CLI_BENCH_REPORT_H
#define ATTN_SRC_CLI_BENCH_REPORT_H

#include "bench_run.h"

#include <cstdio>
#include <string>
#include <vector>

namespace attn::cli {

/// What the figures were taken with.
struct BenchSetup {
    std::string processor;
    int threads, repetitions;
    Ceilings ceilings;
};

void print_table_header(std::FILE *file);
void print_table_row(std::FILE *file, const BenchResult &result);

void print_csv_header(std::FILE *file);
void print_csv_row(std::FILE *file, const BenchSetup &setup, const BenchResult &result);

/// Horizontal bars in percent of the ceilings, as SVG.
std::string plot(const BenchSetup &setup, const std::vector<BenchResult> &results);

/// "446 GFLOP/s" or "26.5 GB/s".
std::string rate_text(double rate, Ceiling ceiling);

} // namespace attn::cli

#endif

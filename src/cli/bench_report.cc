#include "bench_report.h"

namespace attn::cli {
namespace {

const char *unit(Ceiling ceiling)
{
    return ceiling == Ceiling::read ? "GB/s" : "GFLOP/s";
}

const char *ceiling_name(Ceiling ceiling)
{
    return ceiling == Ceiling::read ? "read" : "multiply_add";
}

const char *operator_name(Operator op)
{
    return op == Operator::merge    ? "merge"
           : op == Operator::append ? "append"
           : op == Operator::linear ? "linear"
           : op == Operator::conv   ? "conv"
           : op == Operator::scan   ? "scan"
                                    : "dense";
}

const char *dtype_name(attn_dtype dtype)
{
    return dtype == ATTN_FLOAT16 ? "float16" : dtype == ATTN_BFLOAT16 ? "bfloat16" : "float32";
}

} // namespace

std::string rate_text(double rate, Ceiling ceiling)
{
    char text[48];
    snprintf(text, sizeof text, "%.*f %s", rate < 1e11 ? 1 : 0, rate * 1e-9, unit(ceiling));
    return text;
}

void print_table_header(std::FILE *file)
{
    std::fprintf(file, "%-46s %8s %31s %7s %14s %5s\n", "case", "plan us", "ms median (min .. max)", "spread", "rate",
                 "%");
}

void print_table_row(std::FILE *file, const BenchResult &r)
{
    char times[64];
    snprintf(times, sizeof times, "%.3f (%.3f .. %.3f)", r.times.median * 1e3, r.times.min * 1e3, r.times.max * 1e3);
    std::fprintf(file, "%-46s %8.2f %31s %6.0f%% %14s %5.1f\n", r.shape.name.c_str(), r.plan_seconds * 1e6, times,
                 r.spread() * 100, rate_text(r.rate(), r.shape.ceiling).c_str(), r.to_ceiling() * 100);
    std::fflush(file);
}

void print_csv_header(std::FILE *file)
{
    std::fputs("case,operator,dtype,isa,threads,repetitions,plan_us,median_ms,min_ms,max_ms,spread_percent,cpus_used,"
               "unit,rate,ceiling,ceiling_rate,percent_of_ceiling\n",
               file);
}

void print_csv_row(std::FILE *file, const BenchSetup &setup, const BenchResult &r)
{
    std::fprintf(file, "%s,%s,%s,%s,%d,%d,%.3f,%.6f,%.6f,%.6f,%.2f,%.2f,%s,%.4f,%s,%.3f,%.2f\n", r.shape.name.c_str(),
                 operator_name(r.shape.op), dtype_name(r.shape.dtype), setup.ceilings.isa.c_str(), setup.threads,
                 setup.repetitions, r.plan_seconds * 1e6, r.times.median * 1e3, r.times.min * 1e3, r.times.max * 1e3,
                 r.spread() * 100, r.times.processors, unit(r.shape.ceiling), r.rate() * 1e-9,
                 ceiling_name(r.shape.ceiling), r.ceiling * 1e-9, r.to_ceiling() * 100);
    std::fflush(file);
}

} // namespace attn::cli

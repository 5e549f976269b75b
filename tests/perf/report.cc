#include "report.h"

#include <algorithm>

namespace attn::perf {
namespace {

// The bars.
constexpr double kFullToSgemm = 0.85;
constexpr double kNarrowToSgemm = 0.75; ///< d64
constexpr double kCausalToUnfused = 1.6;
constexpr double kLongToUnfused = 1.2;
constexpr double kAnyToUnfused = 1.0;
constexpr double kHalfToFloat = 0.9;
constexpr double kDecodeToRead = 0.8;
constexpr double kHalfDecodeToRead = 0.6;
constexpr double kGroupedToUngrouped = 0.9;

double tolerance(attn_dtype dtype)
{
    switch (dtype) {
    case ATTN_FLOAT32:
        return 2e-5;
    case ATTN_FLOAT16:
        return 2e-3;
    default:
        return 1e-2;
    }
}

bool verdict(const std::string &bar, const Result &result, double value, double least)
{
    const bool met = value >= least;
    std::printf("%-6s %-34s %-30s %.2f, bar %.2f\n", met ? "met" : "MISSED", bar.c_str(), result.shape.name.c_str(),
                value, least);
    return met;
}

} // namespace

void print_header()
{
    std::printf("%-29s %28s %5s %28s %8s %9s %8s %6s\n", "", "libattn ms", "cpus", "unfused ms", "GFLOP/s", "vs sgemm",
                "vs", "");
    std::printf("%-29s %28s %5s %28s %8s %9s %8s %6s\n", "case", "median (min .. max)", "used", "median (min .. max)",
                "or GB/s", "or read", "unfused", "error");
}

void print_row(const Result &r)
{
    const auto ms = [](const Times &t) {
        char text[64];
        snprintf(text, sizeof text, "%.2f (%.2f .. %.2f)", t.median * 1e3, t.min * 1e3, t.max * 1e3);
        return std::string(text);
    };
    std::printf("%-29s %28s %5.2f %28s %8.1f %9.2f %8.2f %6.0e\n", r.shape.name.c_str(), ms(r.attention).c_str(),
                r.attention.processors, ms(r.unfused).c_str(), r.rate() * 1e-9, r.to_ceiling(), r.to_unfused(),
                r.error);
    std::fflush(stdout);
}

void write_csv_header(std::FILE *file)
{
    std::fputs(
        "table,case,libattn_median_ms,libattn_min_ms,libattn_max_ms,libattn_cpus_used,unfused_median_ms,unfused_min_ms,"
        "unfused_max_ms,unfused_split,unit,libattn_rate,ceiling,ceiling_rate,ceiling_ratio,unfused_ratio,error\n",
        file);
}

void write_csv_row(std::FILE *file, const std::string &table, const Result &r)
{
    const bool decode = r.shape.is_decode();
    std::fprintf(file, "%s,%s,%.4f,%.4f,%.4f,%.2f,%.4f,%.4f,%.4f,%s,%s,%.2f,%s,%.2f,%.4f,%.4f,%.2e\n", table.c_str(),
                 r.shape.name.c_str(), r.attention.median * 1e3, r.attention.min * 1e3, r.attention.max * 1e3,
                 r.attention.processors, r.unfused.median * 1e3, r.unfused.min * 1e3, r.unfused.max * 1e3,
                 split_name(r.split), decode ? "GB/s" : "GFLOP/s", r.rate() * 1e-9,
                 decode ? "read" : "sgemm 2048x2048x128", r.ceiling_rate * 1e-9, r.to_ceiling(), r.to_unfused(),
                 r.error);
    std::fflush(file);
}

bool print_verdict(const std::vector<Result> &results)
{
    bool good = true;
    const Result *slowest = nullptr;
    const auto find = [&](const std::string &name) {
        const auto at =
            std::find_if(results.begin(), results.end(), [&](const Result &r) { return r.shape.name == name; });
        return at == results.end() ? nullptr : &*at;
    };
    const auto compare = [&](const char *bar, const std::string &name, const std::string &other, double least) {
        const Result *a = find(name), *b = find(other);
        if (a && b) good &= verdict(bar, *a, a->rate() / b->rate(), least);
    };
    for (const char *dtype : {" fp16", " bf16"})
        compare("halves against fp32", std::string("s2048 h8 d128 full") + dtype, "s2048 h8 d128 full", kHalfToFloat);
    for (const Result &r : results) {
        if (r.shape.name == "s2048 h8 d128 full")
            good &= verdict("full against sgemm", r, r.to_ceiling(), kFullToSgemm);
        if (r.shape.name == "s2048 h8 d64 full")
            good &= verdict("full against sgemm", r, r.to_ceiling(), kNarrowToSgemm);
        if (r.shape.name == "s2048 h8 d128 causal")
            good &= verdict("causal against unfused", r, r.to_unfused(), kCausalToUnfused);
        if (r.shape.name == "s16384 h2 d128 full")
            good &= verdict("long against unfused", r, r.to_unfused(), kLongToUnfused);
        if (r.shape.heads_q == 8 * r.shape.heads_kv)
            good &= verdict("8 queries per key against 1", r, r.to_ungrouped(), kGroupedToUngrouped);
        if (r.shape.is_decode() && r.shape.by_head)
            good &= verdict("decode against reading", r, r.to_ceiling(),
                            r.shape.dtype == ATTN_FLOAT32 ? kDecodeToRead : kHalfDecodeToRead);
        if (!slowest || r.to_unfused() < slowest->to_unfused()) slowest = &r;
        if (!(r.error <= tolerance(r.shape.dtype))) {
            std::printf("WRONG  %s: error %.1e, tolerance %.1e\n", r.shape.name.c_str(), r.error,
                        tolerance(r.shape.dtype));
            good = false;
        }
    }
    if (slowest) good &= verdict("least of all against unfused", *slowest, slowest->to_unfused(), kAnyToUnfused);
    return good;
}

} // namespace attn::perf

// Speed of attention on the CPU: libattn, an unfused sgemm - softmax - sgemm with OpenBLAS, and sgemm alone (in decode
// cases: reading memory), in one process and in turns.
//
// There is one table for each pairing of instruction sets, in a process of its own because OpenBLAS chooses its kernels
// while it is loaded:
//   default      both libraries choose; variables that influence the choice, or OpenBLAS, are removed
//   avx512       both with AVX-512 (an OpenBLAS older than the processor may choose less by itself)
//   avx2         both with AVX2
//   environment  as the environment says; only if named
// The row operations of the unfused baseline use libattn's instruction set and its exponential.
#include "linear_bench.h"
#include "machine.h"
#include "option_bench.h"
#include "report.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <sys/wait.h>
#include <unistd.h>

namespace attn::perf {
namespace {

constexpr const char *kUsage =
    "usage: attn_cpu_bench [--repetitions N] [--threads N] [--filter SUBSTRING] [--csv FILE]\n"
    "                      [--table default|avx512|avx2|environment] [--check] [--list]\n"
    "       attn_cpu_bench --options fp32|fp16|bf16 [--repetitions N] [--threads N] [--filter SUBSTRING] [--check]\n"
    "       attn_cpu_bench --linear [--repetitions N] [--threads N] [--filter SUBSTRING] [--check]\n"
    "  --linear       instead linear attention beside its reference path, sgemm and memory; follows ATTN_CPU_ISA\n"
    "  --options      instead what each option costs beside plain attention; follows ATTN_CPU_ISA\n"
    "  --repetitions  rounds of each case, default 11\n"
    "  --threads      threads of each contender, default 2\n"
    "  --filter       only cases whose name contains this\n"
    "  --csv          write the results here, too\n"
    "  --table        only this pairing of instruction sets, default: all that the processor has\n"
    "  --check        exit with 1 if a bar is missed or an output is wrong\n"
    "  --list         print the cases\n";

struct Table {
    const char *name;
    const char *isa;  ///< ATTN_CPU_ISA; NULL: none.
    const char *core; ///< OPENBLAS_CORETYPE; NULL: none.
};
constexpr const char *kEnvironment = "environment";
constexpr Table kTables[] = {{"default", nullptr, nullptr},
                             {"avx512", "avx512", "SKYLAKEX"},
                             {"avx2", "avx2", "HASWELL"},
                             {kEnvironment, nullptr, nullptr}};
/// What would make the libraries other than they are by themselves.
constexpr const char *kInfluences[] = {"ATTN_CPU_ISA", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_BLOCK_FACTOR",
                                       "OPENBLAS_THREAD_TIMEOUT"};

struct Options {
    int repetitions = 11, threads = 2;
    std::string filter, csv, table, dtype; ///< `dtype`: that of the table of options.
    bool check = false, list = false, linear = false;
};

bool parse(int count, char **words, Options *options)
{
    for (int i = 1; i < count; ++i) {
        const std::string word = words[i];
        if (word == "--check" || word == "--list" || word == "--linear") {
            (word == "--check" ? options->check : word == "--list" ? options->list : options->linear) = true;
            continue;
        }
        if (i + 1 == count) return false;
        const char *value = words[++i];
        if (word == "--repetitions")
            options->repetitions = std::atoi(value);
        else if (word == "--threads")
            options->threads = std::atoi(value);
        else if (word == "--filter")
            options->filter = value;
        else if (word == "--csv")
            options->csv = value;
        else if (word == "--options")
            options->dtype = value;
        else if (word == "--table")
            options->table = value;
        else
            return false;
    }
    bool known = options->table.empty();
    for (const Table &table : kTables) known |= options->table == table.name;
    known &= options->dtype.empty() || option_dtype(options->dtype) != 0;
    return known && options->repetitions > 0 && options->threads > 0;
}

std::FILE *open_csv(const Options &options, const char *mode)
{
    if (options.csv.empty()) return nullptr;
    std::FILE *file = std::fopen(options.csv.c_str(), mode);
    if (!file) throw std::runtime_error(options.csv + ": " + std::strerror(errno));
    return file;
}

/// Measures one table in this process; returns whether all bars are met.
bool measure_table(const Options &options)
{
    const std::string isa = library_isa();
    std::printf("== %s\n%s", options.table.c_str(), describe_machine("", options.threads, options.repetitions).c_str());
    Bench bench(options.threads, options.repetitions);
    const std::string products = bench.measure_products();
    std::printf("%s\n\n", products.c_str());
    std::FILE *csv = open_csv(options, "a");
    if (csv)
        std::fprintf(csv, "# table %s\n%s# %s\n", options.table.c_str(),
                     describe_machine("# ", options.threads, options.repetitions).c_str(), products.c_str());
    print_header();
    std::vector<Result> results;
    for (const Case &shape : all_cases()) {
        if (shape.name.find(options.filter) == std::string::npos) continue;
        results.push_back(bench.measure(shape));
        print_row(results.back());
        if (csv) write_csv_row(csv, options.table, results.back());
    }
    if (csv) std::fclose(csv);
    std::printf("\nUnfused: products in float32, half inputs widened first; causal masks but skips nothing.\n");
    const bool good = print_verdict(results);
    std::printf("\n");
    return good;
}

bool measure_recurrences(const Options &options)
{
    std::printf("%s\n", describe_machine("", options.threads, options.repetitions).c_str());
    const bool good = measure_linear(options.filter, options.threads, options.repetitions);
    std::printf("\n");
    return good;
}

bool has_avx512()
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
    return false;
#endif
}

bool has_avx2()
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

bool is_wanted(const Table &table, const Options &options)
{
    if (!options.table.empty()) return options.table == table.name;
    if (!table.isa) return std::strcmp(table.name, kEnvironment) != 0;
    return std::strcmp(table.isa, "avx512") == 0 ? has_avx512() : has_avx2();
}

/// Runs this program again for one table; returns its exit status.
int measure_apart(const Table &table, const Options &options, char **words)
{
    const pid_t child = fork();
    if (child < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
    if (child == 0) {
        const std::string threads = std::to_string(options.threads);
        setenv(kProcessors, pin_to_cores(options.threads).c_str(), 1);
        setenv("OPENBLAS_NUM_THREADS", threads.c_str(), 1);
        if (std::strcmp(table.name, kEnvironment) != 0)
            for (const char *name : kInfluences) unsetenv(name);
        if (table.isa) setenv("ATTN_CPU_ISA", table.isa, 1);
        if (table.core) setenv("OPENBLAS_CORETYPE", table.core, 1);
        std::vector<char *> arguments;
        for (char **word = words; *word; ++word) arguments.push_back(*word);
        char flag[] = "--table";
        std::string name = table.name;
        arguments.insert(arguments.end(), {flag, name.data(), nullptr});
        execv("/proc/self/exe", arguments.data());
        std::perror("attn_cpu_bench");
        _exit(127);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return 127;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

int run(int count, char **words)
{
    Options options;
    if (!parse(count, words, &options)) {
        std::fputs(kUsage, stderr);
        return 2;
    }
    if (options.list) {
        for (const Case &shape : all_cases()) std::printf("%s\n", shape.name.c_str());
        return 0;
    }
    if (!options.dtype.empty()) {
        std::printf("%s\n", describe_machine("", options.threads, options.repetitions).c_str());
        const bool good =
            measure_options(option_dtype(options.dtype), options.filter, options.threads, options.repetitions);
        return good || !options.check ? 0 : 1;
    }
    if (std::getenv(kProcessors))
        return (options.linear ? measure_recurrences(options) : measure_table(options)) || !options.check ? 0 : 1;
    if (std::FILE *csv = open_csv(options, "w")) {
        write_csv_header(csv);
        std::fclose(csv);
    }
    int worst = 0;
    // Beside linear attention stands OpenBLAS for the same instructions, which it may not choose by itself.
    const bool only_named = options.linear && options.table.empty() && has_avx2();
    for (const Table &table : kTables)
        if (is_wanted(table, options) && (table.isa || !only_named))
            worst = std::max(worst, measure_apart(table, options, words));
    return worst;
}

} // namespace
} // namespace attn::perf

int main(int count, char **words)
{
    try {
        return attn::perf::run(count, words);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "attn_cpu_bench: %s\n", error.what());
        return 2;
    }
}

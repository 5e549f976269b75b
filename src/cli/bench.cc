// attn bench: how fast the library is here, beside what the machine could do.
#include "bench_report.h"
#include "commands.h"
#include "instruction_sets.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <unistd.h>

namespace attn::cli {
namespace {

struct CloseFile {
    void operator()(std::FILE *file) const
    {
        if (file != stdout) std::fclose(file);
    }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

File open_output(const std::string &path)
{
    if (path == "-") return File(stdout);
    File file(std::fopen(path.c_str(), "w"));
    if (!file) throw UsageError("cannot write `" + path + "`: " + std::strerror(errno));
    return file;
}

/// Says on stderr what is being measured, where someone waits for it: on a terminal, or after a while.
class Progress {
public:
    explicit Progress(size_t count) : count_(count) {}
    void next(const std::string &what)
    {
        ++done_;
        const auto passed = std::chrono::steady_clock::now() - start_;
        if (!isatty(STDERR_FILENO) && passed < std::chrono::seconds(5)) return;
        std::fprintf(stderr, "[%zu/%zu] %s\n", done_, count_, what.c_str());
    }

private:
    size_t count_, done_ = 0;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void list_cases(const std::vector<BenchCase> &cases)
{
    for (const BenchCase &c : cases) std::printf("%s\n", c.name.c_str());
}

/// Measures a case; an error says which.
BenchResult measure_named(const Handle &handle, const BenchCase &shape, const BenchSetup &setup)
{
    try {
        return measure(handle, shape, setup.ceilings, setup.repetitions);
    } catch (const Error &error) {
        throw Error(error.status(), ('`' + shape.name + "`: " + error.what()).c_str());
    }
}

/// The lines above the table: machine and ceilings.
void print_setup(std::FILE *file, const BenchSetup &setup, perf::Team &team)
{
    std::fprintf(file, "%s, %s in use, %d threads, %d repetitions\n", setup.processor.c_str(),
                 setup.ceilings.isa.c_str(), setup.threads, setup.repetitions);
    std::fprintf(file, "ceilings: reading memory %s; multiply-adds on registers, float32:",
                 rate_text(setup.ceilings.read, Ceiling::read).c_str());
    const char *separator = "";
    for (const InstructionSet &set : instruction_sets()) {
        if (!set.refusal.empty()) continue;
        const double rate = set.name == setup.ceilings.isa ? setup.ceilings.multiply_add
                                                           : measure_multiply_add(team, set.name, setup.repetitions);
        std::fprintf(file, "%s %s %s", separator, set.name.c_str(), rate_text(rate, Ceiling::multiply_add).c_str());
        separator = ",";
    }
    std::fprintf(file, "\n\n");
}

int run_bench(const Arguments &arguments)
{
    const std::string pattern = arguments.text("--filter", "");
    const std::vector<BenchCase> cases = filter_cases(pattern);
    if (cases.empty()) throw UsageError("no case matches `" + pattern + "`; `attn bench --list` names them");
    if (arguments.has("--list")) {
        list_cases(cases);
        return kSuccess;
    }
    const auto device = device_info(ATTN_DEVICE_CPU);
    BenchSetup setup = {device.name, 0, 0, {}};
    setup.threads = static_cast<int>(arguments.integer("--threads", device.compute_units, 1, 1024));
    setup.repetitions = static_cast<int>(arguments.integer("--repetitions", 11, 1, 1000000));
    // Everything that may fail, before anything takes long.
    const std::string csv_path = arguments.text("--csv", ""), plot_path = arguments.text("--plot", "");
    if (csv_path == "-" && plot_path == "-") throw UsageError("only one of `--csv` and `--plot` may be `-`");
    const File csv = csv_path.empty() ? nullptr : open_output(csv_path);
    const File svg = plot_path.empty() ? nullptr : open_output(plot_path);
    const bool stdout_is_taken = csv_path == "-" || plot_path == "-";
    std::FILE *table = stdout_is_taken ? (arguments.has("--table") ? stderr : nullptr) : stdout;
    auto options = sized<attn_options>();
    options.max_workers = setup.threads;
    const Handle handle(options);

    Progress progress(cases.size() + 1);
    progress.next("ceilings of the machine");
    {
        perf::Team team(setup.threads);
        setup.ceilings = measure_ceilings(team, chosen_instruction_set(), setup.repetitions);
        if (table) print_setup(table, setup, team);
    } // its threads end before the library's are timed
    if (table) print_table_header(table);
    if (csv) print_csv_header(csv.get());
    std::vector<BenchResult> results;
    for (const BenchCase &shape : cases) {
        progress.next(shape.name);
        results.push_back(measure_named(handle, shape, setup));
        if (table) print_table_row(table, results.back());
        if (csv) print_csv_row(csv.get(), setup, results.back());
    }
    if (svg) std::fputs(plot(setup, results).c_str(), svg.get());
    for (const File *file : {&csv, &svg})
        if (*file && (std::fflush(file->get()) != 0 || std::ferror(file->get())))
            throw std::runtime_error(std::string("writing the results: ") + std::strerror(errno));
    return kSuccess;
}

} // namespace

Command bench_command()
{
    return {"bench",
            nullptr,
            "Measures every kind of plan on the CPU, beside what the machine can do at best.",
            {{"--filter", "PATTERN", "cases whose name contains this; with * ? or [ it matches whole names"},
             {"--list", nullptr, "print the names of the cases and stop"},
             {"--table", nullptr,
              "print the table (default; to standard error where that is taken by --csv - or --plot -)"},
             {"--csv", "FILE", "write the results as CSV; - for standard output, instead of the table"},
             {"--plot", "FILE.svg", "write a chart: percent of the ceiling of each case; - for standard output"},
             {"--threads", "N", "threads of the library and of the ceilings (default: all cores)"},
             {"--repetitions", "N", "samples of each case, of at least 20 ms (default 11)"}},
            "Columns: the time to make the plan again (a plan is made once and executed often); median, smallest and\n"
            "largest time of an execute; their spread, (largest - smallest) / median; the rate; percent of a ceiling\n"
            "measured in the same run. Ceilings: for prefill, varlen and latent decoding the rate of float32\n"
            "multiply-adds on registers with the instruction set in use (16-bit inputs are computed in float32); for\n"
            "the others the bandwidth of all threads reading 384 MiB. Rates count what the definition needs: pairs\n"
            "that the mask leaves, K and V once, for merge, append, convolution and scan every byte read and written,\n"
            "for steps of linear attention the states read and written, for the rest of it the products of chunks of\n"
            "64 tokens. A working set that fits a cache can exceed the bandwidth of memory.\n"
            "Measure on a machine that does nothing else. ATTN_CPU_ISA chooses the instruction set.\n\n"
            "exit codes: 0; 2 wrong options, or a file that cannot be written; 3 the library refused\n",
            run_bench};
}

} // namespace attn::cli

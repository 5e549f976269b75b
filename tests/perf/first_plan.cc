// How long the first plan takes on a GPU, by where its kernels come from. Each figure is of a process of its own, with
// the driver initialised and the primary context retained before the clock starts; medians over processes.
//
// usage: attn_first_plan [PROCESSES]     10 without it
#include "tests/gpu/driver.h"

#include <attn/attn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kDefaultProcesses = 10;
constexpr int kWarmPlans = 200;

double milliseconds_since(Clock::time_point begin)
{
    return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

double median(std::vector<double> x)
{
    if (x.empty()) return 0;
    std::sort(x.begin(), x.end());
    return x.size() % 2 ? x[x.size() / 2] : (x[x.size() / 2 - 1] + x[x.size() / 2]) / 2;
}

// The operations that are planned.
struct Operation {
    const char *name;
    std::int64_t queries, keys, page_size;
};
constexpr Operation kOperations[] = {{"prefill 8192 causal", 8192, 8192, 0},
                                     {"decode 32768, pages of 16", 1, 32768, 16}};

// Where kernels may come from.
struct Source {
    const char *name;
    std::uint64_t flags;
    const char *kernel_sources; // value of ATTN_KERNEL_SOURCES
    bool primed;                // a process before the measured ones fills the disk cache
    const char *origin;         // what the plan must say of its kernel
};
constexpr Source kSources[] = {
    {"embedded pack", ATTN_HANDLE_NO_COMPILE | ATTN_HANDLE_NO_DISK_CACHE, "", false, "embedded pack"},
    {"disk cache", 0, "nvrtc", true, "disk cache"},
    {"NVRTC", ATTN_HANDLE_NO_DISK_CACHE, "nvrtc", false, "compiled"}};

struct Times {
    double create = 0, first = 0, warm = 0; // ms
};

attn_plan make_plan(attn_handle handle, const Operation &operation)
{
    attn_problem problem{};
    problem.size = sizeof problem, problem.q_dtype = ATTN_BFLOAT16, problem.batch = 4, problem.heads_q = 32;
    problem.heads_k = 8, problem.dim_qk = 128, problem.max_q = operation.queries, problem.max_kv = operation.keys;
    problem.page_size = operation.page_size;
    attn_dense dense{};
    dense.size = sizeof dense, dense.problem = &problem, dense.causal = ATTN_BOTTOM_RIGHT;
    attn_plan plan = nullptr;
    if (attn_plan_dense(handle, &dense, &plan) != ATTN_OK) throw std::runtime_error(attn_last_error());
    return plan;
}

// A figure is of kernels from where its row says, or of nothing.
void check_origin(attn_plan plan, const char *origin)
{
    std::size_t length = 0;
    attn_plan_describe(plan, nullptr, 0, &length);
    std::vector<char> text(length + 1);
    if (attn_plan_describe(plan, text.data(), text.size(), nullptr) != ATTN_OK)
        throw std::runtime_error(attn_last_error());
    const char *found = std::strstr(text.data(), "\"kernel_origin\"");
    const std::string says = std::string(found ? found : "no kernel_origin").substr(0, 40);
    if (says.find(origin) == std::string::npos)
        throw std::runtime_error(std::string("the kernel is not from: ") + origin + "; the plan says " + says);
}

Times measure(const Source &source, const Operation &operation, bool primes)
{
    const gpu_test::Context context = gpu_test::primary_context();
    static_cast<void>(context);
    Times times;
    attn_options options{};
    options.size = sizeof options, options.device = ATTN_DEVICE_CUDA, options.flags = source.flags;
    attn_handle handle = nullptr;
    Clock::time_point begin = Clock::now();
    if (attn_create(&options, &handle) != ATTN_OK) throw std::runtime_error(attn_last_error());
    times.create = milliseconds_since(begin);
    begin = Clock::now();
    attn_plan plan = make_plan(handle, operation);
    times.first = milliseconds_since(begin);
    if (!primes) check_origin(plan, source.origin);
    attn_plan_destroy(plan);
    std::vector<double> warm;
    for (int n = 0; n < kWarmPlans; ++n) {
        begin = Clock::now();
        plan = make_plan(handle, operation);
        warm.push_back(milliseconds_since(begin));
        attn_plan_destroy(plan);
    }
    times.warm = median(warm);
    attn_destroy(handle);
    return times;
}

// Runs this program again as the child that measures one combination. Throws with what the child said.
Times run_child(const char *program, std::size_t source, std::size_t operation, bool primes = false)
{
    int pipe_ends[2];
    if (pipe(pipe_ends) != 0) throw std::runtime_error("pipe() failed");
    const pid_t child = fork();
    if (child == 0) {
        dup2(pipe_ends[1], STDOUT_FILENO);
        close(pipe_ends[0]), close(pipe_ends[1]);
        const std::string s = std::to_string(source), o = std::to_string(operation);
        execl(program, program, "--child", s.c_str(), o.c_str(), primes ? "primes" : "measures",
              static_cast<char *>(nullptr));
        _exit(127);
    }
    close(pipe_ends[1]);
    std::string text;
    char buffer[512];
    for (ssize_t n; (n = read(pipe_ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, std::size_t(n));
    close(pipe_ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    Times times;
    if (status != 0 || std::sscanf(text.c_str(), "%lf %lf %lf", &times.create, &times.first, &times.warm) != 3)
        throw std::runtime_error(text.empty() ? "the child ended with " + std::to_string(status) : text);
    return times;
}

int child(const Source &source, const Operation &operation, bool primes)
{
    try {
        const Times times = measure(source, operation, primes);
        std::printf("%.6f %.6f %.6f\n", times.create, times.first, times.warm);
        return 0;
    } catch (const std::exception &error) {
        std::printf("%s", error.what());
        return 1;
    }
}

} // namespace

int main(int argc, char **argv)
{
    if (argc == 5 && std::strcmp(argv[1], "--child") == 0)
        return child(kSources[std::atoi(argv[2])], kOperations[std::atoi(argv[3])], argv[4][0] == 'p');
    const int processes = argc > 1 ? std::atoi(argv[1]) : kDefaultProcesses;
    if (processes < 1) {
        std::fprintf(stderr, "usage: attn_first_plan [PROCESSES]\n");
        return 2;
    }
    char directory[] = "/tmp/attn_first_plan.XXXXXX";
    if (!mkdtemp(directory)) return 1;
    setenv("ATTN_CACHE_DIR", directory, 1);
    std::printf("%-26s %-14s %12s %14s %14s %10s   (%d processes, medians; smallest .. largest first plan)\n",
                "operation", "kernels from", "create, ms", "first plan, ms", "both, ms", "warm, us", processes);
    int failures = 0;
    for (std::size_t o = 0; o < std::size(kOperations); ++o)
        for (std::size_t s = 0; s < std::size(kSources); ++s) {
            setenv("ATTN_KERNEL_SOURCES", kSources[s].kernel_sources, 1);
            std::vector<double> create, first, both, warm;
            try {
                if (kSources[s].primed) run_child("/proc/self/exe", s, o, true);
                for (int n = 0; n < processes; ++n) {
                    const Times times = run_child("/proc/self/exe", s, o);
                    create.push_back(times.create), first.push_back(times.first), warm.push_back(1000 * times.warm);
                    both.push_back(times.create + times.first);
                }
                std::printf("%-26s %-14s %12.2f %14.2f %14.2f %10.1f   %.2f .. %.2f\n", kOperations[o].name,
                            kSources[s].name, median(create), median(first), median(both), median(warm),
                            *std::min_element(first.begin(), first.end()),
                            *std::max_element(first.begin(), first.end()));
            } catch (const std::exception &error) {
                std::printf("%-26s %-14s failed: %s\n", kOperations[o].name, kSources[s].name, error.what());
                ++failures;
            }
            std::fflush(stdout);
        }
    std::filesystem::remove_all(directory);
    return failures ? 1 : 0;
}

// Runs one case of `attn bench`: its tensors, its plan, and the times.
#ifndef ATTN_SRC_CLI_BENCH_RUN_H
#define ATTN_SRC_CLI_BENCH_RUN_H

#include "bench_cases.h"

#include "src/cli/measure/buffer.h"
#include "src/cli/measure/ceiling.h"
#include "src/cli/measure/timing.h"

#include <attn/attn.hpp>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace attn::cli {

/// A case with its tensors, random normal where they hold numbers, ready to plan and to execute.
class Workload {
public:
    Workload(const Handle &handle, const BenchCase &shape);
    Workload(const Workload &) = delete;
    Workload &operator=(const Workload &) = delete;
    ~Workload() = default;

    Plan plan() const;
    /// Executes the plan made by the constructor.
    void run();

private:
    Problem problem() const;
    void add_lengths();
    /// Adds a tensor of the slot; returns where its memory is.
    perf::Buffer<char> &add(attn_slot slot, attn_dtype dtype, const std::vector<int64_t> &shape, uint32_t index = 0);
    void add_random(attn_slot slot, attn_dtype dtype, const std::vector<int64_t> &shape, uint32_t index = 0);
    void add_integers(attn_slot slot, const std::vector<int32_t> &values, const std::vector<int64_t> &shape);
    void add_dense();
    void add_merge();
    void add_append();
    void add_linear();
    void add_sequence();
    void add_gate(attn_slot slot, const std::vector<int64_t> &shape, float first, float last);
    void add_pages(int64_t pages_each);

    const Handle &handle_;
    BenchCase shape_;
    std::vector<int64_t> lengths_;
    std::deque<perf::Buffer<char>> memory_; ///< Addresses are stable.
    std::deque<attn_tensor> views_;
    std::vector<attn_arg> args_;
    std::optional<Plan> plan_;
    perf::Buffer<char> workspace_;
};

/// What the machine can do, measured in the same run.
struct Ceilings {
    std::string isa;           ///< That the library uses.
    double multiply_add, read; ///< FLOP/s and bytes/s.
};
Ceilings measure_ceilings(perf::Team &team, const std::string &isa, int repetitions);
/// FLOP/s of one instruction set.
double measure_multiply_add(perf::Team &team, const std::string &isa, int repetitions);

struct BenchResult {
    BenchCase shape;
    double plan_seconds; ///< Of making the plan again; median.
    perf::Times times;
    double ceiling; ///< The rate of the ceiling of the case.

    double rate() const; ///< FLOP/s or bytes/s, at the median.
    double to_ceiling() const { return rate() / ceiling; }
    /// (slowest - fastest) / median of the repetitions.
    double spread() const { return (times.max - times.min) / times.median; }
};
BenchResult measure(const Handle &handle, const BenchCase &shape, const Ceilings &ceilings, int repetitions);

} // namespace attn::cli

#endif

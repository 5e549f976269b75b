// Measures one case: libattn, the unfused baseline and a ceiling, in turns; grouped heads beside one of each group,
// too.
#ifndef ATTN_TESTS_PERF_BENCH_H
#define ATTN_TESTS_PERF_BENCH_H

#include "attention.h"
#include "unfused.h"

#include "src/cli/measure/timing.h"

namespace attn::perf {

struct Result {
    Case shape;
    Times attention, unfused, ceiling; ///< The ceiling is sgemm, in a decode case reading memory.
    Times ungrouped;                   ///< With a query head for each head of K and V, of a decode case that has more.
    double ceiling_rate;               ///< FLOP/s or bytes/s at the median.
    Split split;                       ///< The faster way of the unfused baseline.
    double error;                      ///< Largest difference of the two outputs, relative to the largest element.

    /// FLOP/s, in a decode case bytes/s of K and V.
    double rate() const;
    double to_ceiling() const { return rate() / ceiling_rate; }
    double to_unfused() const { return unfused.median / attention.median; }
    /// Of the bytes/s with one query head for each head of K and V.
    double to_ungrouped() const { return ungrouped.median / attention.median; }
};

class Bench {
public:
    Bench(int threads, int repetitions);

    /// Both ways of a product in float32; remembers the faster as the ceiling if it is the one of attention.
    std::string measure_products();
    Result measure(const Case &shape);

private:
    int repetitions_;
    Handle handle_;
    Team team_;
    const RowKernels &rows_;
    Product scores_, cube_; ///< 2048 x 2048 x 128 as in Q K^T, and 2048^3.
    Split scores_split_ = Split::inside;
};

} // namespace attn::perf

#endif

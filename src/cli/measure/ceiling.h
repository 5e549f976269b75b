// Ceilings: the rate of multiply-adds on registers, and of reading memory, with all threads of a team.
#ifndef ATTN_SRC_CLI_MEASURE_CEILING_H
#define ATTN_SRC_CLI_MEASURE_CEILING_H

#include "buffer.h"
#include "ceiling_loops.h"
#include "team.h"

#include <string>

namespace attn::perf {

/// Those of the instruction set called so; the baseline's where there is none of that name.
const CeilingLoops &ceiling_loops(const std::string &isa);

/// Multiplies and adds for a few milliseconds.
class MultiplyAdd {
public:
    MultiplyAdd(Team &team, const CeilingLoops &loops);
    void run();
    double flops() const; ///< Of one run.

private:
    Team &team_;
    const CeilingLoops &loops_;
    Buffer<float> results_; ///< By thread; keeps the loops alive.
};

/// Sums a buffer larger than any cache.
class Read {
public:
    Read(Team &team, const CeilingLoops &loops);
    void run();
    double bytes() const { return 4.0 * static_cast<double>(buffer_.size()); }

private:
    Team &team_;
    const CeilingLoops &loops_;
    Buffer<float> buffer_;
    Buffer<float> sums_; ///< By thread; keeps the reads alive.
};

} // namespace attn::perf

#endif

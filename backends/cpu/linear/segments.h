// Long sequences of few states: where neither states nor columns of V are tasks enough, segments of a sequence are.
//
//     tokens    |---- segment 0 ----|---- segment 1 ----|---- segment 2 ----|
//     sums       local_0  decay_0    local_1  decay_1                          states from zero, products of decays
//     start      STATE_IN            local_0 + decay_0 STATE_IN            ...
//     outputs    of each segment from the state at its start
//
// The sums cost about half as much as the outputs. Whether a call goes in segments depends on its shape alone, not
// on the number of workers, so neither do its bits. Delta rules have no product of decays; they go as a whole.
#ifndef ATTN_BACKENDS_CPU_LINEAR_SEGMENTS_H
#define ATTN_BACKENDS_CPU_LINEAR_SEGMENTS_H

#include "backends/cpu/linear/call.h"
#include "handle.h"

namespace attn::cpu {

class LinearSegments {
public:
    LinearSegments(const LinearProblem &problem, const LinearShape &shape, const LinearKernel &kernel) noexcept;

    /// Memory that run() shares between workers.
    size_t bytes() const noexcept;
    /// Whether a call goes in segments.
    bool serves(const LinearCall &call) const noexcept;
    /// `scratch` has `scratch_step` bytes for each worker, `memory` what bytes() says.
    [[nodiscard]] attn_status run(const attn_handle_s &handle, const LinearCall &call, char *scratch,
                                  size_t scratch_step, float *memory) const noexcept;

private:
    int64_t floats_of_state() const noexcept;

    const LinearProblem &problem_;
    const LinearShape &shape_;
    const LinearKernel &kernel_;
    LinearShape sums_; ///< Without queries.
    int64_t most_states_;
};

} // namespace attn::cpu

#endif

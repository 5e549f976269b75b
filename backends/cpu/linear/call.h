// One execute of a linear plan: its sequences, their lengths and states, and the tensors of each state.
#ifndef ATTN_BACKENDS_CPU_LINEAR_CALL_H
#define ATTN_BACKENDS_CPU_LINEAR_CALL_H

#include "arguments.h"
#include "backends/cpu/lengths.h"
#include "backends/cpu/linear/kernel.h"
#include "linear.h"

namespace attn::cpu {

/// What the plan fixes, in the terms of kernels.
LinearShape linear_shape(const LinearProblem &problem) noexcept;

/// Why tensors of a plan have no kernel: a dtype that is not computed with; empty if all have.
std::string refuse_linear_dtypes(const LinearProblem &problem);

/// Access to matched arguments by sequence and head. Holds pointers into the caller's tensors.
class LinearCall {
public:
    LinearCall(const LinearProblem &problem, const LinearShape &shape, const Arguments &arguments) noexcept;

    /// Whether lengths and state indices keep to their rules, and in checked mode the values of gates and keys; the
    /// message names the tensor, the place and the value.
    [[nodiscard]] attn_status check() const noexcept;

    int64_t batch() const noexcept { return batch_; }
    /// Without tokens and states there is nothing to do, for however many sequences.
    bool writes_nothing() const noexcept;
    /// Queries in use of a sequence.
    int64_t queries(int64_t b) const noexcept;
    int64_t keys(int64_t b) const noexcept;
    /// The task of a sequence and head of V, all columns.
    LinearTask task(int64_t b, int64_t head) const noexcept;

private:
    const attn_tensor *view(attn_slot slot, uint32_t index = 0) const noexcept;
    TokenView token_view(attn_slot slot, int64_t b, int64_t row, int64_t head) const noexcept;
    TokenView head_view(attn_slot slot, int64_t head, uint32_t index = 0) const noexcept;
    StateView state_view(const attn_tensor &given, int64_t state, int64_t head) const noexcept;
    [[nodiscard]] attn_status check_lengths() const noexcept;
    [[nodiscard]] attn_status check_states() const noexcept;
    int64_t state_of(int64_t b) const noexcept { return index_ ? index_[b] : b; }

    const LinearProblem &problem_;
    const LinearShape &shape_;
    const Arguments &arguments_;
    int64_t batch_, tq_, tk_, total_q_, total_kv_;
    IntegerView cu_q_, cu_kv_, used_q_, used_kv_, index_;
};

} // namespace attn::cpu

#endif

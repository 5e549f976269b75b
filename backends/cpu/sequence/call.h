// One execute of a conv or scan plan: its sequences, their lengths and states, and strips of its tensors.
#ifndef ATTN_BACKENDS_CPU_SEQUENCE_CALL_H
#define ATTN_BACKENDS_CPU_SEQUENCE_CALL_H

#include "arguments.h"
#include "backends/cpu/features.h"
#include "backends/cpu/lengths.h"
#include "backends/cpu/sequence/kernel.h"
#include "sequence.h"

namespace attn::cpu {

/// Why a plan has no kernel: an option that is not computed, or a dtype that is not computed with; empty if it has.
std::string refuse_sequence(const Problem &problem, Isa isa);

const SequenceKernel &sequence_kernel(Isa isa);

/// Access to matched arguments by sequence and strip. Holds pointers into the caller's tensors.
class SequenceCall {
public:
    SequenceCall(const SequenceProblem &problem, const Arguments &arguments) noexcept;

    /// Whether lengths and state indices keep to their rules; the message names the tensor, the place and the value.
    [[nodiscard]] attn_status check() const noexcept;

    int64_t batch() const noexcept { return batch_; }
    int64_t tokens(int64_t b) const noexcept;
    /// Without tokens and states there is nothing to do, for however many sequences.
    bool writes_nothing() const noexcept;

    /// Strips of all heads.
    int64_t strips() const noexcept { return problem_.heads_q * strips_of_head_; }
    SequenceStrip strip(int64_t b, int64_t number) const noexcept;
    /// Weights of a strip by channel: a "token" is a channel, and where `row` is set the view is one row of channels.
    TokenView channels(attn_slot slot, int64_t number, bool row) const noexcept;

private:
    const attn_tensor *view(attn_slot slot) const noexcept;
    TokenView token_view(attn_slot slot, int64_t b, int64_t head, int64_t first) const noexcept;
    TokenView state_view(attn_slot slot, int64_t b, int64_t head, int64_t first) const noexcept;

    const SequenceProblem &problem_;
    const Arguments &arguments_;
    int64_t batch_, tq_, total_q_, strips_of_head_;
    IntegerView cu_, used_, index_;
};

} // namespace attn::cpu

#endif

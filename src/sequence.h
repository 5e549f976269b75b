// What conv and scan plans have in common: tokens X become as many tokens OUT, channel by channel, past a state.
#ifndef ATTN_SRC_SEQUENCE_H
#define ATTN_SRC_SEQUENCE_H

#include "descriptor_parts.h"
#include "problem.h"

#include <initializer_list>

namespace attn {

/// A plan from X to OUT, normalised. Heads are heads_q, channels dim_qk.
struct SequenceProblem : Problem {
    attn_dtype state_dtype = ATTN_FLOAT32;

    bool checked() const noexcept { return (flags & ATTN_CHECKED) != 0; }
};

/// Reads attn_problem, whose fields for keys mean nothing here. `plan` names the kind in messages: "a convolution".
[[nodiscard]] attn_status read_sequence_problem(const attn_problem *given, const char *plan, Binds *binds,
                                                SequenceProblem *out);

/// state_dtype of a descriptor: 0 is the default `fallback`; without a state it must be 0.
[[nodiscard]] attn_status read_state_dtype(const char *field, attn_dtype dtype, attn_dtype fallback, const Binds &binds,
                                           SequenceProblem *out);

/// Builds the list of tensors of such a plan. The first failure stays.
class SequenceTensors {
public:
    SequenceTensors(const char *plan, Binds *binds, SequenceProblem *problem);

    bool has(attn_slot slot) const { return binds_.has(slot); }
    /// `[B, T, heads, channels]`, packed `[rows, heads, channels]`.
    void add_token(attn_slot slot, attn_dtype dtype);
    /// `[heads, channels, further ...]`.
    void add_channel(attn_slot slot, attn_dtype dtype, std::initializer_list<int64_t> further = {});
    /// STATE_IN, STATE_OUT `[states, rows, heads, channels]`, without `rows` where it is 0, and what indexes them.
    void add_states(int64_t rows);
    void add_lengths();
    /// What was bound besides is refused; `rules` says where the plan would take a slot.
    struct Rule {
        attn_slot slot;
        const char *rule;
    };
    [[nodiscard]] attn_status finish(std::initializer_list<Rule> rules);

private:
    void add(attn_slot slot, attn_dtype dtype, std::initializer_list<Axis> axes, std::initializer_list<int64_t> fixed);
    void push_spec(TensorSpec *spec);
    attn_status leftover(size_t i, const attn_bind &bind, std::initializer_list<Rule> rules);

    const char *plan_;
    Binds &binds_;
    SequenceProblem &p_;
    attn_status status_ = ATTN_OK;
};

} // namespace attn

#endif

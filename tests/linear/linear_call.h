// A call of a linear plan with its tensors, and what the recurrence says of it.
#pragma once

#include "backend.h"
#include "linear_oracle.h"
#include "linear_spec.h"
#include "number.h"
#include "tensor.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace linear {

// Errors of a call, over the bounds of DESIGN: 1 is the bound.
struct Errors {
    double out = 0, row = 0, state = 0; // relative; `row` the worst, against the magnitudes behind it
    std::string failure;                // empty: within all bounds
};

class Call {
public:
    explicit Call(const Spec &spec);

    using Key = std::pair<attn_slot, std::uint32_t>;
    struct Sequence {
        std::int64_t first = 0, length = 0;         // rows of Q; the row counts from the start where packed
        std::int64_t first_key = 0, key_length = 0; // of K and V
        std::int64_t state = 0;
    };

    attn_status plan(attn_handle handle, conformance::PlanPointer &out);
    // All tokens, or where they are neither packed nor shortened those of a range.
    attn_status execute(attn_plan plan, std::int64_t first = 0, std::int64_t count = -1);
    // Plans, poisons the outputs, executes and compares.
    Errors run(attn_handle handle);
    Errors compare() const;

    const Spec s;
    const Method &m;
    std::int64_t heads_out, group, rows, columns; // of a state: features, columns with the sum of keys
    std::map<Key, conformance::Tensor> tensors;
    std::vector<Sequence> sequences;
    attn_linear linear = {};
    attn_problem problem = {};
    std::vector<attn_bind> binds;

    conformance::Tensor &at(attn_slot slot, std::uint32_t index = 0) { return tensors.at({slot, index}); }
    const conformance::Tensor &at(attn_slot slot, std::uint32_t index = 0) const { return tensors.at({slot, index}); }
    bool has(attn_slot slot) const { return tensors.count({slot, 0}) != 0; }
    double token_value(attn_slot slot, std::size_t b, std::int64_t row, std::int64_t head, std::int64_t channel) const;
    Token token(std::size_t b, std::int64_t t, std::int64_t head) const;
    State initial_state(std::size_t b, std::int64_t head) const;
    // Index of an element of a state in its tensor.
    conformance::Index state_index(std::int64_t state, std::int64_t head, std::int64_t r, std::int64_t c) const;
    conformance::Index token_state_index(std::size_t b, std::int64_t t, std::int64_t head, std::int64_t r,
                                         std::int64_t c) const;
    conformance::Index token_index(attn_slot slot, std::size_t b, std::int64_t t, std::int64_t head,
                                   std::int64_t channel) const;

private:
    using Tensor = conformance::Tensor;
    Tensor &add(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> shape, const std::string &layout,
                std::uint32_t index = 0);
    Tensor &add_tokens(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> fixed);
    Tensor &add_gate(attn_slot slot, std::vector<std::int64_t> fixed);
    void draw_lengths();
    void draw_rows();
    void draw_gates();
    void draw_states();
    void describe();
    template <class Draw>
    void fill(attn_slot slot, Draw draw);
    Row features(attn_slot slot, std::size_t b, std::int64_t t, std::int64_t head) const;
    double log_decay(std::size_t b, std::int64_t t, std::int64_t head, std::int64_t r) const;

    conformance::Random random_;
    std::int64_t total_q_ = 0, total_kv_ = 0, keys_ = 0;
};

} // namespace linear

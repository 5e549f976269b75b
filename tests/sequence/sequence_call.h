// A call of a conv or scan plan with its tensors, and what the equations say of it.
#pragma once

#include "backend.h"
#include "number.h"
#include "sequence_oracle.h"
#include "sequence_spec.h"
#include "tensor.h"

#include <map>
#include <string>
#include <vector>

namespace sequence {

class Call {
public:
    explicit Call(const Spec &spec);

    struct Sequence {
        std::int64_t first = 0, length = 0; // rows of X; the row counts from the start where packed
        std::int64_t state = 0;
    };

    attn_status plan(attn_handle handle, conformance::PlanPointer &out) const;
    attn_status supports(attn_handle handle) const;
    // All tokens, or where they are neither packed nor shortened those of a range.
    attn_status execute(attn_plan plan, std::int64_t first = 0, std::int64_t count = -1);
    // Plans, poisons the outputs, executes and compares. Empty, or what is wrong.
    std::string run(attn_handle handle);
    // Judges OUT and STATE_OUT. Whatever was read must still be as it was.
    std::string compare() const;

    const Spec s;
    std::map<attn_slot, conformance::Tensor> tensors;
    std::vector<Sequence> sequences;
    attn_conv conv = {};
    attn_scan scan = {};
    attn_problem problem = {};
    std::vector<attn_bind> binds;

    conformance::Tensor &at(attn_slot slot) { return tensors.at(slot); }
    const conformance::Tensor &at(attn_slot slot) const { return tensors.at(slot); }
    bool has(attn_slot slot) const { return tensors.count(slot) != 0; }
    void bind(attn_slot slot, attn_dtype dtype = 0, std::uint32_t flags = 0);

    conformance::Index token_index(std::size_t b, std::int64_t t, std::int64_t head, std::int64_t channel) const;
    conformance::Index state_index(std::size_t b, std::int64_t row, std::int64_t head, std::int64_t channel) const;
    double token_value(attn_slot slot, std::size_t b, std::int64_t t, std::int64_t head, std::int64_t channel) const;
    std::vector<double> outputs(std::int64_t tokens) const;
    std::vector<double> states(attn_slot slot) const;
    std::int64_t state_rows() const { return s.conv ? s.width - 1 : 1; }

private:
    conformance::Tensor &add(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> shape,
                             const std::string &layout);
    conformance::Tensor &add_tokens(attn_slot slot, attn_dtype dtype, bool by_channel = true);
    template <class Draw>
    void fill(attn_slot slot, Draw draw);
    void draw_lengths();
    void draw_tokens();
    void draw_weights();
    void draw_states();
    void describe();
    std::vector<Value> expected(std::size_t b, std::int64_t head, std::int64_t channel,
                                std::vector<Value> *state) const;

    conformance::Random random_;
    std::int64_t total_ = 0;
    std::map<attn_slot, conformance::Tensor> before_; // what a state was before it was updated in place
};

} // namespace sequence

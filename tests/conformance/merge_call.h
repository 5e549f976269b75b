// A call of a merge plan with its tensors, and the equations in fp64 that say what it has to give.
#pragma once

#include "backend.h"
#include "number.h"
#include "tensor.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

namespace conformance {

// What a merge is to do. Sizes are those of the call; `slack` is how much larger the bounds of the plan are.
struct MergeCase {
    std::uint64_t seed = 0;
    std::int64_t batch = 2, tq = 3, heads = 4, dim = 16, parts = 2, slack = 0, workers = 1;
    attn_activation activation = ATTN_SOFTMAX;
    attn_dtype q_dtype = ATTN_FLOAT32, part_dtype = ATTN_FLOAT32, out_dtype = ATTN_FLOAT32, gate_dtype = 0;
    attn_dtype index_dtype = ATTN_INT32;
    bool packed = false, shortened = false, lse = true, sinks = false, head_weight = false;
    std::int64_t gate = -1;      // -1: none, else attn_gate
    std::uint32_t broadcast = 0; // bits of the axes of GATE that have extent 1
    double lse_spread = 2, empty = 0.1, zero_weight = 0.2;
    std::string out_layout = "bshd", layout = "bshd"; // "any": one drawn for each input

    bool weighed() const { return activation == ATTN_SOFTMAX; }
    std::string text() const;
};

// Parts that all have keys.
MergeCase plain_merge(std::int64_t parts);

// One call: tensors, what they hold, and the descriptor that plans for it. Points into itself.
class MergeCall {
public:
    explicit MergeCall(const MergeCase &setup);
    MergeCall(const MergeCall &) = delete;
    MergeCall &operator=(const MergeCall &) = delete;

    attn_merge merge{};
    attn_problem problem{};
    std::vector<attn_bind> binds;

    Tensor &partial_out(std::size_t part) { return partial_out_[part]; }
    Tensor &partial_lse(std::size_t part) { return partial_lse_[part]; }
    Tensor &out() { return out_; }
    Tensor &lse() { return lse_; }
    Tensor &gate() { return gate_; }
    const MergeCase &setup() const { return s_; }

    PlanPointer plan(attn_handle handle, std::string &why);

    // Tensors in a random order: matching may not depend on it.
    std::vector<attn_arg> args();

    void poison_outputs();

    // Executes with fresh outputs; nothing but the rows in use may be written, nor any input.
    void run(attn_plan plan);

    // Compares every element with the equations on what the tensors hold.
    void check() const;

    void for_each_row(const std::function<void(std::int64_t, std::int64_t, std::int64_t)> &body) const;
    Index token(std::int64_t b, std::int64_t i, std::int64_t h, std::int64_t c = 0) const
    {
        return s_.packed ? Index{start_[b] + i, h, c, 0} : Index{b, i, h, c};
    }
    Index score(std::int64_t b, std::int64_t h, std::int64_t i) const
    {
        return s_.packed ? Index{h, start_[b] + i, 0, 0} : Index{b, h, i, 0};
    }

private:
    void place();
    std::string layout(bool output = false);
    Tensor token_tensor(attn_dtype dtype, bool output, bool channels = true, std::uint32_t broadcast = 0);
    Tensor score_tensor(bool output);
    void allocate();

    // What no result may depend on stays poison: rows not in use, and parts without keys.
    void fill();

    Index gate_at(std::int64_t b, std::int64_t i, std::int64_t h, std::int64_t c) const;
    void describe();
    std::vector<Bytes> input_bytes() const;
    bool check_row(std::int64_t b, std::int64_t i, std::int64_t h) const;

    MergeCase s_;
    mutable Random random_;
    std::int64_t total_ = 0;
    std::vector<std::int64_t> start_, used_;
    std::vector<Tensor> partial_out_, partial_lse_;
    Tensor out_, lse_, cu_, seqlens_, sinks_, gate_, head_weight_;
    std::deque<attn_tensor> views_;
};

} // namespace conformance

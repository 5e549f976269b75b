/**
 * @file plan.h
 * @brief A plan of any kind, and its execution on views of Python objects.
 */
#pragma once

#include "descriptors.h"
#include "handle.h"

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace attn_python {

class Plan {
public:
    /** One tensor of an execute: slot, index among several of the slot, view. */
    using Argument = std::tuple<attn_slot, uint32_t, Tensor *>;

    Plan(const Handle &handle, const Problem &problem, const Dense &dense);
    Plan(const Handle &handle, const Problem &problem, const Merge &merge);
    Plan(const Handle &handle, const Problem &problem, const Append &append);
    Plan(const Handle &handle, const Problem &problem, const Linear &linear);
    Plan(const Handle &handle, const Problem &problem, const Conv &conv);
    Plan(const Handle &handle, const Problem &problem, const Scan &scan);

    size_t workspace_bytes() const { return workspace_bytes_; }

    /** @param sizes (batch, max_q, max_kv, total_q, total_kv) of a call, which may need less than the bound */
    size_t workspace_for(const std::optional<std::array<int64_t, 5>> &sizes) const;

    /** The plan as JSON. */
    std::string describe() const;

    /** `{slot: (dtype, largest shape)}` of the tensors with index 0; an extent of -1 is free. */
    py::dict slots() const;

    /** On the CPU, with workspace of the thread. @param sizes as of workspace_for() */
    void execute(const std::vector<Argument> &tensors, const std::optional<std::array<int64_t, 5>> &sizes) const;

    /** On a GPU. @param workspace device address @param bytes its size */
    void launch(const std::vector<Argument> &tensors, cuda::Stream stream, std::uintptr_t workspace,
                size_t bytes) const;

private:
    template <class Create>
    void create(Create create);

    struct Destroy {
        void operator()(attn_plan plan) const { attn_plan_destroy(plan); }
    };
    std::unique_ptr<attn_plan_s, Destroy> plan_;
    size_t workspace_bytes_ = 0;
};

/** States in the portable form; `state` has the layout and dtype of the descriptor. */
py::bytes save_states(const Problem &problem, const Linear &linear, const Tensor &state, int64_t tokens);
/** Loads them into `state`; the tokens as saved. */
int64_t load_states(const Problem &problem, const Linear &linear, const py::bytes &saved, const Tensor &state);
/** Copies states, converted in layout and dtype. */
void copy_states(const Tensor &from, attn_state_layout from_layout, const Tensor &to, attn_state_layout to_layout);
/** What a saved state says of itself. */
py::dict inspect_states(const py::bytes &saved);

} // namespace attn_python

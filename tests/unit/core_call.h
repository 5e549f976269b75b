// Dense plans with everything to execute them, for tests of what goes on around the arithmetic.
#ifndef ATTN_TESTS_UNIT_CORE_CALL_H
#define ATTN_TESTS_UNIT_CORE_CALL_H

#include <attn/attn.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

namespace attn::test {

struct DestroyHandle {
    void operator()(attn_handle handle) const { attn_destroy(handle); }
};
struct DestroyPlan {
    void operator()(attn_plan plan) const { attn_plan_destroy(plan); }
};
using Handle = std::unique_ptr<attn_handle_s, DestroyHandle>;
using Plan = std::unique_ptr<attn_plan_s, DestroyPlan>;

/// A handle with its own threads.
inline Handle make_handle(int32_t workers)
{
    attn_options options = {};
    options.size = sizeof options;
    options.max_workers = workers;
    attn_handle handle = nullptr;
    EXPECT_EQ(attn_create(&options, &handle), ATTN_OK) << attn_last_error();
    return Handle(handle);
}

/// Float32, `heads` of Q and half as many of K and V.
struct CallSizes {
    int64_t batch = 1, queries = 1, keys = 1, heads = 2, dim = 8;
};

/// A plan with its tensors and workspace. Set the fields of problem, dense and binds, then plan(), then execute().
class Call {
public:
    explicit Call(const CallSizes &sizes) : sizes_(sizes)
    {
        problem = {};
        problem.size = sizeof problem;
        problem.q_dtype = ATTN_FLOAT32;
        problem.batch = sizes.batch;
        problem.heads_q = sizes.heads, problem.heads_k = sizes.heads / 2;
        problem.dim_qk = sizes.dim;
        problem.max_q = sizes.queries, problem.max_kv = sizes.keys;
        dense = {};
        dense.size = sizeof dense;
        dense.problem = &problem;
    }
    Call(const Call &) = delete;
    Call &operator=(const Call &) = delete;

    /// Declares and passes a tensor of int32.
    void take(attn_slot slot, std::vector<int32_t> values, int64_t rows = 0)
    {
        integers_.push_back(std::make_unique<std::vector<int32_t>>(std::move(values)));
        std::vector<int32_t> &kept = *integers_.back();
        const int64_t count = static_cast<int64_t>(kept.size());
        pass(slot, rows ? attn_tensor_2d(kept.data(), ATTN_INT32, rows, count / rows)
                        : attn_tensor_1d(kept.data(), ATTN_INT32, count));
        if (slot == ATTN_SLOT_BLOCK_TABLE) return; // implied by page_size
        attn_bind bind = {};
        bind.slot = slot;
        binds.push_back(bind);
    }

    /// Declares and passes an output of float32, before plan().
    void give(attn_slot slot, int64_t batch, int64_t heads, int64_t tokens)
    {
        floats_.push_back(std::make_unique<std::vector<float>>(static_cast<size_t>(batch * heads * tokens)));
        pass(slot, attn_tensor_3d(floats_.back()->data(), ATTN_FLOAT32, batch, heads, tokens));
        attn_bind bind = {};
        bind.slot = slot;
        binds.push_back(bind);
    }

    /// Makes the plan, its tensors and its workspace: batched, or with packed rows, or with pages of K and V.
    void plan(attn_handle handle, int64_t packed_q = 0, int64_t packed_kv = 0, int64_t pages = 0)
    {
        const CallSizes &s = sizes_;
        const auto view = [&](int64_t packed, int64_t length, int64_t heads) {
            floats_.push_back(std::make_unique<std::vector<float>>(
                static_cast<size_t>(std::max(packed, s.batch * length) * heads * s.dim)));
            std::vector<float> &values = *floats_.back();
            for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i) * 0.37f);
            return packed ? attn_tensor_3d(values.data(), ATTN_FLOAT32, packed, heads, s.dim)
                          : attn_tensor_4d(values.data(), ATTN_FLOAT32, s.batch, length, heads, s.dim);
        };
        const auto pool = [&]() {
            attn_tensor flat = view(pages * problem.page_size, 0, s.heads / 2);
            return attn_tensor_4d(flat.data, ATTN_FLOAT32, pages, problem.page_size, s.heads / 2, s.dim);
        };
        pass(ATTN_SLOT_Q, view(packed_q, s.queries, s.heads));
        pass(ATTN_SLOT_K, pages ? pool() : view(packed_kv, s.keys, s.heads / 2));
        pass(ATTN_SLOT_V, pages ? pool() : view(packed_kv, s.keys, s.heads / 2));
        pass(ATTN_SLOT_OUT, view(packed_q, s.queries, s.heads));
        problem.total_q = packed_q, problem.total_kv = packed_kv;
        problem.binds = binds.data(), problem.bind_count = binds.size();
        attn_plan made = nullptr;
        ASSERT_EQ(attn_plan_dense(handle, &dense, &made), ATTN_OK) << attn_last_error();
        plan_.reset(made);
        size_t bytes = 0;
        ASSERT_EQ(attn_plan_workspace(made, &bytes, nullptr), ATTN_OK) << attn_last_error();
        workspace.assign(bytes, 0);
    }

    attn_status execute() { return execute(workspace.size()); }
    attn_status execute(size_t bytes)
    {
        return attn_execute(plan_.get(), args.data(), args.size(), workspace.data(), bytes, nullptr);
    }

    /// For a second thread: with its own OUT among the args, and its own workspace.
    attn_status execute_with(const std::vector<attn_arg> &other, std::vector<char> &memory) const
    {
        return attn_execute(plan_.get(), other.data(), other.size(), memory.data(), memory.size(), nullptr);
    }

    attn_tensor &tensor(attn_slot slot) { return *views_[position(slot)]; }
    attn_arg &arg(attn_slot slot) { return args[position(slot)]; }
    /// OUT as written last.
    const std::vector<float> &out() const { return *floats_.back(); }
    void clear_out() { std::fill(floats_.back()->begin(), floats_.back()->end(), NAN); }
    void destroy_plan() { plan_.reset(); }

    attn_problem problem;
    attn_dense dense;
    std::vector<attn_bind> binds;
    std::vector<attn_arg> args;
    std::vector<char> workspace;

private:
    size_t position(attn_slot slot) const
    {
        size_t i = 0;
        while (args[i].slot != slot) ++i;
        return i;
    }
    void pass(attn_slot slot, const attn_tensor &view)
    {
        views_.push_back(std::make_unique<attn_tensor>(view));
        args.push_back({slot, 0, views_.back().get()});
    }

    CallSizes sizes_;
    std::vector<std::unique_ptr<attn_tensor>> views_;
    std::vector<std::unique_ptr<std::vector<int32_t>>> integers_;
    std::vector<std::unique_ptr<std::vector<float>>> floats_; ///< OUT last.
    Plan plan_;
};

} // namespace attn::test

#endif

// Descriptors of dense plans for tests of the CUDA backend, and the tensors of such plans.
#ifndef ATTN_TESTS_CUDA_DESCRIBED_H
#define ATTN_TESTS_CUDA_DESCRIBED_H

#include "status.h"
#include "tests/fake_cuda/fake_cuda.h"
#include "tests/unit/core_allocations.h"

#include <attn/attn.h>

#include <gtest/gtest.h>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace attn::cuda::test {

/// A descriptor with all that it points to.
struct Described {
    const char *name;
    attn_problem problem = {};
    std::vector<attn_bind> binds;
    attn_kind kind = ATTN_KIND_DENSE;
    attn_bias_table table = {}; ///< Used where max_distance is set.
    attn_term term = {};        ///< A mask program of one term, used where op is set.
    attn_program program = {};
    attn_dense dense = {};
    attn_merge merge = {};
    attn_append append = {};

    explicit Described(const char *text, attn_kind wanted = ATTN_KIND_DENSE) : name(text), kind(wanted)
    {
        problem.size = sizeof problem, table.size = sizeof table, program.size = sizeof program;
        dense.size = sizeof dense, merge.size = sizeof merge, append.size = sizeof append;
        problem.q_dtype = ATTN_FLOAT16, problem.batch = 2, problem.heads_q = 4, problem.heads_k = 2;
        problem.dim_qk = 64, problem.max_q = 100, problem.max_kv = 200;
    }
    void bind(attn_slot slot, uint32_t flags = 0, attn_dtype dtype = 0)
    {
        attn_bind b = {};
        b.slot = slot, b.flags = flags, b.dtype = dtype;
        binds.push_back(b);
    }
    attn_status plan(attn_handle handle, attn_plan *out)
    {
        problem.binds = binds.data(), problem.bind_count = binds.size();
        dense.problem = merge.problem = append.problem = &problem;
        if (table.max_distance) dense.bias_table = &table;
        if (term.op) program.terms = &term, program.term_count = 1, dense.mask = &program;
        if (kind == ATTN_KIND_MERGE) return attn_plan_merge(handle, &merge, out);
        if (kind == ATTN_KIND_APPEND) return attn_plan_append(handle, &append, out);
        return attn_plan_dense(handle, &dense, out);
    }
};

/// The tensors of a plan at their bounds, in memory that nothing reads.
class Tensors {
public:
    explicit Tensors(attn_plan plan)
    {
        for (attn_bind bind; attn_plan_slot(plan, binds_.size(), &bind, nullptr) == ATTN_OK;) binds_.push_back(bind);
        views_.resize(binds_.size());
        memory_.resize(binds_.size());
        for (size_t i = 0; i < binds_.size(); ++i) {
            attn_bind bind;
            EXPECT_EQ(attn_plan_slot(plan, i, &bind, &views_[i]), ATTN_OK);
            int64_t stride = 1;
            for (int axis = views_[i].ndim - 1; axis >= 0; --axis) {
                if (views_[i].shape[axis] < 0) views_[i].shape[axis] = 4; // free: pages
                views_[i].strides[axis] = stride;
                stride *= views_[i].shape[axis];
            }
            memory_[i].resize(static_cast<size_t>(stride) * (bind.dtype >> 8 & 255) / 8);
            views_[i].data = memory_[i].data();
            args_.push_back({bind.slot, bind.index, &views_[i]});
        }
        size_t bytes = 0, alignment = 0;
        EXPECT_EQ(attn_plan_workspace(plan, &bytes, &alignment), ATTN_OK);
        bytes_ = bytes;
        workspace_.resize(bytes + alignment);
        void *at = workspace_.data();
        size_t space = workspace_.size();
        aligned_ = std::align(alignment, bytes, at, space);
    }
    /// To change views before an execute.
    attn_tensor &view(attn_slot slot)
    {
        for (size_t i = 0; i < binds_.size(); ++i)
            if (binds_[i].slot == slot) return views_[i];
        ADD_FAILURE() << "no slot " << slot;
        return views_.at(0);
    }
    attn_status execute(attn_plan plan, void *stream) const
    {
        return attn_execute(plan, args_.data(), args_.size(), aligned_, bytes_, stream);
    }

private:
    std::vector<attn_bind> binds_;
    std::vector<attn_tensor> views_;
    std::vector<std::vector<char>> memory_;
    std::vector<attn_arg> args_;
    std::vector<char> workspace_;
    void *aligned_ = nullptr;
    size_t bytes_ = 0;
};

/// Executes during a capture, and expects only what one allows: pushing and popping the context, asking whose stream it
/// is, launching, and calls of `further` entries of the driver; no memory of the host either.
inline void expect_only_launches(attn_plan plan, const Tensors &tensors, void *stream,
                                 const std::set<std::string> &further = {})
{
    const std::set<std::string> allowed = {"cuCtxPushCurrent", "cuCtxPopCurrent", "cuCtxGetCurrent", "cuStreamGetCtx",
                                           "cuLaunchKernelEx"};
    fake_cuda_clear_calls();
    fake_cuda_begin_capture();
    attn_status status;
    int64_t allocations;
    {
        const attn::test::AllocationScope scope;
        status = tensors.execute(plan, stream);
        allocations = scope.count();
    }
    fake_cuda_end_capture();
    EXPECT_EQ(status, ATTN_OK) << attn::last_error();
    EXPECT_EQ(allocations, 0);
    for (int i = 0; i < fake_cuda_entry_count(); ++i) {
        const std::string entry = fake_cuda_entry_name(i);
        if (!allowed.count(entry) && !further.count(entry)) {
            EXPECT_EQ(fake_cuda_calls(entry.c_str()), 0) << entry;
        }
    }
}

inline std::string describe(attn_plan plan)
{
    size_t needed = 0;
    EXPECT_EQ(attn_plan_describe(plan, nullptr, 0, &needed), ATTN_OK);
    std::string text(needed, 0);
    EXPECT_EQ(attn_plan_describe(plan, text.data(), needed, nullptr), ATTN_OK);
    return text;
}

} // namespace attn::cuda::test

#endif

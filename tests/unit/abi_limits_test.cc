// Extents and strides near the limits of 64 bits: whatever cannot be in memory is refused before anything is read.

#include "abi_fixture.h"

#include <functional>
#include <limits>

namespace {

using caller::bind_of;
using caller::zeroed;

__extension__ typedef __int128 Wide;

constexpr int64_t kMax = std::numeric_limits<int64_t>::max(), kMin = std::numeric_limits<int64_t>::min();

/// A plan of any kind with views of memory at its bounds; page tables and lengths hold 0 and are never read here.
class Views {
public:
    explicit Views(attn_plan plan) : plan_(plan)
    {
        attn_bind bind;
        attn_tensor view;
        for (size_t position = 0; attn_plan_slot(plan, position, &bind, &view) == ATTN_OK; ++position) {
            int64_t elements = 1;
            for (int axis = view.ndim; axis-- > 0;) {
                if (view.shape[axis] < 0) view.shape[axis] = 3;
                view.strides[axis] = elements;
                elements *= view.shape[axis];
            }
            memory_.emplace_back(static_cast<size_t>(elements) * 8, caller::Guarded::kPoison);
            view.data = memory_.back().data();
            views.push_back(view);
            args_.push_back({bind.slot, bind.index, nullptr});
        }
        for (size_t i = 0; i < views.size(); ++i) args_[i].tensor = &views[i];
    }

    ::testing::AssertionResult refused()
    {
        size_t bytes = 0;
        if (attn_plan_workspace(plan_, &bytes, nullptr) != ATTN_OK) return ::testing::AssertionFailure() << "no size";
        std::vector<char> workspace(bytes);
        const ::testing::AssertionResult failure = caller::fails(
            attn_execute(plan_, args_.data(), args_.size(), workspace.data(), bytes, nullptr), ATTN_ERROR_INVALID, {});
        if (!failure) return failure;
        for (const std::vector<unsigned char> &block : memory_)
            for (const unsigned char byte : block)
                if (byte != caller::Guarded::kPoison) return ::testing::AssertionFailure() << "memory was written";
        return ::testing::AssertionSuccess();
    }

    std::vector<attn_tensor> views;

private:
    attn_plan plan_;
    std::vector<attn_arg> args_;
    std::vector<std::vector<unsigned char>> memory_;
};

class Limits : public ::testing::Test {
protected:
    /// Calls body(plan) with a plan of each kind.
    void for_each_plan(const std::function<void(attn_plan)> &body)
    {
        attn_plan plan = nullptr;
        const auto run = [&](const char *name, attn_status status) {
            SCOPED_TRACE(name);
            ASSERT_TRUE(caller::succeeds(status));
            body(plan);
            attn_plan_destroy(plan);
        };
        attn_problem problem = zeroed<attn_problem>();
        problem.q_dtype = ATTN_FLOAT16;
        problem.batch = 2, problem.heads_q = 4, problem.heads_k = 2;
        problem.dim_qk = 8, problem.max_q = 4, problem.max_kv = 6;
        attn_dense dense = zeroed<attn_dense>();
        dense.problem = &problem;
        const std::vector<attn_bind> scores = {bind_of(ATTN_SLOT_LSE), bind_of(ATTN_SLOT_BIAS)};
        problem.binds = scores.data(), problem.bind_count = scores.size();
        run("dense", attn_plan_dense(handle_, &dense, &plan));

        const std::vector<attn_bind> lengths = {bind_of(ATTN_SLOT_CU_SEQLENS_Q),
                                                bind_of(ATTN_SLOT_SEQLENS_KV, ATTN_INT64)};
        problem.binds = lengths.data(), problem.bind_count = lengths.size();
        problem.page_size = 2;
        run("paged", attn_plan_dense(handle_, &dense, &plan));

        attn_append append = zeroed<attn_append>();
        append.problem = &problem;
        run("append", attn_plan_append(handle_, &append, &plan));

        attn_merge merge = zeroed<attn_merge>();
        merge.problem = &problem, merge.parts = 2;
        problem.heads_k = problem.dim_qk = problem.max_kv = problem.page_size = 0;
        problem.dim_v = 8;
        problem.binds = scores.data(), problem.bind_count = 1;
        run("merge", attn_plan_merge(handle_, &merge, &plan));
    }

    const caller::Handle handle_;
};

TEST_F(Limits, StridesWhoseReachOverflows)
{
    constexpr int64_t kStrides[] = {kMax,
                                    kMin,
                                    kMax - 1,
                                    kMin + 1,
                                    kMax / 2 + 1,
                                    kMax / 2,
                                    kMin / 2,
                                    int64_t{1} << 62,
                                    -(int64_t{1} << 62),
                                    int64_t{1} << 61,
                                    kMax / 4,
                                    kMin / 4,
                                    -(int64_t{1} << 61)};
    int refused = 0;
    for_each_plan([&](attn_plan plan) {
        const Views proper(plan);
        for (size_t i = 0; i < proper.views.size(); ++i)
            for (int axis = 0; axis < proper.views[i].ndim; ++axis)
                for (const int64_t stride : kStrides) {
                    const int64_t bytes = (proper.views[i].dtype >> 8 & 0xff) / 8;
                    const Wide reach = static_cast<Wide>(stride) * bytes * (proper.views[i].shape[axis] - 1);
                    if (reach <= kMax && reach >= kMin) continue; // might be memory, as far as anyone knows
                    Views views(plan);
                    views.views[i].strides[axis] = stride;
                    EXPECT_TRUE(views.refused()) << "tensor " << i << ", axis " << axis << ", stride " << stride;
                    ++refused;
                }
    });
    EXPECT_GT(refused, 400);
}

TEST_F(Limits, StridesThatOverflowTogether)
{
    for_each_plan([&](attn_plan plan) {
        const Views proper(plan);
        for (size_t i = 0; i < proper.views.size(); ++i)
            for (const int64_t sign : {1, -1}) {
                Views views(plan);
                attn_tensor &view = views.views[i];
                const int64_t bytes = (view.dtype >> 8 & 0xff) / 8;
                // Each axis for itself reaches two thirds of what there is.
                int long_axes = 0;
                for (int axis = 0; axis < view.ndim; ++axis)
                    if (view.shape[axis] > 1) {
                        view.strides[axis] = sign * (kMax / 3 * 2 / bytes / (view.shape[axis] - 1));
                        ++long_axes;
                    }
                if (long_axes < 2) continue;
                EXPECT_TRUE(views.refused()) << "tensor " << i << ", sign " << sign;
            }
    });
}

TEST_F(Limits, ExtentsThatNothingHas)
{
    constexpr int64_t kExtents[] = {kMax, kMin, -1, kMax - 1, int64_t{1} << 62, (int64_t{1} << 47) + 1};
    for_each_plan([&](attn_plan plan) {
        const Views proper(plan);
        for (size_t i = 0; i < proper.views.size(); ++i)
            for (int axis = 0; axis < proper.views[i].ndim; ++axis)
                for (const int64_t extent : kExtents)
                    for (const int64_t stride : {int64_t{0}, int64_t{1}, kMax, kMin}) {
                        Views views(plan);
                        views.views[i].shape[axis] = extent;
                        views.views[i].strides[axis] = stride;
                        EXPECT_TRUE(views.refused())
                            << "tensor " << i << ", axis " << axis << ", extent " << extent << ", stride " << stride;
                    }
    });
}

TEST_F(Limits, OffsetsBeyondTheAddressSpace)
{
    for_each_plan([&](attn_plan plan) {
        const Views proper(plan);
        for (size_t i = 0; i < proper.views.size(); ++i)
            for (const size_t offset : {SIZE_MAX - 7, SIZE_MAX / 8 * 8, SIZE_MAX - 1023}) {
                Views views(plan);
                views.views[i].byte_offset = offset;
                EXPECT_TRUE(views.refused()) << "tensor " << i << ", offset " << offset;
            }
    });
}

} // namespace

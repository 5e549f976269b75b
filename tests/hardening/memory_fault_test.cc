// Every allocation of every call fails once: the call says so, leaks nothing, and the handle is as good as before.
#include "failing_malloc.h"
#include "linked.h"
#include "sanitizer.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <string>

namespace attn::hardening {
namespace {

/// The call of a test: its status, and a check that its outputs are as they were if it failed.
using Attempt = std::function<attn_status()>;

class MemoryFaults : public testing::TestWithParam<bool> {
protected:
    void SetUp() override
    {
#if !ATTN_TEST_CAN_INTERPOSE
        std::printf("absent: an allocator that fails\n");
        GTEST_SKIP() << "absent: an allocator that fails";
#endif
    }

    /// Runs `attempt` with its first allocation failing, then its second and so on, until one serves it. `undo` takes
    /// back a success.
    void expect_survived(const std::string &what, const Attempt &attempt, const std::function<void()> &undo)
    {
        ASSERT_EQ(attempt(), ATTN_OK) << what << ": " << attn_last_error();
        undo();
        int64_t n = 0;
        for (;; ++n) {
            ASSERT_LT(n, 10000) << what;
            const int64_t before = live_blocks();
            attn_status status;
            bool fired;
            {
                const FailingAllocations failing(n, GetParam());
                status = attempt();
                fired = failing.fired();
            }
            if (status == ATTN_OK) undo();
            ASSERT_EQ(live_blocks(), before) << what << " leaks when allocation " << n << " fails";
            const std::string message = attn_last_error();
            if (!fired) {
                ASSERT_EQ(status, ATTN_OK) << what << ": " << message;
                break;
            }
            ASSERT_EQ(status, ATTN_ERROR_MEMORY) << what << ", allocation " << n << ": " << message;
            ASSERT_NE(message.find("out of host memory"), std::string::npos) << message;
        }
        std::printf("%s: %lld allocations failed\n", what.c_str(), static_cast<long long>(n));
        failed_ += n;
    }

    int64_t failed_ = 0;
};

attn_status create(int32_t workers, attn_handle *handle)
{
    attn_options options = {};
    options.size = sizeof options;
    options.max_workers = workers;
    return attn_create(&options, handle);
}

TEST_P(MemoryFaults, Create)
{
    attn_handle handle = nullptr;
    expect_survived(
        "attn_create", [&] { return create(1, &handle); },
        [&] {
            attn_destroy(handle);
            handle = nullptr;
        });
    EXPECT_EQ(handle, nullptr);
    EXPECT_GE(failed_, 1);
}

TEST_P(MemoryFaults, DeviceInfo)
{
    attn_device_properties properties = {};
    properties.size = sizeof properties;
    expect_survived(
        "attn_device_info", [&] { return attn_device_info(ATTN_DEVICE_CPU, 0, &properties); }, [] {});
}

TEST_P(MemoryFaults, PlansOfEveryKind)
{
    attn_handle handle = nullptr;
    ASSERT_EQ(create(1, &handle), ATTN_OK);
    for (const auto &sample : make_samples()) {
        attn_plan plan = nullptr;
        failed_ = 0;
        expect_survived(
            "planning of " + sample->name, [&] { return sample->plan(kLinked, handle, &plan); },
            [&] {
                attn_plan_destroy(plan);
                plan = nullptr;
            });
        EXPECT_EQ(plan, nullptr);
        EXPECT_GE(failed_, 2);
        expect_survived(
            "attn_plan_supports of " + sample->name, [&] { return sample->supports(kLinked, handle); }, [] {});
    }
    attn_destroy(handle);
}

TEST_P(MemoryFaults, RefusalsToo)
{
    // A descriptor that no kernel serves: the message is put together from parts, in memory that may be missing.
    attn_handle handle = nullptr;
    ASSERT_EQ(create(1, &handle), ATTN_OK);
    Sample sample("gradient", ATTN_KIND_DENSE);
    sample.problem.direction = ATTN_BACKWARD;
    for (int64_t n = 0;; ++n) {
        ASSERT_LT(n, 1000);
        const int64_t before = live_blocks();
        attn_plan plan = nullptr;
        attn_status status;
        bool fired;
        {
            const FailingAllocations failing(n, GetParam());
            status = sample.plan(kLinked, handle, &plan);
            fired = failing.fired();
        }
        ASSERT_EQ(live_blocks(), before) << "allocation " << n;
        ASSERT_EQ(plan, nullptr);
        ASSERT_STRNE(attn_last_error(), "");
        if (!fired) {
            EXPECT_EQ(status, ATTN_ERROR_UNSUPPORTED) << attn_last_error();
            break;
        }
        ASSERT_EQ(status, ATTN_ERROR_MEMORY) << attn_last_error();
    }
    attn_destroy(handle);
}

TEST_P(MemoryFaults, Describe)
{
    attn_handle handle = nullptr;
    ASSERT_EQ(create(1, &handle), ATTN_OK);
    for (const auto &sample : make_samples()) {
        attn_plan plan = nullptr;
        ASSERT_EQ(sample->plan(kLinked, handle, &plan), ATTN_OK) << attn_last_error();
        size_t needed = 0;
        expect_survived(
            "attn_plan_describe of " + sample->name, [&] { return attn_plan_describe(plan, nullptr, 0, &needed); },
            [] {});
        std::string text(needed, '#');
        expect_survived(
            "text of " + sample->name, [&] { return attn_plan_describe(plan, text.data(), text.size(), nullptr); },
            [] {});
        EXPECT_EQ(text.find('#'), std::string::npos);
        attn_plan_destroy(plan);
    }
    attn_destroy(handle);
}

TEST_P(MemoryFaults, ExecuteAndDestroyNeedNone)
{
    for (const int32_t workers : {1, 3}) {
        attn_handle handle = nullptr;
        ASSERT_EQ(create(workers, &handle), ATTN_OK);
        for (const auto &sample : make_samples()) {
            SCOPED_TRACE(sample->name);
            attn_plan plan = nullptr;
            ASSERT_EQ(sample->plan(kLinked, handle, &plan), ATTN_OK) << attn_last_error();
            Tensors tensors(kLinked, plan, 1);
            ASSERT_EQ(tensors.execute(), ATTN_OK) << attn_last_error();
            const std::vector<unsigned char> expected = tensors.outputs();
            tensors.reset();
            attn_status status, refused;
            size_t bytes = 0;
            bool fired;
            {
                const FailingAllocations failing(0, true);
                status = tensors.execute();
                attn_tensor *out = tensors.find(ATTN_SLOT_K_CACHE);
                if (!out) out = tensors.find(ATTN_SLOT_OUT);
                ++out->ndim;
                refused = tensors.execute();
                --out->ndim;
                attn_plan_workspace(plan, &bytes, nullptr);
                attn_plan_destroy(plan);
                fired = failing.fired();
            }
            EXPECT_FALSE(fired);
            EXPECT_EQ(status, ATTN_OK);
            EXPECT_EQ(refused, ATTN_ERROR_INVALID);
            EXPECT_EQ(tensors.outputs(), expected);
        }
        const FailingAllocations failing(0, true);
        attn_destroy(handle);
        EXPECT_FALSE(failing.fired());
    }
}

TEST_P(MemoryFaults, TheHandleWorksAfterwards)
{
    attn_handle handle = nullptr;
    ASSERT_EQ(create(2, &handle), ATTN_OK);
    for (const auto &sample : make_samples()) {
        SCOPED_TRACE(sample->name);
        attn_plan plan = nullptr;
        ASSERT_EQ(sample->plan(kLinked, handle, &plan), ATTN_OK) << attn_last_error();
        Tensors before(kLinked, plan, 7);
        ASSERT_EQ(before.execute(), ATTN_OK) << attn_last_error();
        attn_plan_destroy(plan);
        for (int64_t n = 0; n < 12; ++n) {
            plan = nullptr;
            attn_status status;
            {
                const FailingAllocations failing(n, GetParam());
                status = sample->plan(kLinked, handle, &plan);
            }
            ASSERT_EQ(status == ATTN_OK, plan != nullptr);
            attn_plan_destroy(plan);
        }
        ASSERT_EQ(sample->plan(kLinked, handle, &plan), ATTN_OK) << attn_last_error();
        Tensors after(kLinked, plan, 7);
        ASSERT_EQ(after.execute(), ATTN_OK) << attn_last_error();
        EXPECT_EQ(after.outputs(), before.outputs());
        attn_plan_destroy(plan);
    }
    attn_destroy(handle);
}

TEST_P(MemoryFaults, CreateWithThreads)
{
    // Starting a thread allocates in the C library too, which then says EAGAIN: either status tells the caller.
    int64_t n = 0;
    for (;; ++n) {
        ASSERT_LT(n, 1000);
        attn_handle handle = nullptr;
        attn_status status;
        bool fired;
        {
            const FailingAllocations failing(n, GetParam());
            status = create(4, &handle);
            fired = failing.fired();
        }
        const std::string message = attn_last_error();
        if (status == ATTN_OK) {
            attn_destroy(handle);
        } else {
            ASSERT_TRUE(status == ATTN_ERROR_MEMORY || status == ATTN_ERROR_RUNTIME) << status;
            ASSERT_NE(message, "");
            ASSERT_EQ(handle, nullptr);
        }
        if (!fired) {
            ASSERT_EQ(status, ATTN_OK) << message;
            break;
        }
    }
    EXPECT_GE(n, 5);
}

INSTANTIATE_TEST_SUITE_P(Allocations, MemoryFaults, testing::Bool(),
                         [](const testing::TestParamInfo<bool> &info) { return info.param ? "FromThenOn" : "Once"; });

} // namespace
} // namespace attn::hardening

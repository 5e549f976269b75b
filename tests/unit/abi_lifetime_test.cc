// Pointers of every function, order of destruction, errors by thread, and silence.

#include "abi_fixture.h"

#include <cerrno>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace {

using caller::Dense;
using caller::Execution;
using caller::fails;
using caller::zeroed;

constexpr attn_status kInvalid = ATTN_ERROR_INVALID;

TEST(Pointers, Null)
{
    const caller::Handle handle;
    Dense desc;
    const caller::Plan plan(handle, desc);
    attn_plan made = nullptr;
    size_t bytes = 77, alignment = 77;
    attn_bind bind = {};
    const attn_sizes sizes = zeroed<attn_sizes>();
    const attn_merge merge = zeroed<attn_merge>();
    const attn_append append = zeroed<attn_append>();
    const auto expect = [](attn_status status, const char *function, const char *argument) {
        EXPECT_TRUE(fails(status, kInvalid, {function, argument, "NULL"}));
    };
    expect(attn_create(nullptr, nullptr), "attn_create", "handle = NULL");
    expect(attn_device_count(ATTN_DEVICE_CPU, nullptr), "attn_device_count", "count = NULL");
    expect(attn_device_info(ATTN_DEVICE_CPU, 0, nullptr), "attn_device_", "properties = NULL");
    expect(attn_plan_dense(nullptr, desc.get(), &made), "attn_plan_dense", "handle = NULL");
    expect(attn_plan_dense(handle, nullptr, &made), "attn_dense", "= NULL");
    expect(attn_plan_dense(handle, desc.get(), nullptr), "attn_plan_dense", "plan = NULL");
    expect(attn_plan_merge(nullptr, &merge, &made), "attn_plan_merge", "handle = NULL");
    expect(attn_plan_merge(handle, nullptr, &made), "attn_merge", "= NULL");
    expect(attn_plan_merge(handle, &merge, nullptr), "attn_plan_merge", "plan = NULL");
    expect(attn_plan_append(nullptr, &append, &made), "attn_plan_append", "handle = NULL");
    expect(attn_plan_append(handle, nullptr, &made), "attn_append", "= NULL");
    expect(attn_plan_append(handle, &append, nullptr), "attn_plan_append", "plan = NULL");
    expect(attn_plan_supports(nullptr, ATTN_KIND_DENSE, desc.get()), "attn_plan_supports", "handle = NULL");
    expect(attn_plan_supports(handle, ATTN_KIND_DENSE, nullptr), "attn_dense", "= NULL");
    expect(attn_plan_supports(handle, ATTN_KIND_MERGE, nullptr), "attn_merge", "= NULL");
    expect(attn_plan_supports(handle, ATTN_KIND_APPEND, nullptr), "attn_append", "= NULL");
    expect(attn_plan_workspace(nullptr, &bytes, &alignment), "attn_plan_workspace", "plan = NULL");
    expect(attn_plan_workspace(plan, nullptr, &alignment), "attn_plan_workspace", "bytes = NULL");
    expect(attn_plan_workspace_for(nullptr, &sizes, &bytes), "attn_plan_workspace_for", "plan = NULL");
    expect(attn_plan_workspace_for(plan, nullptr, &bytes), "attn_sizes", "= NULL");
    expect(attn_plan_workspace_for(plan, &sizes, nullptr), "attn_plan_workspace_for", "bytes = NULL");
    expect(attn_plan_slot(nullptr, 0, &bind, nullptr), "attn_plan_slot", "plan = NULL");
    expect(attn_plan_slot(plan, 0, nullptr, nullptr), "attn_plan_slot", "bind = NULL");
    expect(attn_plan_describe(nullptr, nullptr, 0, &bytes), "attn_plan_describe", "plan = NULL");
    expect(attn_plan_describe(plan, nullptr, 10, &bytes), "attn_plan_describe", "buffer = NULL");
    expect(attn_execute(nullptr, nullptr, 0, nullptr, 0, nullptr), "attn_execute", "plan = NULL");
    EXPECT_EQ(made, nullptr);
    EXPECT_EQ(bytes, 77u);
    EXPECT_EQ(alignment, 77u);
    attn_destroy(nullptr);
    attn_plan_destroy(nullptr);
}

/// A plan whose handle the caller has let go.
TEST(Lifetime, PlansOutliveTheirHandle)
{
    for (const int32_t workers : {1, 3}) {
        const attn_options options = caller::Handle::workers(workers);
        caller::Handle handle(&options);
        Dense desc;
        const caller::Plan first(handle, desc), second(handle, desc);
        attn_destroy(handle.release());
        for (const caller::Plan *plan : {&first, &second}) {
            Execution e(plan->workspace());
            ASSERT_TRUE(e.served(*plan));
            EXPECT_TRUE(caller::is_near(e.out_memory.floats(), caller::reference(e)));
        }
    }
}

TEST(Lifetime, HandlesOutliveTheirPlans)
{
    const caller::Handle handle;
    Dense desc;
    for (int i = 0; i < 3; ++i) const caller::Plan plan(handle, desc);
    const caller::Plan plan(handle, desc);
    Execution e(plan.workspace());
    EXPECT_TRUE(e.served(plan));
}

TEST(Lifetime, DescriptorsAreReadDuringTheCallOnly)
{
    const caller::Handle handle;
    attn_plan plan = nullptr;
    {
        Dense desc;
        ASSERT_EQ(attn_plan_dense(handle, desc.get(), &plan), ATTN_OK);
        memset(&desc.problem, 0xff, sizeof desc.problem);
        memset(&desc.dense, 0xff, sizeof desc.dense);
        memset(desc.binds.data(), 0xff, sizeof(attn_bind) * desc.binds.size());
    }
    size_t bytes = 0;
    ASSERT_EQ(attn_plan_workspace(plan, &bytes, nullptr), ATTN_OK);
    Execution e(bytes);
    ASSERT_TRUE(e.served(plan));
    EXPECT_TRUE(caller::is_near(e.out_memory.floats(), caller::reference(e)));
    attn_plan_destroy(plan);
}

TEST(Lifetime, ForkedChildExecutes)
{
    const attn_options options = caller::Handle::workers(2);
    const caller::Handle handle(&options);
    Dense desc;
    const caller::Plan plan(handle, desc);
    Execution e(plan.workspace());
    ASSERT_TRUE(e.served(plan));
    memset(e.out_memory.data(), 0, e.out_memory.bytes());
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        alarm(30);
        const bool ok = e.run(plan) == ATTN_OK && caller::is_near(e.out_memory.floats(), caller::reference(e));
        _exit(ok ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(Errors, BelongToTheThread)
{
    int32_t count = 0;
    ASSERT_EQ(attn_device_count(55, &count), kInvalid);
    const std::string mine = attn_last_error();
    EXPECT_NE(mine.find("55"), std::string::npos);
    std::thread([&] {
        EXPECT_STREQ(attn_last_error(), "") << "a new thread has no failure";
        EXPECT_EQ(attn_last_error_copy(nullptr, 0), 1u);
        EXPECT_EQ(attn_device_count(66, &count), kInvalid);
        EXPECT_NE(std::string(attn_last_error()).find("66"), std::string::npos);
    }).join();
    EXPECT_EQ(attn_last_error(), mine);
    EXPECT_EQ(attn_device_count(ATTN_DEVICE_CPU, &count), ATTN_OK);
    EXPECT_EQ(attn_last_error(), mine) << "the message of the last failure";
}

TEST(Errors, CopyIsCutToFit)
{
    int32_t count = 0;
    ASSERT_EQ(attn_device_count(55, &count), kInvalid);
    const std::string message = attn_last_error();
    ASSERT_GT(message.size(), 10u);
    EXPECT_EQ(attn_last_error_copy(nullptr, 0), message.size() + 1);
    for (const size_t capacity : {size_t{0}, size_t{1}, size_t{5}, message.size(), message.size() + 1, size_t{1000}}) {
        std::string buffer(1200, '#');
        EXPECT_EQ(attn_last_error_copy(buffer.data(), capacity), message.size() + 1) << capacity;
        const size_t kept = capacity == 0 ? 0 : std::min(message.size(), capacity - 1);
        EXPECT_EQ(buffer.substr(0, kept), message.substr(0, kept));
        if (capacity) {
            EXPECT_EQ(buffer[kept], '\0');
        }
        EXPECT_EQ(buffer.find_first_not_of('#', capacity ? kept + 1 : 0), std::string::npos) << capacity;
    }
    EXPECT_EQ(attn_last_error(), message);
}

TEST(Errors, StatusNames)
{
    const struct {
        attn_status status;
        const char *name;
    } names[] = {{ATTN_OK, "ATTN_OK"},
                 {ATTN_ERROR_INVALID, "ATTN_ERROR_INVALID"},
                 {ATTN_ERROR_UNSUPPORTED, "ATTN_ERROR_UNSUPPORTED"},
                 {ATTN_ERROR_ABI, "ATTN_ERROR_ABI"},
                 {ATTN_ERROR_NO_DEVICE, "ATTN_ERROR_NO_DEVICE"},
                 {ATTN_ERROR_MEMORY, "ATTN_ERROR_MEMORY"},
                 {ATTN_ERROR_WORKSPACE, "ATTN_ERROR_WORKSPACE"},
                 {ATTN_ERROR_CAPACITY, "ATTN_ERROR_CAPACITY"},
                 {ATTN_ERROR_RUNTIME, "ATTN_ERROR_RUNTIME"},
                 {ATTN_ERROR_COMPILE, "ATTN_ERROR_COMPILE"},
                 {ATTN_ERROR_DATA, "ATTN_ERROR_DATA"},
                 {ATTN_ERROR_FORKED, "ATTN_ERROR_FORKED"},
                 {ATTN_ERROR_INTERNAL, "ATTN_ERROR_INTERNAL"}};
    for (const auto &entry : names) EXPECT_STREQ(attn_status_name(entry.status), entry.name);
    for (const attn_status status : {1, -13, INT32_MAX, INT32_MIN}) {
        ASSERT_NE(attn_status_name(status), nullptr);
        EXPECT_STRNE(attn_status_name(status), "");
        EXPECT_EQ(std::string(attn_status_name(status)).find("ATTN_ERROR"), std::string::npos);
    }
    EXPECT_EQ(attn_version(), static_cast<uint32_t>(ATTN_VERSION));
}

/// Fails in as many ways as come to mind; nothing may be printed, and errno stays.
TEST(Errors, NothingIsPrintedAndErrnoStays)
{
    caller::hide_cuda_driver();
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    errno = 1234;
    {
        const caller::Handle handle;
        Dense desc;
        const caller::Plan plan(handle, desc);
        Execution e(plan.workspace());
        int32_t count = 0;
        size_t bytes = 0;
        attn_handle other = nullptr;
        attn_plan made = nullptr;
        attn_options options = zeroed<attn_options>();
        options.max_workers = -3;
        EXPECT_LT(attn_device_count(ATTN_DEVICE_CUDA, &count), 0);
        EXPECT_LT(attn_create(&options, &other), 0);
        desc.dense.softcap = -1;
        EXPECT_LT(attn_plan_dense(handle, desc.get(), &made), 0);
        desc.dense.softcap = 0, desc.dense.rope = &desc.rope;
        EXPECT_LT(attn_plan_dense(handle, desc.get(), &made), 0);
        EXPECT_LT(attn_plan_describe(plan, nullptr, 1, &bytes), 0);
        e.q.dtype = ATTN_FLOAT64;
        EXPECT_LT(e.run(plan), 0);
        e.q.dtype = ATTN_FLOAT32;
        EXPECT_EQ(e.run(plan), ATTN_OK);
    }
    EXPECT_EQ(errno, 1234);
    EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

} // namespace

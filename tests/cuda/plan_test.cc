// Plans on a CUDA handle, through the C ABI: kernels that do not run, everything around them.
#include "backends/cuda/cuda_backend.h"
#include "handle.h"
#include "tests/cuda/described.h"
#include "tests/cuda/session.h"
#include "tests/cuda/sweep.h"

#include <attn/attn.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace attn::cuda::test {
namespace {

std::vector<Described> described_plans()
{
    std::vector<Described> plans;
    plans.emplace_back("prefill").dense.causal = ATTN_BOTTOM_RIGHT;
    Described &decode = plans.emplace_back("paged decode, keys split, LSE");
    decode.problem.max_q = 1, decode.problem.max_kv = 4096, decode.problem.page_size = 16, decode.problem.batch = 1;
    decode.bind(ATTN_SLOT_SEQLENS_KV), decode.bind(ATTN_SLOT_LSE);
    Described &table = plans.emplace_back("distance table, an upload");
    table.table.max_distance = 8, table.dense.align = ATTN_TOP_LEFT;
    plans.emplace_back("column mass, a second kernel").bind(ATTN_SLOT_COLUMN_MASS);
    plans.emplace_back("mask program, a kernel before").term.op = ATTN_MASK_ID_EQ;
    Described &checked = plans.emplace_back("checked lengths");
    checked.problem.flags = ATTN_CHECKED;
    checked.bind(ATTN_SLOT_SEQLENS_KV);
    Described &merge = plans.emplace_back("merge", ATTN_KIND_MERGE);
    merge.problem.heads_k = merge.problem.max_kv = 0, merge.merge.parts = 3;
    // More new rows than are compared with each other: places are looked up in a table.
    Described &append = plans.emplace_back("append to pages", ATTN_KIND_APPEND);
    append.problem.max_q = 2000, append.problem.max_kv = 4096, append.problem.page_size = 16;
    append.bind(ATTN_SLOT_SEQLENS_KV);
    return plans;
}

class Plans : public Session {
protected:
    void SetUp() override
    {
        Session::SetUp();
        record_->parameters = 1;
    }

    /// A handle whose kernels, portable ones, come from the fake store.
    attn_status create(attn_handle *out)
    {
        const Driver *driver = nullptr;
        std::unique_ptr<CudaDevice> device;
        if (const attn_status status = open_driver(&driver)) return status;
        if (const attn_status status = CudaDevice::open(*driver, {}, std::make_unique<FakeStore>(record_), &device))
            return status;
        auto handle = std::make_unique<attn_handle_s>();
        handle->device = ATTN_DEVICE_CUDA;
        handle->process = getpid();
        handle->backend = make_backend(std::move(device), gpu::Selection::portable);
        *out = handle.release();
        return ATTN_OK;
    }

    /// Creates, plans, executes; the handle goes before the plan.
    attn_status scenario(Described described, const std::function<void()> &ending)
    {
        attn_handle handle = nullptr;
        if (const attn_status status = create(&handle)) return status;
        attn_plan plan = nullptr;
        attn_status status = described.plan(handle, &plan);
        if (status == ATTN_OK) {
            const Tensors tensors(plan);
            void *stream = fake_cuda_create_stream(fake_cuda_primary_context(0));
            status = tensors.execute(plan, stream);
            fake_cuda_destroy_stream(stream);
        }
        ending();
        attn_destroy(handle);
        attn_plan_destroy(plan);
        return status;
    }
};

TEST_F(Plans, EveryCallFails)
{
    for (const Described &described : described_plans()) {
        SCOPED_TRACE(described.name);
        std::printf("%s\n", described.name);
        const Sweep sweep = fail_every_call([&](const auto &ending) { return scenario(described, ending); });
        EXPECT_GE(sweep.faults.size(), 18u);
        if (HasFailure()) return;
    }
}

TEST_F(Plans, ExecuteOnlyLaunches)
{
    for (Described described : described_plans()) {
        SCOPED_TRACE(described.name);
        attn_handle handle = nullptr;
        attn_plan plan = nullptr;
        ASSERT_EQ(create(&handle), ATTN_OK) << last_error();
        ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
        const Tensors tensors(plan);
        void *stream = fake_cuda_create_stream(fake_cuda_primary_context(0));
        for (void *each : {static_cast<void *>(nullptr), stream}) {
            expect_only_launches(plan, tensors, each);
            EXPECT_GE(fake_cuda_calls("cuLaunchKernelEx"), 1);
            EXPECT_EQ(fake_cuda_calls("cuStreamGetCtx"), each ? 1 : 0);
        }
        attn_plan_destroy(plan);
        attn_destroy(handle);
    }
}

TEST_F(Plans, Launches)
{
    Described described("prefill");
    attn_handle handle = nullptr;
    attn_plan plan = nullptr;
    ASSERT_EQ(create(&handle), ATTN_OK) << last_error();
    ASSERT_EQ(
        attn_plan_supports(handle, ATTN_KIND_DENSE, (described.dense.problem = &described.problem, &described.dense)),
        ATTN_OK)
        << last_error();
    ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
    const Tensors tensors(plan);
    ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
    fake_cuda_launch launch;
    ASSERT_TRUE(fake_cuda_get_launch(0, &launch));
    EXPECT_STREQ(launch.kernel, "attn_dense_forward");
    EXPECT_GE(launch.grid[0], 2u * 4u) << "a block for each sequence and head at least";
    EXPECT_EQ(launch.context, fake_cuda_primary_context(0));
    const std::string text = describe(plan);
    EXPECT_NE(text.find("\"backend\":\"cuda\""), std::string::npos) << text;
    attn_plan_destroy(plan);
    attn_destroy(handle);
}

/// With the library's own store: what the compiler makes is what the driver is given. Sanitizers do not know its code.
TEST_F(Plans, CompiledKernels)
{
    attn_options options = {};
    options.size = sizeof options, options.device = ATTN_DEVICE_CUDA, options.flags = ATTN_HANDLE_NO_DISK_CACHE;
    attn_handle handle = nullptr;
    ASSERT_EQ(attn_create(&options, &handle), ATTN_OK) << last_error();
    attn_plan plan = nullptr;
    Described described("prefill"); // of plain layout, so that one kernel serves it
    for (const attn_slot slot : {ATTN_SLOT_Q, ATTN_SLOT_K, ATTN_SLOT_V})
        described.bind(slot, ATTN_BIND_ALIGNED | ATTN_BIND_INNER_CONTIGUOUS);
    const attn_status status = attn::test::can_count_allocations() ? described.plan(handle, &plan) : ATTN_ERROR_COMPILE;
    if (status == ATTN_ERROR_COMPILE) {
        attn_destroy(handle);
        std::printf("absent: compiled kernels\n");
        GTEST_SKIP() << "absent: compiled kernels: " << last_error();
    }
    ASSERT_EQ(status, ATTN_OK) << last_error();
    EXPECT_EQ(Tensors(plan).execute(plan, nullptr), ATTN_OK) << last_error();
    fake_cuda_launch launch;
    ASSERT_TRUE(fake_cuda_get_launch(0, &launch));
    EXPECT_STREQ(launch.kernel, "attn_dense_forward_sm90");
    EXPECT_EQ(launch.parameters, 7) << "as the attributes of the code say";
    attn_plan_destroy(plan);
    attn_destroy(handle);
}

TEST_F(Plans, ForeignStream)
{
    attn_handle handle = nullptr;
    attn_plan plan = nullptr;
    ASSERT_EQ(create(&handle), ATTN_OK) << last_error();
    ASSERT_EQ(Described("prefill").plan(handle, &plan), ATTN_OK) << last_error();
    const Tensors tensors(plan);
    void *stream = fake_cuda_create_stream(fake_cuda_create_context(0, 0));
    EXPECT_TRUE(failed_with(tensors.execute(plan, stream), ATTN_ERROR_INVALID, {"stream = ", "is of the context"}));
    EXPECT_EQ(fake_cuda_launch_count(), 0);
    attn_plan_destroy(plan);
    attn_destroy(handle);
}

/// Two handles of one device and their plans, destroyed in every order.
TEST_F(Plans, DestructionInAnyOrder)
{
    std::array<int, 4> order = {0, 1, 2, 3};
    do {
        std::array<attn_handle, 2> handles = {};
        std::array<attn_plan, 2> plans = {};
        for (size_t i = 0; i < 2; ++i) {
            ASSERT_EQ(create(&handles[i]), ATTN_OK) << last_error();
            Described described("distance table");
            described.table.max_distance = 8, described.dense.align = ATTN_TOP_LEFT;
            described.dense.bias_table = &described.table;
            ASSERT_EQ(described.plan(handles[i], &plans[i]), ATTN_OK) << last_error();
        }
        EXPECT_EQ(fake_cuda_count_live().retained, 2);
        for (const int i : order) {
            if (i < 2)
                attn_destroy(handles[static_cast<size_t>(i)]);
            else
                attn_plan_destroy(plans[static_cast<size_t>(i - 2)]);
        }
        EXPECT_EQ(describe_live(), "");
    } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(Plans, ForkedChild)
{
    attn_handle handle = nullptr;
    attn_plan plan = nullptr;
    ASSERT_EQ(create(&handle), ATTN_OK) << last_error();
    ASSERT_EQ(Described("prefill").plan(handle, &plan), ATTN_OK) << last_error();
    const Tensors tensors(plan);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        alarm(60);
        fake_cuda_clear_calls();
        attn_plan another = nullptr;
        bool good =
            static_cast<bool>(failed_with(tensors.execute(plan, nullptr), ATTN_ERROR_FORKED, {"before fork()"}));
        good &= static_cast<bool>(
            failed_with(Described("prefill").plan(handle, &another), ATTN_ERROR_FORKED, {"before fork()"}));
        attn_destroy(handle);
        attn_plan_destroy(plan);
        _exit(good && fake_cuda_all_calls() == 0 && violations().empty() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
    attn_plan_destroy(plan);
    attn_destroy(handle);
}

TEST_F(Plans, ManyThreads)
{
    constexpr int kThreads = 6, kRounds = 20;
    attn_handle handle = nullptr;
    attn_plan shared = nullptr;
    ASSERT_EQ(create(&handle), ATTN_OK) << last_error();
    ASSERT_EQ(Described("prefill").plan(handle, &shared), ATTN_OK) << last_error();
    std::atomic<int> failures{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t)
        threads.emplace_back([&, t] {
            const Tensors tensors(shared);
            for (int round = 0; round < kRounds; ++round) {
                Described described("own");
                described.problem.dim_qk = 64 * (1 + (t + round) % 3);
                attn_plan plan = nullptr;
                if (described.plan(handle, &plan) != ATTN_OK) {
                    ++failures;
                    continue;
                }
                const Tensors own(plan);
                failures += tensors.execute(shared, nullptr) != ATTN_OK || own.execute(plan, nullptr) != ATTN_OK;
                attn_plan_destroy(plan);
            }
        });
    for (std::thread &thread : threads) thread.join();
    EXPECT_EQ(failures, 0);
    EXPECT_EQ(fake_cuda_launch_count(), 2 * kThreads * kRounds);
    attn_plan_destroy(shared);
    attn_destroy(handle);
}

} // namespace
} // namespace attn::cuda::test

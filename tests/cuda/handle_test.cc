// CUDA handles through the C ABI: options, devices, lifetimes.
#include "tests/cuda/session.h"

#include "attn/attn.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace attn::cuda::test {
namespace {

attn_options cuda_options()
{
    attn_options options = {};
    options.size = sizeof options;
    options.device = ATTN_DEVICE_CUDA;
    return options;
}

void *ATTN_CALL no_memory(void *, size_t)
{
    return nullptr;
}
void ATTN_CALL free_nothing(void *, void *, size_t) {}
void ATTN_CALL serial(void *, int64_t count, attn_task task, void *arg)
{
    for (int64_t i = 0; i < count; ++i) task(arg, i, 0);
}

class Handle : public Session {};

TEST_F(Handle, OptionsRefused)
{
    static int context = 0;
    const struct {
        void (*change)(attn_options &o);
        attn_status status;
        std::initializer_list<std::string> parts;
    } table[] = {
        {[](attn_options &o) { o.device_id = 2; },
         ATTN_ERROR_NO_DEVICE,
         {"attn_options.device_id = 2", "there are 2 cuda devices"}},
        {[](attn_options &o) { o.device_id = -1; }, ATTN_ERROR_NO_DEVICE, {"attn_options.device_id = -1"}},
        {[](attn_options &o) { o.max_workers = 2; },
         ATTN_ERROR_INVALID,
         {"attn_options.max_workers = 2", "must be 0 for a GPU"}},
        {[](attn_options &o) { o.parallel_for = serial; },
         ATTN_ERROR_INVALID,
         {"attn_options.parallel_for", "NULL for a GPU"}},
        {[](attn_options &o) { o.device_alloc = no_memory; },
         ATTN_ERROR_INVALID,
         {"attn_options.device_free = NULL", "both"}},
        {[](attn_options &o) { o.device_free = free_nothing; },
         ATTN_ERROR_INVALID,
         {"attn_options.device_alloc = NULL", "both"}},
        {[](attn_options &o) { o.alloc_ctx = &context; },
         ATTN_ERROR_INVALID,
         {"attn_options.alloc_ctx", "NULL without device_alloc"}},
        {[](attn_options &o) { o.flags = ATTN_HANDLE_NO_COMPILE, o.compiler_path = "/x"; },
         ATTN_ERROR_INVALID,
         {"attn_options.compiler_path = /x", "ATTN_HANDLE_NO_COMPILE"}},
        {[](attn_options &o) { o.flags = ATTN_HANDLE_NO_DISK_CACHE, o.cache_dir = "/x"; },
         ATTN_ERROR_INVALID,
         {"attn_options.cache_dir = /x", "ATTN_HANDLE_NO_DISK_CACHE"}},
        {[](attn_options &o) { o.flags = ATTN_HANDLE_CURRENT_CONTEXT; },
         ATTN_ERROR_INVALID,
         {"ATTN_HANDLE_CURRENT_CONTEXT", "current on this thread"}},
    };
    for (const auto &refusal : table) {
        attn_options options = cuda_options();
        refusal.change(options);
        attn_handle handle = nullptr;
        EXPECT_TRUE(failed_with(attn_create(&options, &handle), refusal.status, refusal.parts));
        EXPECT_EQ(handle, nullptr);
    }
}

TEST_F(Handle, OptionsTaken)
{
    attn_options options = cuda_options();
    options.flags = ATTN_HANDLE_NO_COMPILE | ATTN_HANDLE_NO_DISK_CACHE | ATTN_HANDLE_NO_WAIT;
    options.device_alloc = no_memory, options.device_free = free_nothing, options.alloc_ctx = &options;
    options.device_id = 1;
    attn_handle handle = nullptr;
    ASSERT_EQ(attn_create(&options, &handle), ATTN_OK) << last_error();
    EXPECT_EQ(fake_cuda_primary_context(0), nullptr);
    EXPECT_NE(fake_cuda_primary_context(1), nullptr);
    attn_destroy(handle);
}

/// Each retains the context of its device; the order of destruction is free.
TEST_F(Handle, Several)
{
    std::vector<int> order = {0, 1, 2};
    do {
        attn_handle handles[3] = {};
        for (int i = 0; i < 3; ++i) {
            attn_options options = cuda_options();
            options.device_id = i % 2;
            ASSERT_EQ(attn_create(&options, &handles[i]), ATTN_OK) << last_error();
        }
        EXPECT_EQ(fake_cuda_count_live().retained, 3);
        EXPECT_EQ(fake_cuda_current(), nullptr);
        for (const int i : order) attn_destroy(handles[i]);
        EXPECT_EQ(describe_live(), "");
    } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(Handle, Devices)
{
    int32_t count = 0;
    ASSERT_EQ(attn_device_count(ATTN_DEVICE_CUDA, &count), ATTN_OK);
    EXPECT_EQ(count, 2);
    attn_device_properties p = {};
    p.size = sizeof p;
    errno = 1234;
    ASSERT_EQ(attn_device_info(ATTN_DEVICE_CUDA, 1, &p), ATTN_OK) << last_error();
    EXPECT_EQ(errno, 1234);
    EXPECT_EQ(p.size, sizeof p);
    EXPECT_EQ(p.device, ATTN_DEVICE_CUDA);
    EXPECT_EQ(p.device_id, 1);
    EXPECT_EQ(p.compute_units, 108);
    EXPECT_EQ(p.driver_version, 13000);
    EXPECT_EQ(p.memory_bytes, uint64_t{80} << 30);
    EXPECT_EQ(p.bytes_per_second, 1555200000000u); // 1.215 GHz, twice, 640 bytes
    EXPECT_STREQ(p.name, "Fake A 1");
    EXPECT_STREQ(p.arch, "sm_80");
    fake_cuda_set_attribute(1, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 0);
    ASSERT_EQ(attn_device_info(ATTN_DEVICE_CUDA, 1, &p), ATTN_OK);
    EXPECT_EQ(p.bytes_per_second, 0u);
    EXPECT_TRUE(failed_with(attn_device_info(ATTN_DEVICE_CUDA, 2, &p), ATTN_ERROR_NO_DEVICE,
                            {"device_id = 2", "2 cuda devices"}));
    EXPECT_EQ(fake_cuda_calls("cuDevicePrimaryCtxRetain"), 0) << "asking makes no context";
}

TEST_F(Handle, DeviceFaults)
{
    attn_device_properties p = {};
    p.size = sizeof p;
    ASSERT_EQ(attn_device_info(ATTN_DEVICE_CUDA, 0, &p), ATTN_OK) << last_error();
    fake_cuda_clear_calls();
    ASSERT_EQ(attn_device_info(ATTN_DEVICE_CUDA, 0, &p), ATTN_OK);
    std::vector<std::pair<std::string, int64_t>> all;
    for (int i = 0; i < fake_cuda_entry_count(); ++i)
        all.emplace_back(fake_cuda_entry_name(i), fake_cuda_calls(fake_cuda_entry_name(i)));
    const attn_device_properties before = p;
    int faults = 0;
    for (const auto &[entry, count] : all)
        for (int64_t n = 1; n <= count; ++n, ++faults) {
            fake_cuda_fail(entry.c_str(), n, CUDA_ERROR_NOT_SUPPORTED);
            EXPECT_TRUE(failed_with(attn_device_info(ATTN_DEVICE_CUDA, 0, &p), ATTN_ERROR_RUNTIME, {entry + ": "}));
            EXPECT_EQ(memcmp(&p, &before, sizeof p), 0) << "a failing call wrote its output";
        }
    EXPECT_GE(faults, 8);
}

/// What no kernel serves is refused with the reason of each.
TEST_F(Handle, PlansRefused)
{
    attn_options options = cuda_options();
    attn_handle handle = nullptr;
    ASSERT_EQ(attn_create(&options, &handle), ATTN_OK) << last_error();
    attn_problem problem = {};
    problem.size = sizeof problem, problem.q_dtype = ATTN_FLOAT16, problem.heads_q = 2, problem.dim_qk = 1000;
    problem.max_q = 3;
    attn_dense dense = {};
    dense.size = sizeof dense, dense.problem = &problem;
    attn_plan plan = nullptr;
    EXPECT_TRUE(failed_with(attn_plan_dense(handle, &dense, &plan), ATTN_ERROR_UNSUPPORTED,
                            {"attn_dense: no kernel of the cuda backend serves this: cuda.dense.decode_sm90 does not",
                             "; cuda.dense.latent_sm90 does not compute a V of its own",
                             "; cuda.dense.forward_sm90 does not compute attn_problem.dim_qk = 1000",
                             "; gpu.dense.forward does not compute attn_problem.dim_qk = 1000"}));
    EXPECT_EQ(plan, nullptr);
    EXPECT_TRUE(failed_with(attn_plan_supports(handle, ATTN_KIND_DENSE, &dense), ATTN_ERROR_UNSUPPORTED, {"dim_qk"}));
    attn_destroy(handle);
}

} // namespace
} // namespace attn::cuda::test

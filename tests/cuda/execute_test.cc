// What an execute does to the driver: contexts, streams, launches, and nothing else.
#include "tests/cuda/session.h"

#include <map>
#include <sys/wait.h>
#include <unistd.h>

namespace attn::cuda::test {
namespace {

class Execute : public Session {
protected:
    void SetUp() override
    {
        Session::SetUp();
        device_ = open();
        ASSERT_EQ(device_->load(request_for("alpha"), true, 128, 64 << 10, &kernel_), ATTN_OK) << last_error();
    }
    void TearDown() override
    {
        device_.reset();
        Session::TearDown();
    }
    attn_status run(const CudaDevice &device, void *stream) const
    {
        const gpu::Call call(device, stream);
        if (const attn_status status = call.status()) return status;
        void *pointer = nullptr;
        int number = 3;
        void *parameters[] = {&pointer, &number};
        return device.launch(kernel_, {7, 2, 3, 128, 64 << 10}, stream, parameters);
    }

    std::unique_ptr<CudaDevice> device_;
    gpu::Kernel kernel_;
};

TEST_F(Execute, Launches)
{
    void *stream = fake_cuda_create_stream(fake_cuda_primary_context(0));
    for (void *each : {static_cast<void *>(nullptr), special_stream(CU_STREAM_LEGACY),
                       special_stream(CU_STREAM_PER_THREAD), stream}) {
        fake_cuda_clear_launches();
        EXPECT_EQ(run(*device_, each), ATTN_OK) << last_error();
        ASSERT_EQ(fake_cuda_launch_count(), 1);
        fake_cuda_launch launch;
        ASSERT_TRUE(fake_cuda_get_launch(0, &launch));
        EXPECT_STREQ(launch.kernel, "alpha");
        EXPECT_EQ(launch.grid[0], 7u);
        EXPECT_EQ(launch.grid[1], 2u);
        EXPECT_EQ(launch.grid[2], 3u);
        EXPECT_EQ(launch.block[0], 128u);
        EXPECT_EQ(launch.block[1] * launch.block[2], 1u);
        EXPECT_EQ(launch.shared_bytes, 64u << 10);
        EXPECT_EQ(launch.parameters, 2);
        EXPECT_EQ(launch.stream, each);
        EXPECT_EQ(launch.context, fake_cuda_primary_context(0));
        EXPECT_EQ(fake_cuda_current(), nullptr);
    }
}

/// The caller's context is current again afterwards, after a failure too.
TEST_F(Execute, LeavesTheCallersContext)
{
    void *other = fake_cuda_create_context(1, 0);
    fake_cuda_push(other);
    EXPECT_EQ(run(*device_, nullptr), ATTN_OK);
    EXPECT_EQ(fake_cuda_current(), other);
    fake_cuda_fail("cuLaunchKernelEx", 1, CUDA_ERROR_LAUNCH_FAILED);
    EXPECT_TRUE(failed_with(run(*device_, nullptr), ATTN_ERROR_RUNTIME, {"cuLaunchKernelEx"}));
    EXPECT_EQ(fake_cuda_current(), other);
    fake_cuda_pop();
}

/// Nothing that allocates, synchronises, compiles or reads memory; a capture that goes on stays whole.
TEST_F(Execute, CallsOnly)
{
    void *stream = fake_cuda_create_stream(fake_cuda_primary_context(0));
    const std::map<std::string, int64_t> allowed = {
        {"cuCtxPushCurrent", 1}, {"cuCtxPopCurrent", 1}, {"cuStreamGetCtx", 1}, {"cuLaunchKernelEx", 1}};
    fake_cuda_begin_capture();
    fake_cuda_clear_calls();
    EXPECT_EQ(run(*device_, stream), ATTN_OK) << last_error();
    fake_cuda_end_capture();
    for (int i = 0; i < fake_cuda_entry_count(); ++i) {
        const auto found = allowed.find(fake_cuda_entry_name(i));
        EXPECT_EQ(fake_cuda_calls(fake_cuda_entry_name(i)), found == allowed.end() ? 0 : found->second)
            << fake_cuda_entry_name(i);
    }
}

TEST_F(Execute, ForeignStream)
{
    void *other = fake_cuda_create_context(0, 0);
    void *stream = fake_cuda_create_stream(other);
    char owner[32], mine[32];
    snprintf(owner, sizeof owner, "context %p", other);
    snprintf(mine, sizeof mine, "%p (the primary", fake_cuda_primary_context(0));
    EXPECT_TRUE(failed_with(run(*device_, stream), ATTN_ERROR_INVALID, {"stream = ", owner, mine}));
    EXPECT_EQ(fake_cuda_launch_count(), 0);
    EXPECT_EQ(fake_cuda_current(), nullptr);
}

TEST_F(Execute, BoundContext)
{
    void *green = fake_cuda_create_context(0, 48);
    DeviceOptions options;
    options.use_current_context = true;
    fake_cuda_push(green);
    auto device = open(options);
    fake_cuda_pop();
    EXPECT_EQ(device->facts().compute_units, 48) << "those of the green context";
    ASSERT_EQ(device->load(request_for("alpha"), true, 128, 64 << 10, &kernel_), ATTN_OK) << last_error();
    void *stream = fake_cuda_create_stream(green);
    EXPECT_EQ(run(*device, stream), ATTN_OK) << last_error();
    EXPECT_EQ(run(*device, nullptr), ATTN_OK) << last_error();
    fake_cuda_launch launch;
    ASSERT_TRUE(fake_cuda_get_launch(1, &launch));
    EXPECT_EQ(launch.context, green);
    EXPECT_TRUE(failed_with(run(*device, fake_cuda_create_stream(fake_cuda_primary_context(0))), ATTN_ERROR_INVALID,
                            {"ATTN_HANDLE_CURRENT_CONTEXT"}));
    // A context that its owner destroyed: the calls say so, and the device goes without any.
    fake_cuda_destroy_context(green);
    EXPECT_TRUE(failed_with(run(*device, nullptr), ATTN_ERROR_RUNTIME, {"cuCtxPushCurrent"}));
    device.reset();
    EXPECT_EQ(fake_cuda_calls("cuModuleUnload"), 0);
}

TEST_F(Execute, CurrentContextRefused)
{
    const Driver *driver = nullptr;
    ASSERT_EQ(open_driver(&driver), ATTN_OK);
    DeviceOptions options;
    options.use_current_context = true;
    std::unique_ptr<CudaDevice> device;
    EXPECT_TRUE(failed_with(CudaDevice::open(*driver, options, std::make_unique<FakeStore>(record_), &device),
                            ATTN_ERROR_INVALID, {"ATTN_HANDLE_CURRENT_CONTEXT", "current on this thread"}));
    fake_cuda_push(fake_cuda_create_context(1, 0));
    EXPECT_TRUE(failed_with(CudaDevice::open(*driver, options, std::make_unique<FakeStore>(record_), &device),
                            ATTN_ERROR_INVALID, {"attn_options.device_id = 0", "is of device 1"}));
    fake_cuda_pop();
}

TEST_F(Execute, DeviceError)
{
    fake_cuda_fail("cuLaunchKernelEx", 1, CUDA_ERROR_ILLEGAL_ADDRESS);
    EXPECT_TRUE(failed_with(run(*device_, nullptr), ATTN_ERROR_RUNTIME,
                            {"cuLaunchKernelEx: CUDA_ERROR_ILLEGAL_ADDRESS (700): illegal memory access",
                             "this process cannot use the device any more"}));
    fake_cuda_fail("cuLaunchKernelEx", 1, CUDA_ERROR_OUT_OF_MEMORY);
    EXPECT_TRUE(failed_with(run(*device_, nullptr), ATTN_ERROR_MEMORY, {"cuLaunchKernelEx", "out of memory"}));
    EXPECT_EQ(run(*device_, nullptr), ATTN_OK);
}

/// A fault stays: everything says so, and what is left goes without a word.
TEST_F(Execute, BrokenDevice)
{
    std::unique_ptr<gpu::Buffer> buffer;
    ASSERT_EQ(device_->upload("abc", 3, &buffer), ATTN_OK);
    fake_cuda_break(CUDA_ERROR_LAUNCH_FAILED);
    EXPECT_TRUE(failed_with(run(*device_, nullptr), ATTN_ERROR_RUNTIME, {"CUDA_ERROR_LAUNCH_FAILED (719)"}));
    std::unique_ptr<gpu::Buffer> another;
    gpu::Kernel kernel;
    EXPECT_TRUE(failed_with(device_->upload("abc", 3, &another), ATTN_ERROR_RUNTIME, {"cuMemAlloc", "(719)"}));
    EXPECT_TRUE(failed_with(device_->load(request_for("beta"), true, 128, 0, &kernel), ATTN_ERROR_RUNTIME,
                            {"cuModuleLoadDataEx", "(719)"}));
    buffer.reset();
    device_.reset();
    EXPECT_TRUE(failed_with(ATTN_ERROR_RUNTIME, ATTN_ERROR_RUNTIME, {"cuModuleLoadDataEx"})) << "the last message";
}

TEST_F(Execute, ForkedChild)
{
    std::unique_ptr<gpu::Buffer> buffer;
    ASSERT_EQ(device_->upload("abc", 3, &buffer), ATTN_OK);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        alarm(60);
        fake_cuda_clear_calls();
        gpu::Kernel kernel;
        std::unique_ptr<gpu::Buffer> another;
        bool good = static_cast<bool>(failed_with(run(*device_, nullptr), ATTN_ERROR_FORKED, {"before fork()"}));
        good &= device_->load(request_for("alpha"), true, 128, 64 << 10, &kernel) == ATTN_ERROR_FORKED;
        good &= device_->upload("abc", 3, &another) == ATTN_ERROR_FORKED;
        buffer.reset();
        device_.reset();
        _exit(good && fake_cuda_all_calls() == 0 && violations().empty() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(run(*device_, nullptr), ATTN_OK) << last_error();
}

} // namespace
} // namespace attn::cuda::test

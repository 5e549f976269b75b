// Every driver call of opening, planning, executing and destroying is made to fail, one at a time.
#include "tests/cuda/session.h"

#include <array>
#include <map>
#include <vector>

namespace attn::cuda::test {
namespace {

constexpr int kResult = CUDA_ERROR_NOT_SUPPORTED; // no call gives a meaning to it, but for one that is left out below

/// What gives something back. It does so though it fails, and nobody is told: there is nothing that one could do.
bool gives_back(const std::string &entry)
{
    for (const char *name :
         {"cuDevicePrimaryCtxRelease", "cuCtxPopCurrent", "cuModuleUnload", "cuStreamDestroy", "cuMemFree"})
        if (entry == name) return true;
    return false;
}

class Fault : public Session {
protected:
    /// Opens, plans twice, executes; stops at what fails. Everything goes at the end.
    attn_status scenario()
    {
        fake_cuda_clear_launches();
        const Driver *driver = nullptr;
        if (const attn_status status = open_driver(&driver)) return status;
        std::unique_ptr<CudaDevice> device;
        if (const attn_status status = CudaDevice::open(*driver, {}, std::make_unique<FakeStore>(record_), &device))
            return status;
        std::array<std::unique_ptr<gpu::Buffer>, 2> buffers;
        std::array<gpu::Kernel, 2> kernels;
        for (size_t i = 0; i < 2; ++i) {
            if (const attn_status status =
                    device->load(request_for(i ? "beta" : "alpha"), true, 128, 64 << 10, &kernels[i]))
                return status;
            if (const attn_status status = device->upload("abc", 3, &buffers[i])) return status;
        }
        void *stream = fake_cuda_create_stream(fake_cuda_primary_context(0));
        attn_status status = execute(*device, kernels, stream);
        fake_cuda_destroy_stream(stream);
        for (int i = 0; i < fake_cuda_entry_count(); ++i)
            calls_before_end_[fake_cuda_entry_name(i)] = fake_cuda_calls(fake_cuda_entry_name(i));
        return status;
    }

    static attn_status execute(const CudaDevice &device, const std::array<gpu::Kernel, 2> &kernels, void *stream)
    {
        const gpu::Call call(device, stream);
        if (const attn_status status = call.status()) return status;
        for (const gpu::Kernel &kernel : kernels) {
            void *pointer = nullptr;
            int number = 3;
            void *parameters[] = {&pointer, &number};
            if (const attn_status status = device.launch(kernel, {5, 1, 1, 128, 64 << 10}, stream, parameters))
                return status;
        }
        return ATTN_OK;
    }

    std::map<std::string, int64_t> calls_before_end_;
};

TEST_F(Fault, EveryCall)
{
    ASSERT_EQ(scenario(), ATTN_OK) << last_error(); // also opens the driver, if no test before did
    fake_cuda_clear_calls();
    ASSERT_EQ(scenario(), ATTN_OK) << last_error();
    ASSERT_EQ(fake_cuda_launch_count(), 2);
    const std::map<std::string, int64_t> before_end = calls_before_end_;
    std::map<std::string, int64_t> all;
    for (const auto &[entry, count] : before_end) all[entry] = fake_cuda_calls(entry.c_str());

    int64_t failures = 0, told = 0;
    int entries = 0;
    for (const auto &[entry, count] : all) {
        entries += count > 0;
        for (int64_t n = 1; n <= count; ++n) {
            SCOPED_TRACE(entry + ", call " + std::to_string(n) + " of " + std::to_string(count));
            const int result = entry == "cuCtxGetDevResource" ? CUDA_ERROR_INVALID_VALUE : kResult;
            fake_cuda_reset();
            fake_cuda_fail(entry.c_str(), n, result);
            const attn_status status = scenario();
            ++failures;
            EXPECT_TRUE(fake_cuda_has_failed());
            // The mode is exchanged twice, and putting it back is giving back.
            const bool silent = gives_back(entry) || n > before_end.at(entry) ||
                                (entry == "cuThreadExchangeStreamCaptureMode" && n % 2 == 0);
            if (silent) {
                EXPECT_EQ(status, ATTN_OK) << last_error();
                EXPECT_EQ(fake_cuda_launch_count(), 2);
            } else {
                ++told;
                std::string text = entry;
                text += result == kResult ? ": CUDA_ERROR_NOT_SUPPORTED (801): operation not supported"
                                          : ": CUDA_ERROR_INVALID_VALUE (1): invalid argument";
                EXPECT_TRUE(failed_with(status, ATTN_ERROR_RUNTIME, {text}));
                EXPECT_EQ(fake_cuda_launch_count(), entry == "cuLaunchKernelEx" ? n - 1 : 0)
                    << "launched after a fault";
            }
            EXPECT_EQ(describe_live(), "");
            EXPECT_EQ(violations(), "");
            EXPECT_EQ(fake_cuda_current(), nullptr);
            fake_cuda_set_capture_mode(CU_STREAM_CAPTURE_MODE_GLOBAL);
            EXPECT_EQ(scenario(), ATTN_OK) << last_error();
            EXPECT_EQ(violations(), "");
            if (HasFailure()) return;
        }
    }
    RecordProperty("faults", std::to_string(failures));
    printf("faults: %d entry points, %ld calls made to fail, %ld of them told\n", entries, static_cast<long>(failures),
           static_cast<long>(told));
    EXPECT_GE(entries, 25);
}

/// The statuses that results have.
TEST_F(Fault, Statuses)
{
    const struct {
        const char *entry;
        int result;
        attn_status status;
    } table[] = {
        {"cuMemAlloc", CUDA_ERROR_OUT_OF_MEMORY, ATTN_ERROR_MEMORY},
        {"cuModuleLoadDataEx", CUDA_ERROR_OUT_OF_MEMORY, ATTN_ERROR_MEMORY},
        {"cuDevicePrimaryCtxRetain", CUDA_ERROR_OUT_OF_MEMORY, ATTN_ERROR_MEMORY},
        {"cuDevicePrimaryCtxRetain", CUDA_ERROR_DEVICE_UNAVAILABLE, ATTN_ERROR_NO_DEVICE},
        {"cuDeviceGet", CUDA_ERROR_INVALID_DEVICE, ATTN_ERROR_NO_DEVICE},
        {"cuModuleLoadDataEx", CUDA_ERROR_INVALID_PTX, ATTN_ERROR_COMPILE},
        {"cuModuleLoadDataEx", CUDA_ERROR_NO_BINARY_FOR_GPU, ATTN_ERROR_COMPILE},
        {"cuModuleLoadDataEx", CUDA_ERROR_UNSUPPORTED_PTX_VERSION, ATTN_ERROR_COMPILE},
        {"cuModuleGetFunction", CUDA_ERROR_NOT_FOUND, ATTN_ERROR_RUNTIME},
        {"cuLaunchKernelEx", CUDA_ERROR_ILLEGAL_ADDRESS, ATTN_ERROR_RUNTIME},
        {"cuLaunchKernelEx", CUDA_ERROR_MISALIGNED_ADDRESS, ATTN_ERROR_RUNTIME},
        {"cuLaunchKernelEx", CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, ATTN_ERROR_RUNTIME},
    };
    for (const auto &[entry, result, status] : table) {
        fake_cuda_fail(entry, 1, result);
        EXPECT_TRUE(
            failed_with(scenario(), status, {std::string(entry).append(": "), std::to_string(result).append(")")}));
        EXPECT_EQ(describe_live(), "");
    }
}

} // namespace
} // namespace attn::cuda::test

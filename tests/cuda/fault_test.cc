// Every driver call of opening a device, loading, uploading, launching and destroying is made to fail.
#include "tests/cuda/session.h"
#include "tests/cuda/sweep.h"

#include <array>

namespace attn::cuda::test {
namespace {

class Fault : public Session {
protected:
    /// Opens, plans twice, executes; stops at what fails. Everything goes at the end.
    attn_status scenario(const std::function<void()> &ending)
    {
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
        ending();
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
};

TEST_F(Fault, EveryCallOfADevice)
{
    const Sweep sweep = fail_every_call([this](const auto &ending) { return scenario(ending); });
    EXPECT_EQ(sweep.faults.size(), 25u);
    EXPECT_GE(sweep.told, 50);
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
        EXPECT_TRUE(failed_with(scenario([] {}), status,
                                {std::string(entry).append(": "), std::to_string(result).append(")")}));
        EXPECT_EQ(describe_live(), "");
    }
}

} // namespace
} // namespace attn::cuda::test

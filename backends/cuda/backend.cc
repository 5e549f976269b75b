// The CUDA backend: its implementation list, and what is said of devices.
#include "backends/cuda/cuda_backend.h"

#include "backends/cuda/decode_sm90/executor.h"
#include "backends/cuda/dense_sm90/executor.h"
#include "backends/cuda/implementations.h"
#include "backends/cuda/latent_sm90/executor.h"
#include "backends/gpu/append/executor.h"
#include "backends/gpu/dense/executor.h"
#include "backends/gpu/merge/executor.h"

#include <array>
#include <cstdio>

namespace attn {
namespace cuda {
namespace {

constexpr std::array<gpu::Implementation, 6> kImplementations = {{
    {ATTN_KIND_DENSE, "cuda.dense.decode_sm90", gpu::Family::sm90, sm90::refuse_decode, sm90::make_decode},
    {ATTN_KIND_DENSE, "cuda.dense.latent_sm90", gpu::Family::sm90, sm90::refuse_latent, sm90::make_latent},
    {ATTN_KIND_DENSE, "cuda.dense.forward_sm90", gpu::Family::sm90, sm90::refuse_forward, sm90::make_forward},
    {ATTN_KIND_DENSE, "gpu.dense.forward", gpu::Family::portable, gpu::refuse_forward, gpu::make_forward},
    {ATTN_KIND_MERGE, "gpu.merge", gpu::Family::portable, gpu::refuse_merge, gpu::make_merge},
    {ATTN_KIND_APPEND, "gpu.append", gpu::Family::portable, gpu::refuse_append, gpu::make_append},
}};

class CudaBackend final : public Backend {
public:
    CudaBackend(std::unique_ptr<CudaDevice> device, gpu::Selection selection)
        : device_(std::move(device)), selection_(selection)
    {
    }

    const char *name() const noexcept override { return "cuda"; }

    attn_status plan(const attn_handle_s &, const Problem &problem, std::unique_ptr<Executor> *executor) const override
    {
        if (const attn_status status = device_->context().check_process()) return status;
        return gpu::choose(implementations(), selection_, name(), problem, *device_, executor);
    }

private:
    std::unique_ptr<CudaDevice> device_;
    const gpu::Selection selection_;
};

/// Bytes per second that the memory interface can carry; 0 if the driver does not tell.
attn_status nominal_bandwidth(const Driver &driver, CUdevice device, uint64_t *out)
{
    int kilohertz = 0, bits = 0;
    if (const CUresult result = driver.cuDeviceGetAttribute(&kilohertz, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, device))
        return fail_call(driver, "cuDeviceGetAttribute", result);
    if (const CUresult result = driver.cuDeviceGetAttribute(&bits, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, device))
        return fail_call(driver, "cuDeviceGetAttribute", result);
    *out = uint64_t{2} * 1000 * static_cast<uint64_t>(kilohertz) * static_cast<uint64_t>(bits) / 8; // two per clock
    return ATTN_OK;
}

} // namespace

std::span<const gpu::Implementation> implementations() noexcept
{
    return kImplementations;
}

std::unique_ptr<Backend> make_backend(std::unique_ptr<CudaDevice> device, gpu::Selection selection)
{
    return std::make_unique<CudaBackend>(std::move(device), selection);
}

} // namespace cuda

attn_status open_cuda_backend(const attn_options &options, std::unique_ptr<Backend> *out)
{
    gpu::Selection selection = gpu::Selection::standard;
    if (const attn_status status = gpu::read_selection(&selection)) return status;
    const cuda::Driver *driver = nullptr;
    if (const attn_status status = cuda::open_driver(&driver)) return status;
    kernel::StoreOptions store_options;
    store_options.compile = !(options.flags & ATTN_HANDLE_NO_COMPILE);
    store_options.driver = driver->version;
    store_options.disk_cache = !(options.flags & ATTN_HANDLE_NO_DISK_CACHE);
    if (options.cache_dir) store_options.cache_dir = options.cache_dir;
    if (options.kernel_path) store_options.kernel_path = options.kernel_path;
    if (options.compiler_path) store_options.compiler_path = options.compiler_path;
    std::unique_ptr<kernel::Store> store;
    if (const attn_status status = kernel::open_store(store_options, &store)) return status;

    cuda::DeviceOptions device_options;
    device_options.device_id = options.device_id;
    device_options.use_current_context = options.flags & ATTN_HANDLE_CURRENT_CONTEXT;
    device_options.wait_for_compiler = !(options.flags & (ATTN_HANDLE_NO_COMPILE | ATTN_HANDLE_NO_WAIT));
    device_options.alloc = options.device_alloc;
    device_options.free = options.device_free;
    device_options.alloc_ctx = options.alloc_ctx;
    std::unique_ptr<cuda::CudaDevice> device;
    if (const attn_status status = cuda::CudaDevice::open(*driver, device_options, std::move(store), &device))
        return status;
    *out = cuda::make_backend(std::move(device), selection);
    return ATTN_OK;
}

attn_status count_cuda_devices(int32_t *count)
{
    const cuda::Driver *driver = nullptr;
    if (const attn_status status = cuda::open_driver(&driver)) return status;
    int found = 0;
    if (driver->has_devices)
        if (const cuda::CUresult result = driver->cuDeviceGetCount(&found))
            return cuda::fail_call(*driver, "cuDeviceGetCount", result);
    *count = found;
    return ATTN_OK;
}

attn_status describe_cuda_device(int32_t device_id, attn_device_properties *properties)
{
    const cuda::Driver *driver = nullptr;
    if (const attn_status status = cuda::open_driver(&driver)) return status;
    cuda::CUdevice device = 0;
    if (const cuda::CUresult result = driver->cuDeviceGet(&device, device_id))
        return cuda::fail_call(*driver, "cuDeviceGet", result);
    *properties = {};
    properties->device = ATTN_DEVICE_CUDA;
    properties->device_id = device_id;
    properties->driver_version = driver->version;
    if (const cuda::CUresult result = driver->cuDeviceGetName(properties->name, sizeof properties->name, device))
        return cuda::fail_call(*driver, "cuDeviceGetName", result);
    int major = 0, minor = 0;
    const struct {
        cuda::CUdevice_attribute attribute;
        int *value;
    } attributes[] = {{cuda::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major},
                      {cuda::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &minor},
                      {cuda::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &properties->compute_units}};
    for (const auto &[attribute, value] : attributes)
        if (const cuda::CUresult result = driver->cuDeviceGetAttribute(value, attribute, device))
            return cuda::fail_call(*driver, "cuDeviceGetAttribute", result);
    snprintf(properties->arch, sizeof properties->arch, "%s", cuda::arch_name(major, minor).c_str());
    size_t memory = 0;
    if (const cuda::CUresult result = driver->cuDeviceTotalMem(&memory, device))
        return cuda::fail_call(*driver, "cuDeviceTotalMem", result);
    properties->memory_bytes = memory;
    return cuda::nominal_bandwidth(*driver, device, &properties->bytes_per_second);
}

} // namespace attn

// Facts, memory and launches.
#include "backends/cuda/device.h"

namespace attn::cuda {
namespace {

/// The first driver that captures programmatic launches into graphs.
constexpr int kProgrammaticInGraphs = 12030;

constexpr uintptr_t kBufferAlignment = 256;

/// SMs that work in the context may use: a green context has some of the device's. 0 if the driver cannot tell.
attn_status count_units(const Context &context, int32_t *out)
{
    const Driver &driver = context.driver();
    *out = 0;
    if (!driver.cuCtxGetDevResource) return ATTN_OK;
    CUdevResource resource = {};
    const CUresult result = driver.cuCtxGetDevResource(context.handle(), &resource, CU_DEV_RESOURCE_TYPE_SM);
    if (result == CUDA_ERROR_NOT_SUPPORTED || result == CUDA_ERROR_NOT_PERMITTED ||
        result == CUDA_ERROR_INVALID_RESOURCE_TYPE)
        return ATTN_OK;
    if (result != CUDA_SUCCESS) return fail_call(driver, "cuCtxGetDevResource", result);
    *out = static_cast<int32_t>(resource.sm.smCount);
    return ATTN_OK;
}

attn_status read_facts(const Context &context, gpu::Facts *facts)
{
    const Driver &driver = context.driver();
    const PlanningScope scope(context);
    if (const attn_status status = scope.status()) return status;
    int shared_block = 0, shared_unit = 0, l2 = 0, units = 0;
    const struct {
        CUdevice_attribute attribute;
        int *value;
    } attributes[] = {{CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &facts->major},
                      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &facts->minor},
                      {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &units},
                      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &shared_block},
                      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, &shared_unit},
                      {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, &l2}};
    for (const auto &[attribute, value] : attributes)
        if (const CUresult result = driver.cuDeviceGetAttribute(value, attribute, context.device()))
            return fail_call(driver, "cuDeviceGetAttribute", result);
    size_t memory = 0;
    if (const CUresult result = driver.cuDeviceTotalMem(&memory, context.device()))
        return fail_call(driver, "cuDeviceTotalMem", result);
    if (const attn_status status = count_units(context, &facts->compute_units)) return status;
    if (facts->compute_units == 0) facts->compute_units = units;
    facts->arch = arch_name(facts->major, facts->minor);
    facts->shared_bytes_block = shared_block;
    facts->shared_bytes_unit = shared_unit;
    facts->l2_bytes = l2;
    facts->memory_bytes = static_cast<int64_t>(memory);
    facts->programmatic = facts->major >= 9 && driver.version >= kProgrammaticInGraphs;
    return ATTN_OK;
}

bool is_default_stream(void *stream)
{
    const uintptr_t value = reinterpret_cast<uintptr_t>(stream);
    return value == 0 || value == CU_STREAM_LEGACY || value == CU_STREAM_PER_THREAD;
}

} // namespace

std::string arch_name(int32_t major, int32_t minor)
{
    return "sm_" + std::to_string(major) + std::to_string(minor) + (major >= 9 ? "a" : "");
}

/// Memory of a plan; the plan keeps the handle and so the device.
class CudaDevice::DeviceBuffer final : public gpu::Buffer {
public:
    DeviceBuffer(const CudaDevice &device, size_t bytes) : device_(device), bytes_(bytes) {}
    ~DeviceBuffer() override
    {
        if (!data_ || device_.context_->forked()) return;
        const PlanningScope scope(*device_.context_);
        if (scope.entered()) device_.release(data_, bytes_);
    }
    DeviceBuffer(const DeviceBuffer &) = delete;
    DeviceBuffer &operator=(const DeviceBuffer &) = delete;

    /// In a planning scope.
    attn_status fill(CudaDevice *device, const void *data)
    {
        if (const attn_status status = device->allocate(bytes_, &data_)) return status;
        return device->copy(data_, data, bytes_);
    }

private:
    const CudaDevice &device_;
    size_t bytes_;
};

CudaDevice::CudaDevice(const DeviceOptions &options, std::unique_ptr<kernel::Store> store,
                       std::unique_ptr<Context> context)
    : options_(options), context_(std::move(context)), kernels_(*context_, std::move(store))
{
}

attn_status CudaDevice::open(const Driver &driver, const DeviceOptions &options, std::unique_ptr<kernel::Store> store,
                             std::unique_ptr<CudaDevice> *out)
{
    std::unique_ptr<Context> context;
    if (const attn_status status = Context::open(driver, options.device_id, options.use_current_context, &context))
        return status;
    std::unique_ptr<CudaDevice> device(new CudaDevice(options, std::move(store), std::move(context)));
    if (const attn_status status = read_facts(*device->context_, &device->facts_)) return status;
    *out = std::move(device);
    return ATTN_OK;
}

CudaDevice::~CudaDevice()
{
    if (!copy_stream_ || context_->forked()) return;
    const PlanningScope scope(*context_);
    if (scope.entered()) static_cast<void>(context_->driver().cuStreamDestroy(copy_stream_));
}

attn_status CudaDevice::load(const kernel::Request &request, bool compile, uint32_t threads, uint32_t shared_bytes,
                             gpu::Kernel *out)
{
    if (const attn_status status = context_->check_process()) return status;
    return kernels_.load(request, facts_.arch, compile, threads, shared_bytes, out);
}

bool CudaDevice::has(const kernel::Request &request)
{
    return kernels_.has(request, facts_.arch);
}

attn_status CudaDevice::count_clusters(const gpu::Kernel &kernel, const gpu::Grid &grid, int32_t *out)
{
    if (const attn_status status = context_->check_process()) return status;
    return kernels_.count_clusters(kernel, grid, out);
}

attn_status CudaDevice::allocate(size_t bytes, void **out) const
{
    const Driver &driver = context_->driver();
    if (!options_.alloc) {
        CUdeviceptr address = 0;
        if (const CUresult result = driver.cuMemAlloc(&address, bytes))
            return fail_call(driver, "cuMemAlloc", result, (std::to_string(bytes) + " bytes").c_str());
        *out = reinterpret_cast<void *>(address);
        return ATTN_OK;
    }
    void *memory = options_.alloc(options_.alloc_ctx, bytes);
    if (!memory) return fail(ATTN_ERROR_MEMORY, "attn_options.device_alloc returned NULL for %zu bytes", bytes);
    if (reinterpret_cast<uintptr_t>(memory) % kBufferAlignment != 0) {
        options_.free(options_.alloc_ctx, memory, bytes);
        return fail(ATTN_ERROR_INVALID, "attn_options.device_alloc returned %p: must be a multiple of %d", memory,
                    static_cast<int>(kBufferAlignment));
    }
    *out = memory;
    return ATTN_OK;
}

void CudaDevice::release(void *memory, size_t bytes) const noexcept
{
    if (options_.free)
        options_.free(options_.alloc_ctx, memory, bytes);
    else
        static_cast<void>(context_->driver().cuMemFree(reinterpret_cast<CUdeviceptr>(memory)));
}

attn_status CudaDevice::copy(void *to, const void *from, size_t bytes)
{
    const Driver &driver = context_->driver();
    // The default stream would wait for the caller's work, and must not be used at all while a stream is captured.
    const std::lock_guard lock(copy_mutex_);
    if (!copy_stream_)
        if (const CUresult result = driver.cuStreamCreate(&copy_stream_, CU_STREAM_NON_BLOCKING))
            return fail_call(driver, "cuStreamCreate", result);
    if (const CUresult result = driver.cuMemcpyHtoDAsync(reinterpret_cast<CUdeviceptr>(to), from, bytes, copy_stream_))
        return fail_call(driver, "cuMemcpyHtoDAsync", result, (std::to_string(bytes) + " bytes").c_str());
    if (const CUresult result = driver.cuStreamSynchronize(copy_stream_))
        return fail_call(driver, "cuStreamSynchronize", result);
    return ATTN_OK;
}

attn_status CudaDevice::upload(const void *data, size_t bytes, std::unique_ptr<gpu::Buffer> *out)
{
    if (const attn_status status = context_->check_process()) return status;
    auto buffer = std::make_unique<DeviceBuffer>(*this, bytes);
    if (bytes) {
        const PlanningScope scope(*context_);
        if (const attn_status status = scope.status()) return status;
        if (const attn_status status = buffer->fill(this, data)) return status;
    }
    *out = std::move(buffer);
    return ATTN_OK;
}

attn_status CudaDevice::enter(void *stream) const noexcept
{
    if (const attn_status status = context_->check_process()) return status;
    if (const CUresult result = context_->push()) return context_->fail_push(result);
    if (is_default_stream(stream)) return ATTN_OK; // that of the context just entered
    const Driver &driver = context_->driver();
    CUcontext owner = nullptr;
    attn_status status = ATTN_OK;
    if (const CUresult result = driver.cuStreamGetCtx(static_cast<CUstream>(stream), &owner))
        status = fail_call(driver, "cuStreamGetCtx", result);
    else if (owner != context_->handle())
        status =
            fail(ATTN_ERROR_INVALID, "stream = %p: is of the context %p, must be of that of the handle, %p (%s)",
                 stream, static_cast<void *>(owner), static_cast<void *>(context_->handle()),
                 context_->is_primary() ? "the primary context of the device" : "bound by ATTN_HANDLE_CURRENT_CONTEXT");
    if (status != ATTN_OK) context_->pop();
    return status;
}

attn_status CudaDevice::encode(const gpu::TensorTiles &tiles, gpu::TensorMap *out) const noexcept
{
    static_assert(sizeof(gpu::TensorMap) == sizeof(CUtensorMap) && alignof(gpu::TensorMap) == alignof(CUtensorMap));
    constexpr CUtensorMapDataType kTypes[] = {CU_TENSOR_MAP_DATA_TYPE_FLOAT32, CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
                                              CU_TENSOR_MAP_DATA_TYPE_BFLOAT16}; // by gpu::Element
    constexpr uint32_t kSteps[] = {1, 1, 1, 1};
    const Driver &driver = context_->driver();
    if (const CUresult result = driver.cuTensorMapEncodeTiled(
            reinterpret_cast<CUtensorMap *>(out), kTypes[tiles.element], 4, const_cast<void *>(tiles.base),
            tiles.extents, tiles.steps, tiles.tile, kSteps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
            CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE))
        return fail_call(driver, "cuTensorMapEncodeTiled", result);
    return ATTN_OK;
}

attn_status CudaDevice::clear(void *memory, size_t count, void *stream) const noexcept
{
    const Driver &driver = context_->driver();
    if (const CUresult result =
            driver.cuMemsetD32Async(reinterpret_cast<CUdeviceptr>(memory), 0, count, static_cast<CUstream>(stream)))
        return fail_call(driver, "cuMemsetD32Async", result);
    return ATTN_OK;
}

attn_status CudaDevice::launch(const gpu::Kernel &kernel, const gpu::Grid &grid, void *stream,
                               void **parameters) const noexcept
{
    CUlaunchAttribute attributes[kMostLaunchAttributes] = {};
    CUlaunchConfig config = launch_config(grid, facts_.programmatic, attributes);
    config.hStream = static_cast<CUstream>(stream);
    const Driver &driver = context_->driver();
    if (const CUresult result =
            driver.cuLaunchKernelEx(&config, static_cast<CUfunction>(kernel.function), parameters, nullptr))
        return fail_call(driver, "cuLaunchKernelEx", result);
    return ATTN_OK;
}

} // namespace attn::cuda

// The entry points of the fake driver.
#include "tests/fake_cuda/image.h"
#include "tests/fake_cuda/state.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

using namespace attn::cuda;

namespace fake_cuda {
namespace {

/// What the device of the current context may have at most.
int attribute_of(int device, CUdevice_attribute attribute)
{
    const std::lock_guard lock(state().mutex);
    return state().devices[device].attributes[attribute];
}

/// The current context, or NULL after a violation.
Context *require_context(const char *call)
{
    Context *context = current();
    if (!context) violate("%s without a current context", call);
    if (context && !context->alive.load(std::memory_order_relaxed)) {
        violate("%s in a destroyed context", call);
        return nullptr;
    }
    return context;
}

bool check_function(const char *call, const Function *function)
{
    if (!function->module->alive.load(std::memory_order_relaxed)) {
        violate("%s of %s, whose module was unloaded", call, function->name.c_str());
        return false;
    }
    if (function->module->context != current()) {
        violate("%s of %s in another context than that of its module", call, function->name.c_str());
        return false;
    }
    return true;
}

bool is_default(CUstream stream)
{
    const auto value = reinterpret_cast<uintptr_t>(stream);
    return value == 0 || value == CU_STREAM_LEGACY || value == CU_STREAM_PER_THREAD;
}

/// NULL after a violation.
Stream *check_stream(const char *call, CUstream handle)
{
    auto *stream = reinterpret_cast<Stream *>(handle);
    if (stream->alive.load(std::memory_order_relaxed)) return stream;
    violate("%s on a destroyed stream", call);
    return nullptr;
}

// Versions and errors.

CUresult init(unsigned int flags)
{
    if (const CUresult result = begin(Entry::init)) return result;
    if (flags) return CUDA_ERROR_INVALID_VALUE;
    if (state().device_count == 0) return CUDA_ERROR_NO_DEVICE;
    state().process = getpid();
    return CUDA_SUCCESS;
}

CUresult driver_get_version(int *version)
{
    if (const CUresult result = begin(Entry::driver_get_version)) return result;
    *version = state().version;
    return CUDA_SUCCESS;
}

struct ErrorText {
    CUresult result;
    const char *name, *text;
};
constexpr ErrorText kErrors[] = {{CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
                                 {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
                                 {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
                                 {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
                                 {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "invalid kernel image"},
                                 {CUDA_ERROR_INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "PTX could not be compiled"},
                                 {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
                                 {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "illegal memory access"},
                                 {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "launch failure"},
                                 {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"}};

const ErrorText *find_error(CUresult error)
{
    for (const ErrorText &known : kErrors)
        if (known.result == error) return &known;
    return nullptr;
}

CUresult get_error_name(CUresult error, const char **text)
{
    if (const CUresult result = begin(Entry::get_error_name)) return result;
    const ErrorText *known = find_error(error);
    *text = known ? known->name : nullptr;
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult get_error_string(CUresult error, const char **text)
{
    if (const CUresult result = begin(Entry::get_error_string)) return result;
    const ErrorText *known = find_error(error);
    *text = known ? known->text : nullptr;
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// Devices.

bool is_device(CUdevice device)
{
    return device >= 0 && device < state().device_count;
}

CUresult device_get_count(int *count)
{
    if (const CUresult result = begin(Entry::device_get_count)) return result;
    *count = state().device_count;
    return CUDA_SUCCESS;
}

CUresult device_get(CUdevice *device, int ordinal)
{
    if (const CUresult result = begin(Entry::device_get)) return result;
    if (!is_device(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUresult device_get_name(char *name, int capacity, CUdevice device)
{
    if (const CUresult result = begin(Entry::device_get_name)) return result;
    if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard lock(state().mutex);
    snprintf(name, static_cast<size_t>(capacity), "%s", state().devices[device].name.c_str());
    return CUDA_SUCCESS;
}

CUresult device_get_attribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    if (const CUresult result = begin(Entry::device_get_attribute)) return result;
    if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
    *value = attribute_of(device, attribute);
    return CUDA_SUCCESS;
}

CUresult device_total_mem(size_t *bytes, CUdevice device)
{
    if (const CUresult result = begin(Entry::device_total_mem)) return result;
    if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard lock(state().mutex);
    *bytes = state().devices[device].bytes;
    return CUDA_SUCCESS;
}

// Contexts.

CUresult primary_retain(CUcontext *context, CUdevice device)
{
    if (const CUresult result = begin_unsafe(Entry::primary_retain)) return result;
    if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
    Context &primary = state().primary[device];
    const std::lock_guard lock(state().primary_mutex);
    ++primary.retained;
    primary.alive = true;
    *context = reinterpret_cast<CUcontext>(&primary);
    return CUDA_SUCCESS;
}

CUresult primary_release(CUdevice device)
{
    const CUresult result = begin_unsafe(Entry::primary_release);
    Context &primary = state().primary.at(device);
    const std::lock_guard lock(state().primary_mutex);
    if (primary.retained == 0) {
        violate("cuDevicePrimaryCtxRelease of a context that is not retained");
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (--primary.retained == 0) {
        if ((primary.modules || primary.allocations || primary.streams) && !state().was_shut_out)
            violate("the primary context ends with %ld modules, %ld allocations, %ld streams",
                    static_cast<long>(primary.modules), static_cast<long>(primary.allocations),
                    static_cast<long>(primary.streams));
        end_context(&primary);
    }
    return result;
}

CUresult ctx_push(CUcontext handle)
{
    if (const CUresult result = begin(Entry::ctx_push)) {
        state().was_shut_out = true;
        return result;
    }
    auto *context = reinterpret_cast<Context *>(handle);
    if (!context->alive.load(std::memory_order_relaxed)) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    this_thread().stack.push_back(context);
    state().pushed.fetch_add(1, std::memory_order_relaxed);
    return CUDA_SUCCESS;
}

CUresult ctx_pop(CUcontext *context)
{
    const CUresult result = begin(Entry::ctx_pop);
    auto &stack = this_thread().stack;
    if (stack.empty()) {
        violate("cuCtxPopCurrent of an empty stack");
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (context) *context = reinterpret_cast<CUcontext>(stack.back());
    stack.pop_back();
    state().pushed.fetch_sub(1, std::memory_order_relaxed);
    return result;
}

CUresult ctx_get_current(CUcontext *context)
{
    if (const CUresult result = begin(Entry::ctx_get_current)) return result;
    *context = reinterpret_cast<CUcontext>(current());
    return CUDA_SUCCESS;
}

CUresult ctx_get_device(CUdevice *device)
{
    if (const CUresult result = begin(Entry::ctx_get_device)) return result;
    const Context *context = require_context("cuCtxGetDevice");
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    *device = context->device;
    return CUDA_SUCCESS;
}

CUresult ctx_get_dev_resource(CUcontext handle, CUdevResource *resource, CUdevResourceType type)
{
    if (const CUresult result = begin(Entry::ctx_get_dev_resource)) return result;
    if (type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
    const auto *context = reinterpret_cast<Context *>(handle);
    *resource = {};
    resource->type = type;
    resource->sm.smCount = static_cast<unsigned int>(
        context->units ? context->units : attribute_of(context->device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT));
    return CUDA_SUCCESS;
}

// Streams.

CUresult stream_create(CUstream *stream, unsigned int flags)
{
    if (const CUresult result = begin_unsafe(Entry::stream_create)) return result;
    Context *context = require_context("cuStreamCreate");
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (flags != CU_STREAM_NON_BLOCKING) violate("cuStreamCreate of a stream that waits for the default stream");
    auto *made = static_cast<Stream *>(fake_cuda_create_stream(context));
    made->of_backend = true;
    ++context->streams;
    *stream = reinterpret_cast<CUstream>(made);
    return CUDA_SUCCESS;
}

CUresult stream_destroy(CUstream handle)
{
    const CUresult result = begin_unsafe(Entry::stream_destroy);
    Stream *stream = check_stream("cuStreamDestroy", handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!stream->of_backend) violate("cuStreamDestroy of a stream of the caller");
    stream->alive = false;
    --stream->context->streams;
    return result;
}

CUresult stream_synchronize(CUstream handle)
{
    if (const CUresult result = begin_unsafe(Entry::stream_synchronize)) return result;
    if (is_default(handle))
        violate("cuStreamSynchronize of a default stream");
    else if (!check_stream("cuStreamSynchronize", handle))
        return CUDA_ERROR_INVALID_HANDLE;
    return CUDA_SUCCESS;
}

CUresult stream_get_ctx(CUstream handle, CUcontext *context)
{
    if (const CUresult result = begin(Entry::stream_get_ctx)) return result;
    if (is_default(handle)) {
        *context = reinterpret_cast<CUcontext>(require_context("cuStreamGetCtx"));
        return *context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
    }
    const Stream *stream = check_stream("cuStreamGetCtx", handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    *context = reinterpret_cast<CUcontext>(stream->context);
    return CUDA_SUCCESS;
}

CUresult exchange_capture_mode(CUstreamCaptureMode *mode)
{
    if (const CUresult result = begin(Entry::exchange_capture_mode)) return result;
    if (*mode < CU_STREAM_CAPTURE_MODE_GLOBAL || *mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    std::swap(this_thread().mode, *mode);
    return CUDA_SUCCESS;
}

// Modules and functions.

CUresult module_load(CUmodule *out, const void *image, unsigned int count, CUjit_option *options, void **values)
{
    char *log = nullptr;
    size_t capacity = 0;
    for (unsigned int i = 0; i < count; ++i) {
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER) log = static_cast<char *>(values[i]);
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) capacity = reinterpret_cast<size_t>(values[i]);
    }
    const auto say = [&](const char *text) {
        if (log && capacity) snprintf(log, capacity, "%s", text);
    };
    if (const CUresult result = begin_unsafe(Entry::module_load)) {
        say("fake: asked to fail");
        return result;
    }
    Context *context = require_context("cuModuleLoadDataEx");
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    auto module = std::make_unique<Module>();
    module->context = context;
    if (!read_image(image, &module->image, &module->is_ptx)) {
        say("fake: neither ELF nor PTX");
        return CUDA_ERROR_INVALID_IMAGE;
    }
    ++context->modules;
    const std::lock_guard lock(state().mutex);
    *out = reinterpret_cast<CUmodule>(module.get());
    state().modules.push_back(std::move(module));
    return CUDA_SUCCESS;
}

CUresult module_unload(CUmodule handle)
{
    const CUresult result = begin_unsafe(Entry::module_unload);
    auto *module = reinterpret_cast<Module *>(handle);
    if (module->context != current()) violate("cuModuleUnload in another context than that of the module");
    if (!module->alive.exchange(false)) {
        violate("cuModuleUnload of a module that was unloaded");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    --module->context->modules;
    return result;
}

CUresult module_get_function(CUfunction *out, CUmodule handle, const char *name)
{
    if (const CUresult result = begin(Entry::module_get_function)) return result;
    auto *module = reinterpret_cast<Module *>(handle);
    if (!module->alive) {
        violate("cuModuleGetFunction of an unloaded module");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    auto function = std::make_unique<Function>();
    function->name = name;
    function->module = module;
    if (!find_kernel(module->image, module->is_ptx, name, &function->parameters)) return CUDA_ERROR_NOT_FOUND;
    const std::lock_guard lock(state().mutex);
    *out = reinterpret_cast<CUfunction>(function.get());
    module->functions.push_back(std::move(function));
    return CUDA_SUCCESS;
}

CUresult func_load(CUfunction handle)
{
    if (const CUresult result = begin_unsafe(Entry::func_load)) return result;
    auto *function = reinterpret_cast<Function *>(handle);
    if (!check_function("cuFuncLoad", function)) return CUDA_ERROR_INVALID_HANDLE;
    function->loaded.store(true, std::memory_order_relaxed);
    return CUDA_SUCCESS;
}

CUresult func_get_attribute(int *value, CUfunction_attribute attribute, CUfunction handle)
{
    if (const CUresult result = begin_unsafe(Entry::func_get_attribute)) return result;
    auto *function = reinterpret_cast<Function *>(handle);
    if (!check_function("cuFuncGetAttribute", function)) return CUDA_ERROR_INVALID_HANDLE;
    function->loaded.store(true, std::memory_order_relaxed);
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
        *value = 64;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
        *value = 0;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *value = 1024;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        *value = function->shared_limit;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult func_set_attribute(CUfunction handle, CUfunction_attribute attribute, int value)
{
    if (const CUresult result = begin(Entry::func_set_attribute)) return result;
    auto *function = reinterpret_cast<Function *>(handle);
    if (!check_function("cuFuncSetAttribute", function)) return CUDA_ERROR_INVALID_HANDLE;
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        if (value < 0 || value > attribute_of(function->module->context->device,
                                              CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN))
            return CUDA_ERROR_INVALID_VALUE;
        function->shared_limit = value;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
        return value >= -1 && value <= 100 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult occupancy(int *blocks, CUfunction handle, int threads, size_t shared_bytes)
{
    if (const CUresult result = begin(Entry::occupancy)) return result;
    auto *function = reinterpret_cast<Function *>(handle);
    if (!check_function("cuOccupancyMaxActiveBlocksPerMultiprocessor", function)) return CUDA_ERROR_INVALID_HANDLE;
    if (threads < 1) return CUDA_ERROR_INVALID_VALUE;
    constexpr int kRegisters = 64 << 10, kThreads = 2048, kReserved = 1024;
    const int shared =
        attribute_of(function->module->context->device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
    *blocks = std::min({kThreads / threads, kRegisters / (64 * threads), 32,
                        static_cast<int>(shared / (static_cast<int64_t>(shared_bytes) + kReserved))});
    if (threads > 1024 || shared_bytes > static_cast<size_t>(function->shared_limit)) *blocks = 0;
    return CUDA_SUCCESS;
}

/// One block on an SM, SMs in groups of 16.
CUresult clusters(int *count, CUfunction handle, const CUlaunchConfig *config)
{
    if (const CUresult result = begin(Entry::clusters)) return result;
    auto *function = reinterpret_cast<Function *>(handle);
    if (!check_function("cuOccupancyMaxActiveClusters", function)) return CUDA_ERROR_INVALID_HANDLE;
    unsigned int blocks = 1;
    for (unsigned int i = 0; i < config->numAttrs; ++i)
        if (config->attrs[i].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) blocks = config->attrs[i].value.clusterDim.x;
    if (blocks < 1 || blocks > 8u) return CUDA_ERROR_INVALID_CLUSTER_SIZE;
    if (config->sharedMemBytes > static_cast<unsigned int>(function->shared_limit)) return CUDA_ERROR_INVALID_VALUE;
    constexpr int kGroup = 16;
    const int units = attribute_of(function->module->context->device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    *count = units / kGroup * (kGroup / static_cast<int>(blocks));
    return CUDA_SUCCESS;
}

CUresult launch(const CUlaunchConfig *config, CUfunction handle, void **parameters, void **extra)
{
    if (const CUresult result = begin(Entry::launch)) return result;
    auto *function = reinterpret_cast<Function *>(handle);
    const char *name = function->name.c_str();
    Context *context = require_context("cuLaunchKernelEx");
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (!check_function("cuLaunchKernelEx", function)) return CUDA_ERROR_INVALID_HANDLE;
    if (!is_default(config->hStream)) {
        const Stream *stream = check_stream("cuLaunchKernelEx", config->hStream);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        if (stream->context != context) {
            violate("cuLaunchKernelEx of %s on a stream of another context", name);
            return CUDA_ERROR_INVALID_HANDLE;
        }
    }
    if (!function->loaded.load(std::memory_order_relaxed)) violate("cuLaunchKernelEx of %s, which must load it", name);
    if (extra || (function->parameters > 0 && !parameters)) violate("cuLaunchKernelEx of %s: parameters", name);
    // Every address is that of a parameter; sanitizers notice one that is not.
    volatile char read = 0;
    for (int i = 0; parameters && i < function->parameters; ++i)
        read = *static_cast<const volatile char *>(parameters[i]);
    static_cast<void>(read);
    const uint64_t threads = uint64_t{config->blockDimX} * config->blockDimY * config->blockDimZ;
    const uint64_t blocks = uint64_t{config->gridDimX} * config->gridDimY * config->gridDimZ;
    if (threads < 1 || threads > 1024 || blocks < 1 || config->gridDimX > 0x7fffffffu || config->gridDimY > 65535 ||
        config->gridDimZ > 65535 ||
        config->sharedMemBytes > static_cast<unsigned int>(function->shared_limit.load(std::memory_order_relaxed))) {
        violate("cuLaunchKernelEx of %s: grid %u %u %u, block %u %u %u, %u bytes of shared memory", name,
                config->gridDimX, config->gridDimY, config->gridDimZ, config->blockDimX, config->blockDimY,
                config->blockDimZ, config->sharedMemBytes);
        return CUDA_ERROR_INVALID_VALUE;
    }
    unsigned int cluster = 0;
    bool programmatic = false, balanced = false;
    for (unsigned int i = 0; i < config->numAttrs; ++i) {
        const CUlaunchAttribute &attribute = config->attrs[i];
        if (attribute.id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
            const auto &size = attribute.value.clusterDim;
            cluster = size.x;
            if (size.x < 1 || size.y != 1 || size.z != 1 || size.x > 8u || config->gridDimX % size.x != 0) {
                violate("cuLaunchKernelEx of %s: a cluster of %u %u %u in a grid of %u", name, size.x, size.y, size.z,
                        config->gridDimX);
                return CUDA_ERROR_INVALID_VALUE;
            }
        } else if (attribute.id == CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE) {
            const auto policy = attribute.value.clusterSchedulingPolicyPreference;
            balanced = policy == CU_CLUSTER_SCHEDULING_POLICY_LOAD_BALANCING;
            if (!balanced) violate("cuLaunchKernelEx of %s: policy %d", name, static_cast<int>(policy));
        } else if (attribute.id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION) {
            programmatic = attribute.value.programmaticStreamSerializationAllowed != 0;
        } else {
            violate("cuLaunchKernelEx of %s: attribute %d", name, static_cast<int>(attribute.id));
        }
    }
    fake_cuda_launch record = {{},
                               {config->gridDimX, config->gridDimY, config->gridDimZ},
                               {config->blockDimX, config->blockDimY, config->blockDimZ},
                               config->sharedMemBytes,
                               function->parameters,
                               config->hStream,
                               context,
                               cluster,
                               programmatic,
                               balanced};
    snprintf(record.kernel, sizeof record.kernel, "%s", name);
    if (state().has_failed.load(std::memory_order_relaxed))
        state().launches_after_failure.fetch_add(1, std::memory_order_relaxed);
    this_thread().launches.push_back(record);
    return CUDA_SUCCESS;
}

// Memory.

CUresult mem_alloc(CUdeviceptr *address, size_t bytes)
{
    if (const CUresult result = begin_unsafe(Entry::mem_alloc)) return result;
    Context *context = require_context("cuMemAlloc");
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    constexpr size_t kAlignment = 256;
    void *memory = aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
    if (!memory) return CUDA_ERROR_OUT_OF_MEMORY;
    memset(memory, 0xa5, bytes);
    ++context->allocations;
    const std::lock_guard lock(state().mutex);
    state().allocations[memory] = {context, bytes};
    *address = reinterpret_cast<CUdeviceptr>(memory);
    return CUDA_SUCCESS;
}

CUresult mem_free(CUdeviceptr address)
{
    const CUresult result = begin_unsafe(Entry::mem_free);
    if (!require_context("cuMemFree")) return CUDA_ERROR_INVALID_CONTEXT;
    auto *memory = reinterpret_cast<void *>(address);
    Context *owner = nullptr;
    {
        const std::lock_guard lock(state().mutex);
        const auto found = state().allocations.find(memory);
        if (found != state().allocations.end()) {
            owner = found->second.context;
            state().allocations.erase(found);
        }
    }
    if (!owner) {
        violate("cuMemFree of %p, which is not allocated", memory);
        return CUDA_ERROR_INVALID_VALUE;
    }
    --owner->allocations;
    free(memory);
    return result;
}

CUresult memcpy_htod_async(CUdeviceptr to, const void *from, size_t bytes, CUstream handle)
{
    if (const CUresult result = begin(Entry::memcpy_htod_async)) return result;
    if (is_default(handle)) {
        violate("cuMemcpyHtoDAsync on a default stream");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    const Stream *stream = check_stream("cuMemcpyHtoDAsync", handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!stream->of_backend) violate("cuMemcpyHtoDAsync on a stream of the caller");
    auto *target = reinterpret_cast<void *>(to);
    memcpy(target, from, bytes);
    return CUDA_SUCCESS;
}

/// Recorded as a launch, of as many threads as there are words. Nothing is written: workspaces may be mere addresses.
CUresult memset_async(CUdeviceptr to, unsigned int value, size_t count, CUstream handle)
{
    if (const CUresult result = begin(Entry::memset_async)) return result;
    Context *context = require_context("cuMemsetD32Async");
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (!is_default(handle)) {
        const Stream *stream = check_stream("cuMemsetD32Async", handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        if (stream->context != context) {
            violate("cuMemsetD32Async on a stream of another context");
            return CUDA_ERROR_INVALID_HANDLE;
        }
    }
    if (to == 0 || to % 4 != 0 || count < 1 || value != 0) {
        violate("cuMemsetD32Async of %zu words %u at %p", count, value, reinterpret_cast<void *>(to));
        return CUDA_ERROR_INVALID_VALUE;
    }
    fake_cuda_launch record = {"cuMemsetD32Async",
                               {1, 1, 1},
                               {static_cast<unsigned int>(count), 1, 1},
                               0,
                               0,
                               handle,
                               context,
                               0,
                               false,
                               false};
    if (state().has_failed.load(std::memory_order_relaxed))
        state().launches_after_failure.fetch_add(1, std::memory_order_relaxed);
    this_thread().launches.push_back(record);
    return CUDA_SUCCESS;
}

int64_t element_bytes(CUtensorMapDataType type)
{
    return type == CU_TENSOR_MAP_DATA_TYPE_UINT8 ? 1 : type == CU_TENSOR_MAP_DATA_TYPE_FLOAT32 ? 4 : 2;
}

/// What the driver's documentation asks for; the text says what is wrong.
const char *check_tensor(const CUtensorMap *map, CUtensorMapDataType type, uint32_t rank, const void *address,
                         const uint64_t *extents, const uint64_t *strides, const uint32_t *box,
                         const uint32_t *element_strides, CUtensorMapSwizzle swizzle)
{
    constexpr uint64_t kMostExtent = uint64_t{1} << 32, kMostStride = uint64_t{1} << 40;
    if (reinterpret_cast<uintptr_t>(map) % 64 != 0) return "the map must be aligned to 64 bytes";
    if (rank < 1 || rank > 5) return "the rank must be 1 to 5";
    if (!address || reinterpret_cast<uintptr_t>(address) % 16 != 0) return "the address must be a multiple of 16";
    for (uint32_t i = 0; i < rank; ++i) {
        if (extents[i] < 1 || extents[i] > kMostExtent) return "extents must be 1 to 2^32";
        if (box[i] < 1 || box[i] > 256) return "a box has 1 to 256 places along each axis";
        if (element_strides[i] < 1 || element_strides[i] > 8) return "strides of elements must be 1 to 8";
        if (i + 1 < rank && (strides[i] % 16 != 0 || strides[i] >= kMostStride))
            return "strides must be multiples of 16 below 2^40";
    }
    const int64_t inner = box[0] * element_bytes(type);
    if (inner % 16 != 0) return "the innermost axis of a box must be a multiple of 16 bytes";
    constexpr int64_t kSpans[] = {INT64_MAX, 32, 64, 128}; // by CUtensorMapSwizzle
    if (inner > kSpans[swizzle]) return "the innermost axis of a box must not be longer than the swizzle";
    return nullptr;
}

CUresult tensor_map_encode_tiled(CUtensorMap *map, CUtensorMapDataType type, uint32_t rank, void *address,
                                 const uint64_t *extents, const uint64_t *strides, const uint32_t *box,
                                 const uint32_t *element_strides, CUtensorMapInterleave interleave,
                                 CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill)
{
    if (const CUresult result = begin(Entry::tensor_map_encode_tiled)) return result;
    const char *fault = check_tensor(map, type, rank, address, extents, strides, box, element_strides, swizzle);
    if (!fault && (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE))
        fault = "no interleaving, and zeros beyond the tensor, is what kernels count on";
    if (fault) {
        violate("cuTensorMapEncodeTiled: %s", fault);
        return CUDA_ERROR_INVALID_VALUE;
    }
    memset(map, 0, sizeof *map);
    map->opaque[0] = reinterpret_cast<uint64_t>(address);
    map->opaque[1] = static_cast<uint64_t>(type) << 32 | rank;
    fake_cuda_tensor_map record = {type, static_cast<int>(rank), swizzle, address, {}, {}, {}};
    std::copy_n(extents, rank, record.extents);
    std::copy_n(strides, rank - 1, record.strides);
    std::copy_n(box, rank, record.box);
    Thread &thread = this_thread();
    thread.maps[static_cast<size_t>(thread.map_count++) % thread.maps.size()] = record;
    return CUDA_SUCCESS;
}

template <class Function>
constexpr EntryInfo entry(const char *name, int first, int last, Function *function)
{
    return {name, first, last, reinterpret_cast<void *>(function)};
}

constexpr int kNow = 1 << 30; ///< No later version changed the signature.

} // namespace

const std::array<EntryInfo, kEntryCount> kEntries = {
    entry("cuInit", 2000, kNow, init),
    entry("cuDriverGetVersion", 2020, kNow, driver_get_version),
    entry("cuGetErrorName", 6000, kNow, get_error_name),
    entry("cuGetErrorString", 6000, kNow, get_error_string),
    entry("cuDeviceGetCount", 2000, kNow, device_get_count),
    entry("cuDeviceGet", 2000, kNow, device_get),
    entry("cuDeviceGetName", 2000, kNow, device_get_name),
    entry("cuDeviceGetAttribute", 2000, kNow, device_get_attribute),
    entry("cuDeviceTotalMem", 3020, kNow, device_total_mem),
    entry("cuDevicePrimaryCtxRetain", 7000, kNow, primary_retain),
    entry("cuDevicePrimaryCtxRelease", 11000, kNow, primary_release),
    entry("cuCtxPushCurrent", 4000, kNow, ctx_push),
    entry("cuCtxPopCurrent", 4000, kNow, ctx_pop),
    entry("cuCtxGetCurrent", 4000, kNow, ctx_get_current),
    entry("cuCtxGetDevice", 2000, 12999, ctx_get_device),
    entry("cuCtxGetDevResource", 12040, kNow, ctx_get_dev_resource),
    entry("cuStreamCreate", 2000, kNow, stream_create),
    entry("cuStreamDestroy", 4000, kNow, stream_destroy),
    entry("cuStreamSynchronize", 2000, kNow, stream_synchronize),
    entry("cuStreamGetCtx", 9020, 12049, stream_get_ctx),
    entry("cuThreadExchangeStreamCaptureMode", 10010, kNow, exchange_capture_mode),
    entry("cuModuleLoadDataEx", 2010, kNow, module_load),
    entry("cuModuleUnload", 2000, kNow, module_unload),
    entry("cuModuleGetFunction", 2000, kNow, module_get_function),
    entry("cuFuncLoad", 12040, kNow, func_load),
    entry("cuFuncGetAttribute", 2020, kNow, func_get_attribute),
    entry("cuFuncSetAttribute", 9000, kNow, func_set_attribute),
    entry("cuOccupancyMaxActiveBlocksPerMultiprocessor", 6050, kNow, occupancy),
    entry("cuOccupancyMaxActiveClusters", 11070, kNow, clusters),
    entry("cuLaunchKernelEx", 11060, kNow, launch),
    entry("cuMemAlloc", 3020, kNow, mem_alloc),
    entry("cuMemFree", 3020, kNow, mem_free),
    entry("cuMemcpyHtoDAsync", 3020, kNow, memcpy_htod_async),
    entry("cuMemsetD32Async", 3020, kNow, memset_async),
    entry("cuTensorMapEncodeTiled", 12000, kNow, tensor_map_encode_tiled),
};

} // namespace fake_cuda

extern "C" FAKE_CUDA_API CUresult cuGetProcAddress_v2(const char *symbol, void **address, int version, uint64_t flags,
                                                      CUdriverProcAddressQueryResult *status)
{
    using namespace fake_cuda;
    const int i = find_entry(symbol);
    *address = nullptr;
    *status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    if (i < 0 || state().hidden[i]) return CUDA_ERROR_NOT_FOUND;
    if (flags != CU_GET_PROC_ADDRESS_LEGACY_STREAM) violate("cuGetProcAddress of %s: flags", symbol);
    const EntryInfo &found = kEntries[i];
    if (version > found.last) violate("cuGetProcAddress of %s as of %d: has another signature", symbol, version);
    if (version < found.first || found.first > state().version) {
        *status = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
        return CUDA_ERROR_NOT_FOUND;
    }
    *address = found.address;
    *status = CU_GET_PROC_ADDRESS_SUCCESS;
    return CUDA_SUCCESS;
}

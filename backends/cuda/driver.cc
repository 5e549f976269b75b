// Finds the driver and its entry points; words its errors.
#include "backends/cuda/driver.h"

#include <cstdlib>
#include <dlfcn.h>
#include <mutex>
#include <unistd.h>

namespace attn::cuda {
namespace {

constexpr const char *kLibrary = "libcuda.so.1";
constexpr const char *kVariable = "ATTN_CUDA_DRIVER";

/// The one driver of the process. It has no destructor: threads may use it while the process ends.
struct Process {
    std::mutex mutex;
    void *library = nullptr;
    bool ready = false;
    pid_t initialiser = 0; ///< The driver works in the process that initialised it, not in its forked children.
    Driver driver;
};
constinit Process process;

using GetProcAddress = CUresult (*)(const char *symbol, void **address, int version, uint64_t flags,
                                    CUdriverProcAddressQueryResult *status);

/// Looks entry points up; remembers the first that is missing.
struct Search {
    GetProcAddress get;
    const char *missing = nullptr;
    int missing_version = 0;

    /// `version` is that in which the function got the signature used here; the driver answers with that one.
    template <class Function>
    void optional(const char *name, int version, Function **function)
    {
        void *address = nullptr;
        CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SUCCESS;
        const CUresult result = get(name, &address, version, CU_GET_PROC_ADDRESS_LEGACY_STREAM, &status);
        if (result != CUDA_SUCCESS || status != CU_GET_PROC_ADDRESS_SUCCESS) address = nullptr;
        *function = reinterpret_cast<Function *>(address);
    }
    template <class Function>
    void required(const char *name, int version, Function **function)
    {
        optional(name, version, function);
        if (!*function && !missing) missing = name, missing_version = version;
    }
};

attn_status open_library(void **out)
{
    const char *named = secure_getenv(kVariable);
    if (named && *named && *named != '/')
        return fail(ATTN_ERROR_NO_DEVICE, "%s = %s: must be an absolute path", kVariable, named);
    const bool has_name = named && *named;
    *out = dlopen(has_name ? named : kLibrary, RTLD_NOW | RTLD_LOCAL);
    if (*out) return ATTN_OK;
    const char *reason = dlerror();
    return fail(ATTN_ERROR_NO_DEVICE, "no CUDA driver: looked for %s%s%s: %s", has_name ? kVariable : kLibrary,
                has_name ? " = " : "", has_name ? named : "", reason ? reason : "unknown error");
}

attn_status fail_version(int version)
{
    return fail(ATTN_ERROR_NO_DEVICE, "the CUDA driver is of version %d.%d: must be %d.%d or newer", version / 1000,
                version % 1000 / 10, kOldestDriver / 1000, kOldestDriver % 1000 / 10);
}

attn_status status_of(CUresult result)
{
    switch (result) {
    case CUDA_ERROR_OUT_OF_MEMORY:
        return ATTN_ERROR_MEMORY;
    case CUDA_ERROR_STUB_LIBRARY:
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_INVALID_DEVICE:
    case CUDA_ERROR_DEVICE_NOT_LICENSED:
    case CUDA_ERROR_SYSTEM_NOT_READY:
    case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
    case CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE:
        return ATTN_ERROR_NO_DEVICE;
    case CUDA_ERROR_INVALID_IMAGE:
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
    case CUDA_ERROR_INVALID_PTX:
    case CUDA_ERROR_JIT_COMPILER_NOT_FOUND:
    case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
    case CUDA_ERROR_JIT_COMPILATION_DISABLED:
    case CUDA_ERROR_INVALID_SOURCE:
        return ATTN_ERROR_COMPILE;
    default:
        return ATTN_ERROR_RUNTIME;
    }
}

/// Whether the error stays: every later call of the process fails too.
bool is_sticky(CUresult result)
{
    switch (result) {
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
        return true;
    default:
        return false;
    }
}

/// Words the failure of a call.
attn_status fail_with(const Driver &driver, attn_status status, const char *call, CUresult result, const char *detail)
{
    const char *name = nullptr, *text = nullptr;
    if (driver.cuGetErrorName(result, &name) != CUDA_SUCCESS || !name) name = "unknown error";
    if (driver.cuGetErrorString(result, &text) != CUDA_SUCCESS || !text) text = "the driver has no text for it";
    return fail(status, "%s: %s (%d): %s%s%s%s", call, name, static_cast<int>(result), text,
                is_sticky(result) ? "; work failed on the device, and this process cannot use the device any more" : "",
                *detail ? ": " : "", detail);
}

/// While the driver is opened: whatever fails but memory, the driver is unusable.
attn_status fail_opening(const Driver &driver, const char *call, CUresult result)
{
    const attn_status status = status_of(result);
    return fail_with(driver, status == ATTN_ERROR_MEMORY ? status : ATTN_ERROR_NO_DEVICE, call, result, "");
}

attn_status find_entry_points(void *library, Driver *driver)
{
    // Exported since CUDA 12.0.
    const auto get = reinterpret_cast<GetProcAddress>(dlsym(library, "cuGetProcAddress_v2"));
    if (!get)
        return fail(ATTN_ERROR_NO_DEVICE,
                    "the CUDA driver has no function cuGetProcAddress_v2: it must be of version %d.%d or newer",
                    kOldestDriver / 1000, kOldestDriver % 1000 / 10);
    Search search{get};
    search.required("cuDriverGetVersion", 2020, &driver->cuDriverGetVersion);
    search.required("cuGetErrorName", 6000, &driver->cuGetErrorName);
    search.required("cuGetErrorString", 6000, &driver->cuGetErrorString);
    if (!search.missing) {
        if (const CUresult result = driver->cuDriverGetVersion(&driver->version))
            return fail_opening(*driver, "cuDriverGetVersion", result);
        if (driver->version < kOldestDriver) return fail_version(driver->version);
    }
    search.required("cuInit", 2000, &driver->cuInit);
    search.required("cuDeviceGetCount", 2000, &driver->cuDeviceGetCount);
    search.required("cuDeviceGet", 2000, &driver->cuDeviceGet);
    search.required("cuDeviceGetName", 2000, &driver->cuDeviceGetName);
    search.required("cuDeviceGetAttribute", 2000, &driver->cuDeviceGetAttribute);
    search.required("cuDeviceTotalMem", 3020, &driver->cuDeviceTotalMem);
    search.required("cuDevicePrimaryCtxRetain", 7000, &driver->cuDevicePrimaryCtxRetain);
    search.required("cuDevicePrimaryCtxRelease", 11000, &driver->cuDevicePrimaryCtxRelease);
    search.required("cuCtxPushCurrent", 4000, &driver->cuCtxPushCurrent);
    search.required("cuCtxPopCurrent", 4000, &driver->cuCtxPopCurrent);
    search.required("cuCtxGetCurrent", 4000, &driver->cuCtxGetCurrent);
    search.required("cuCtxGetDevice", 2000, &driver->cuCtxGetDevice);
    search.optional("cuCtxGetDevResource", 12040, &driver->cuCtxGetDevResource);
    search.required("cuStreamCreate", 2000, &driver->cuStreamCreate);
    search.required("cuStreamDestroy", 4000, &driver->cuStreamDestroy);
    search.required("cuStreamSynchronize", 2000, &driver->cuStreamSynchronize);
    search.required("cuStreamGetCtx", 9020, &driver->cuStreamGetCtx);
    search.required("cuThreadExchangeStreamCaptureMode", 10010, &driver->cuThreadExchangeStreamCaptureMode);
    search.required("cuModuleLoadDataEx", 2010, &driver->cuModuleLoadDataEx);
    search.required("cuModuleUnload", 2000, &driver->cuModuleUnload);
    search.required("cuModuleGetFunction", 2000, &driver->cuModuleGetFunction);
    search.optional("cuFuncLoad", 12040, &driver->cuFuncLoad);
    search.required("cuFuncGetAttribute", 2020, &driver->cuFuncGetAttribute);
    search.required("cuFuncSetAttribute", 9000, &driver->cuFuncSetAttribute);
    search.required("cuOccupancyMaxActiveBlocksPerMultiprocessor", 6050,
                    &driver->cuOccupancyMaxActiveBlocksPerMultiprocessor);
    search.required("cuOccupancyMaxActiveClusters", 11070, &driver->cuOccupancyMaxActiveClusters);
    search.required("cuLaunchKernelEx", 11060, &driver->cuLaunchKernelEx);
    search.required("cuMemAlloc", 3020, &driver->cuMemAlloc);
    search.required("cuMemFree", 3020, &driver->cuMemFree);
    search.required("cuMemcpyHtoDAsync", 3020, &driver->cuMemcpyHtoDAsync);
    search.required("cuMemsetD32Async", 3020, &driver->cuMemsetD32Async);
    search.required("cuTensorMapEncodeTiled", 12000, &driver->cuTensorMapEncodeTiled);
    if (!search.missing) return ATTN_OK;
    return fail(ATTN_ERROR_NO_DEVICE, "the CUDA driver lacks the function %s of version %d.%d", search.missing,
                search.missing_version / 1000, search.missing_version % 1000 / 10);
}

} // namespace

attn_status open_driver(const Driver **out)
{
    const std::lock_guard lock(process.mutex);
    if (process.initialiser && process.initialiser != getpid())
        return fail(ATTN_ERROR_FORKED, "the CUDA driver was initialised before fork(): it cannot be used in a child");
    if (!process.ready) {
        if (!process.library)
            if (const attn_status status = open_library(&process.library)) return status;
        Driver driver;
        if (const attn_status status = find_entry_points(process.library, &driver)) return status;
        const CUresult result = driver.cuInit(0);
        if (result != CUDA_SUCCESS && result != CUDA_ERROR_NO_DEVICE) return fail_opening(driver, "cuInit", result);
        driver.has_devices = result == CUDA_SUCCESS;
        process.driver = driver;
        process.initialiser = getpid();
        process.ready = true;
    }
    *out = &process.driver;
    return ATTN_OK;
}

attn_status fail_call(const Driver &driver, const char *call, CUresult result, const char *detail) noexcept
{
    return fail_with(driver, status_of(result), call, result, detail);
}

} // namespace attn::cuda

// The CUDA driver library, found at run time. Nothing here is touched until a CUDA device is asked for by name.
#ifndef ATTN_BACKENDS_CUDA_DRIVER_H
#define ATTN_BACKENDS_CUDA_DRIVER_H

#include "backends/cuda/driver_types.h"
#include "status.h"

namespace attn::cuda {

/// The oldest driver that is used, as the driver counts: the first with all that is asked of it here.
constexpr int kOldestDriver = 12000;

/// The entry points in use, under the driver's names.
struct Driver {
    int version = 0; ///< 13000 for CUDA 13.0.
    bool has_devices = false;

    CUresult (*cuInit)(unsigned int flags) = nullptr;
    CUresult (*cuDriverGetVersion)(int *version) = nullptr;
    CUresult (*cuGetErrorName)(CUresult error, const char **text) = nullptr;
    CUresult (*cuGetErrorString)(CUresult error, const char **text) = nullptr;

    CUresult (*cuDeviceGetCount)(int *count) = nullptr;
    CUresult (*cuDeviceGet)(CUdevice *device, int ordinal) = nullptr;
    CUresult (*cuDeviceGetName)(char *name, int capacity, CUdevice device) = nullptr;
    CUresult (*cuDeviceGetAttribute)(int *value, CUdevice_attribute attribute, CUdevice device) = nullptr;
    CUresult (*cuDeviceTotalMem)(size_t *bytes, CUdevice device) = nullptr;

    CUresult (*cuDevicePrimaryCtxRetain)(CUcontext *context, CUdevice device) = nullptr;
    CUresult (*cuDevicePrimaryCtxRelease)(CUdevice device) = nullptr;
    CUresult (*cuCtxPushCurrent)(CUcontext context) = nullptr;
    CUresult (*cuCtxPopCurrent)(CUcontext *context) = nullptr;
    CUresult (*cuCtxGetCurrent)(CUcontext *context) = nullptr;
    CUresult (*cuCtxGetDevice)(CUdevice *device) = nullptr;
    /// NULL before CUDA 12.4.
    CUresult (*cuCtxGetDevResource)(CUcontext context, CUdevResource *resource, CUdevResourceType type) = nullptr;

    CUresult (*cuStreamCreate)(CUstream *stream, unsigned int flags) = nullptr;
    CUresult (*cuStreamDestroy)(CUstream stream) = nullptr;
    CUresult (*cuStreamSynchronize)(CUstream stream) = nullptr;
    CUresult (*cuStreamGetCtx)(CUstream stream, CUcontext *context) = nullptr;
    CUresult (*cuThreadExchangeStreamCaptureMode)(CUstreamCaptureMode *mode) = nullptr;

    CUresult (*cuModuleLoadDataEx)(CUmodule *module, const void *image, unsigned int count, CUjit_option *options,
                                   void **values) = nullptr;
    CUresult (*cuModuleUnload)(CUmodule module) = nullptr;
    CUresult (*cuModuleGetFunction)(CUfunction *function, CUmodule module, const char *name) = nullptr;
    CUresult (*cuFuncLoad)(CUfunction function) = nullptr; ///< NULL before CUDA 12.4.
    CUresult (*cuFuncGetAttribute)(int *value, CUfunction_attribute attribute, CUfunction function) = nullptr;
    CUresult (*cuFuncSetAttribute)(CUfunction function, CUfunction_attribute attribute, int value) = nullptr;
    CUresult (*cuOccupancyMaxActiveBlocksPerMultiprocessor)(int *blocks, CUfunction function, int threads,
                                                            size_t shared_bytes) = nullptr;
    CUresult (*cuOccupancyMaxActiveClusters)(int *clusters, CUfunction function,
                                             const CUlaunchConfig *config) = nullptr;
    CUresult (*cuLaunchKernelEx)(const CUlaunchConfig *config, CUfunction function, void **parameters,
                                 void **extra) = nullptr;

    CUresult (*cuMemAlloc)(CUdeviceptr *address, size_t bytes) = nullptr;
    CUresult (*cuMemFree)(CUdeviceptr address) = nullptr;
    CUresult (*cuMemcpyHtoDAsync)(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) = nullptr;
    CUresult (*cuMemsetD32Async)(CUdeviceptr to, unsigned int value, size_t count, CUstream stream) = nullptr;

    CUresult (*cuTensorMapEncodeTiled)(CUtensorMap *map, CUtensorMapDataType type, uint32_t rank, void *address,
                                       const uint64_t *extents, const uint64_t *strides, const uint32_t *box,
                                       const uint32_t *element_strides, CUtensorMapInterleave interleave,
                                       CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                       CUtensorMapFloatOOBfill fill) = nullptr;
};

/// Loads the driver and initialises it, once for the process: libcuda.so.1, or the library at the path that
/// ATTN_CUDA_DRIVER holds. It is never closed. Fails with ATTN_ERROR_NO_DEVICE, the message having what was looked for,
/// and with ATTN_ERROR_FORKED in a child of the process that initialised it. A driver without devices is no failure.
[[nodiscard]] attn_status open_driver(const Driver **out);

/// The status and the message of a call that did not succeed: its name, the driver's name and text for the error, and
/// `detail` unless that is empty.
[[nodiscard]] attn_status fail_call(const Driver &driver, const char *call, CUresult result,
                                    const char *detail = "") noexcept;

} // namespace attn::cuda

#endif

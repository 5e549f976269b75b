#include "cuda.h"

#include "tensor.h"

#include <cstdlib>
#include <dlfcn.h>

namespace attn_python::cuda {

namespace {

using Result = int;
using Address = unsigned long long;

/** The few functions of the driver that are used here, by the names that it exports. */
struct Driver {
    Result (*init)(unsigned flags);
    Result (*device_get)(int *device, int ordinal);
    Result (*primary_retain)(void **context, int device);
    Result (*primary_release)(int device);
    Result (*push)(void *context);
    Result (*pop)(void **context);
    Result (*error_name)(Result result, const char **name);
    Result (*error_text)(Result result, const char **text);
    Result (*pointer_attribute)(void *value, int attribute, Address address);
    Result (*event_create)(void **event, unsigned flags);
    Result (*event_record)(void *event, void *stream);
    Result (*event_destroy)(void *event);
    Result (*stream_wait)(void *stream, void *event, unsigned flags);
    Result (*stream_synchronize)(void *stream);
    Result (*alloc_async)(Address *memory, std::size_t bytes, void *stream);
    Result (*free_async)(Address memory, void *stream);
    Result (*copy_to_host)(void *to, Address from, std::size_t bytes, void *stream);
    std::string missing; /* why it cannot be used; empty if it can */
};

Driver open_driver()
{
    Driver driver{};
    const char *named = secure_getenv("ATTN_CUDA_DRIVER");
    const char *path = named && *named ? named : "libcuda.so.1";
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* never closed, as libattn never closes it */
    if (!library) {
        const char *reason = dlerror();
        driver.missing = std::string("no CUDA driver: ") + (reason ? reason : path);
        return driver;
    }
    const auto find = [&](const char *name, auto *function) {
        void *address = dlsym(library, name);
        if (!address) driver.missing = std::string("the CUDA driver lacks ") + name;
        *reinterpret_cast<void **>(function) = address;
    };
    find("cuInit", &driver.init);
    find("cuDeviceGet", &driver.device_get);
    find("cuDevicePrimaryCtxRetain", &driver.primary_retain);
    find("cuDevicePrimaryCtxRelease_v2", &driver.primary_release);
    find("cuCtxPushCurrent_v2", &driver.push);
    find("cuCtxPopCurrent_v2", &driver.pop);
    find("cuGetErrorName", &driver.error_name);
    find("cuGetErrorString", &driver.error_text);
    find("cuPointerGetAttribute", &driver.pointer_attribute);
    find("cuEventCreate", &driver.event_create);
    find("cuEventRecord", &driver.event_record);
    find("cuEventDestroy_v2", &driver.event_destroy);
    find("cuStreamWaitEvent", &driver.stream_wait);
    find("cuStreamSynchronize", &driver.stream_synchronize);
    find("cuMemAllocAsync", &driver.alloc_async);
    find("cuMemFreeAsync", &driver.free_async);
    find("cuMemcpyDtoHAsync_v2", &driver.copy_to_host);
    if (driver.missing.empty() && driver.init(0) != 0) driver.missing = "the CUDA driver could not be initialised";
    return driver;
}

const Driver &driver()
{
    static const Driver one = open_driver();
    if (!one.missing.empty()) raise_error(ATTN_ERROR_NO_DEVICE, one.missing);
    return one;
}

std::string error_text(const char *call, Result result)
{
    const Driver &d = driver();
    const char *name = nullptr, *text = nullptr;
    if (d.error_name(result, &name) != 0 || !name) name = "unknown error";
    if (d.error_text(result, &text) != 0 || !text) text = "the driver has no text for it";
    return std::string(call) + ": " + name + ": " + text;
}

void require(const char *call, Result result)
{
    if (result != 0) raise_error(ATTN_ERROR_RUNTIME, error_text(call, result));
}

void *handle_of(Stream stream)
{
    return reinterpret_cast<void *>(stream);
}

/** The primary context of a device, current while this lives. The handle that computes holds it too. */
class Current {
public:
    explicit Current(int device_id)
    {
        const Driver &d = driver();
        require("cuDeviceGet", d.device_get(&device_, device_id));
        void *context = nullptr;
        require("cuDevicePrimaryCtxRetain", d.primary_retain(&context, device_));
        if (const Result result = d.push(context)) {
            d.primary_release(device_);
            require("cuCtxPushCurrent", result);
        }
    }
    ~Current()
    {
        void *context = nullptr;
        driver().pop(&context);
        driver().primary_release(device_);
    }
    Current(const Current &) = delete;
    Current &operator=(const Current &) = delete;

private:
    int device_ = 0;
};

} // namespace

int device_of(const void *address)
{
    constexpr int kDeviceOrdinal = 9; /* CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL */
    int ordinal = 0;
    require("cuPointerGetAttribute",
            driver().pointer_attribute(&ordinal, kDeviceOrdinal, reinterpret_cast<std::uintptr_t>(address)));
    return ordinal;
}

void order(int device_id, Stream producer, Stream consumer)
{
    constexpr unsigned kDisableTiming = 2; /* CU_EVENT_DISABLE_TIMING */
    const Driver &d = driver();
    const Current current(device_id);
    void *event = nullptr;
    require("cuEventCreate", d.event_create(&event, kDisableTiming));
    Result result = d.event_record(event, handle_of(producer));
    const char *call = "cuEventRecord";
    if (result == 0) result = d.stream_wait(handle_of(consumer), event, 0), call = "cuStreamWaitEvent";
    d.event_destroy(event); /* the driver keeps it until the wait is over */
    require(call, result);
}

void synchronize(int device_id, Stream stream)
{
    const Driver &d = driver();
    const Current current(device_id);
    Result result;
    {
        py::gil_scoped_release release;
        result = d.stream_synchronize(handle_of(stream));
    }
    require("cuStreamSynchronize", result);
}

std::string read(std::uintptr_t address, std::size_t bytes, int device_id, Stream stream)
{
    const Driver &d = driver();
    const Current current(device_id);
    std::string copy(bytes, '\0');
    require("cuMemcpyDtoHAsync", d.copy_to_host(copy.data(), address, bytes, handle_of(stream)));
    Result result;
    {
        py::gil_scoped_release release;
        result = d.stream_synchronize(handle_of(stream));
    }
    require("cuStreamSynchronize", result);
    return copy;
}

Scratch::Scratch(std::size_t bytes, int device_id, Stream stream) : device_id_(device_id), stream_(stream)
{
    const Driver &d = driver();
    const Current current(device_id);
    if (const Result result = d.alloc_async(&memory_, bytes, handle_of(stream)))
        raise_error(ATTN_ERROR_MEMORY, error_text("cuMemAllocAsync", result));
}

Scratch::~Scratch()
{
    try {
        const Current current(device_id_);
        driver().free_async(memory_, handle_of(stream_));
    } catch (py::error_already_set &) { /* the device is lost: nothing is left to free */
    }
}

} // namespace attn_python::cuda

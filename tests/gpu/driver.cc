#include "driver.h"

#include <atomic>
#include <cstdlib>
#include <dlfcn.h>

namespace gpu_test {
namespace {

constexpr int kVersion = 12000; // of the driver's functions as driver.h declares them, but where said

using GetProcAddress = int (*)(const char *, void **, int, std::uint64_t, int *);

std::atomic<bool> lost = false;

class Loader {
public:
    Loader()
    {
        const char *named = std::getenv("ATTN_CUDA_DRIVER");
        const std::string path = named && *named ? named : "libcuda.so.1";
        library_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!library_) throw DriverAbsent(dlerror());
        find_ = reinterpret_cast<GetProcAddress>(dlsym(library_, "cuGetProcAddress_v2"));
        if (!find_) throw DriverAbsent(path + " has no cuGetProcAddress_v2: it is older than CUDA 12");
    }
    // A function that the driver lacks throws where it is called.
    template <class R, class... A>
    void find(const char *name, R (**function)(A...), int version = kVersion) const
    {
        void *address = nullptr;
        if (find_(name, &address, version, 0, nullptr) != 0) address = nullptr;
        *function = address ? reinterpret_cast<R (*)(A...)>(address) : lacking<A...>;
    }

private:
    template <class... A>
    static int lacking(A...)
    {
        throw DriverError(kNotSupported, "the driver lacks a function that the test needs");
    }

    void *library_ = nullptr;
    GetProcAddress find_ = nullptr;
};

Driver load()
{
    const Loader loader;
    Driver d{};
    loader.find("cuInit", &d.init);
    loader.find("cuDriverGetVersion", &d.driver_get_version);
    loader.find("cuGetErrorName", &d.get_error_name);
    loader.find("cuGetErrorString", &d.get_error_string);
    loader.find("cuDeviceGetCount", &d.device_get_count);
    loader.find("cuDeviceGet", &d.device_get);
    loader.find("cuDeviceGetName", &d.device_get_name);
    loader.find("cuDeviceGetAttribute", &d.device_get_attribute);
    loader.find("cuDevicePrimaryCtxRetain", &d.device_primary_ctx_retain);
    loader.find("cuDevicePrimaryCtxRelease", &d.device_primary_ctx_release);
    loader.find("cuCtxCreate", &d.ctx_create, 3020);
    loader.find("cuCtxDestroy", &d.ctx_destroy);
    loader.find("cuCtxPushCurrent", &d.ctx_push_current);
    loader.find("cuCtxPopCurrent", &d.ctx_pop_current);
    loader.find("cuCtxGetCurrent", &d.ctx_get_current);
    loader.find("cuCtxSynchronize", &d.ctx_synchronize);
    loader.find("cuMemGetInfo", &d.mem_get_info);
    loader.find("cuMemAlloc", &d.mem_alloc);
    loader.find("cuMemFree", &d.mem_free);
    loader.find("cuMemcpyHtoD", &d.memcpy_to_device);
    loader.find("cuMemcpyDtoH", &d.memcpy_to_host);
    loader.find("cuMemsetD8", &d.memset_bytes);
    loader.find("cuMemGetAllocationGranularity", &d.mem_get_allocation_granularity);
    loader.find("cuMemAddressReserve", &d.mem_address_reserve);
    loader.find("cuMemAddressFree", &d.mem_address_free);
    loader.find("cuMemCreate", &d.mem_create);
    loader.find("cuMemRelease", &d.mem_release);
    loader.find("cuMemMap", &d.mem_map);
    loader.find("cuMemUnmap", &d.mem_unmap);
    loader.find("cuMemSetAccess", &d.mem_set_access);
    loader.find("cuStreamCreate", &d.stream_create);
    loader.find("cuStreamDestroy", &d.stream_destroy);
    loader.find("cuStreamSynchronize", &d.stream_synchronize);
    loader.find("cuStreamBeginCapture", &d.stream_begin_capture);
    loader.find("cuStreamEndCapture", &d.stream_end_capture);
    loader.find("cuGraphInstantiateWithFlags", &d.graph_instantiate);
    loader.find("cuGraphLaunch", &d.graph_launch);
    loader.find("cuGraphExecUpdate", &d.graph_exec_update);
    loader.find("cuGraphExecDestroy", &d.graph_exec_destroy);
    loader.find("cuGraphDestroy", &d.graph_destroy);
    loader.find("cuGraphGetNodes", &d.graph_get_nodes);
    loader.find("cuGraphNodeGetType", &d.graph_node_get_type);
    loader.find("cuGraphGetEdges", &d.graph_get_edges);
    loader.find("cuModuleLoadData", &d.module_load_data);
    loader.find("cuModuleUnload", &d.module_unload);
    loader.find("cuModuleGetFunction", &d.module_get_function);
    loader.find("cuLaunchKernel", &d.launch_kernel);
    if (const int result = d.init(0)) throw DriverAbsent("cuInit: " + std::to_string(result));
    int count = 0;
    if (d.device_get_count(&count) != 0 || count == 0) throw DriverAbsent("the driver has no device");
    return d;
}

// Errors after which every call of the context fails: of memory, of a kernel that was stopped or went wrong.
bool is_sticky(int result)
{
    return result == 214 || result == kIllegalAddress || result == 702 || result == 709 || result == 710 ||
           (result >= 714 && result <= 719);
}

} // namespace

const Driver &driver()
{
    static const struct Loaded {
        Driver functions{};
        std::string absent;
    } loaded = [] {
        Loaded l;
        try {
            l.functions = load();
        } catch (const DriverAbsent &error) {
            l.absent = error.what();
        }
        return l;
    }();
    if (!loaded.absent.empty()) throw DriverAbsent(loaded.absent);
    return loaded.functions;
}

void check(int result, const char *call)
{
    if (result == 0) return;
    if (is_sticky(result)) lost = true;
    const char *name = nullptr, *text = nullptr;
    driver().get_error_name(result, &name);
    driver().get_error_string(result, &text);
    throw DriverError(result, std::string(call) + ": " + (name ? name : std::to_string(result)) +
                                  (text ? std::string(": ") + text : ""));
}

bool device_is_lost()
{
    return lost;
}

Context primary_context()
{
    static const Context context = [] {
        int device = 0;
        check(driver().device_get(&device, 0), "cuDeviceGet");
        Context c = nullptr;
        check(driver().device_primary_ctx_retain(&c, device), "cuDevicePrimaryCtxRetain");
        return c;
    }();
    return context;
}

ContextScope::ContextScope(Context context)
{
    check(driver().ctx_push_current(context), "cuCtxPushCurrent");
}

ContextScope::~ContextScope()
{
    Context ignored = nullptr;
    driver().ctx_pop_current(&ignored);
}

} // namespace gpu_test

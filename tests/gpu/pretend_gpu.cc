// A GPU made of the CPU, to test the harness without one: preloaded into a test program, and named by ATTN_CUDA_DRIVER,
// it is a driver whose device memory is host memory, and turns handles and calls for a CUDA device into those of the
// CPU backend. It insists that calls bring device memory only, and stops the program if any is left at its end.
//
// PRETEND_GPU_FAULT makes it go wrong, so that a test can see that the harness notices: `nothing` computes nothing;
// `stray` writes beside an output, `input` to an input, `workspace` behind the workspace; `lost` loses the device.
#include <attn/attn.h>

#include "driver.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace {

using gpu_test::Pointer;

constexpr int kInvalid = 1; // CUDA_ERROR_INVALID_VALUE

[[noreturn]] void stop(const char *why)
{
    std::fprintf(stderr, "pretend_gpu: %s\n", why);
    std::_Exit(97);
}

struct Device {
    std::mutex mutex;
    std::map<unsigned char *, std::size_t> allocations;
    int streams = 0, executes = 0;

    ~Device()
    {
        if (!allocations.empty()) stop("device memory is left at the end of the program");
        if (streams != 0) stop("a stream is left at the end of the program");
    }
    // The allocation that holds the address; null if it is no device memory.
    unsigned char *holder(const void *address)
    {
        const std::lock_guard lock(mutex);
        auto *byte = const_cast<unsigned char *>(static_cast<const unsigned char *>(address));
        auto it = allocations.upper_bound(byte);
        if (it == allocations.begin()) return nullptr;
        --it;
        return byte < it->first + it->second ? it->first : nullptr;
    }
    unsigned char &last_byte(const void *address)
    {
        unsigned char *memory = holder(address);
        const std::lock_guard lock(mutex);
        return memory[allocations[memory] - 1];
    }
};

Device &device()
{
    static Device one;
    return one;
}

// A call as it was given to attn_execute(), but for memory of the host.
struct Recorded {
    attn_plan plan;
    std::vector<attn_arg> args;
    std::vector<attn_tensor> views;
    void *workspace;
    std::size_t bytes;
};
using RecordedGraph = std::vector<Recorded>;

thread_local int contexts_current = 0;
thread_local RecordedGraph *capturing = nullptr;

const std::string &fault()
{
    static const std::string name = std::getenv("PRETEND_GPU_FAULT") ? std::getenv("PRETEND_GPU_FAULT") : "";
    return name;
}

void *host(Pointer address)
{
    return reinterpret_cast<void *>(static_cast<std::uintptr_t>(address));
}
void require_context()
{
    if (contexts_current == 0) stop("a call of the driver without a context");
}

int init(unsigned)
{
    return 0;
}
int get_error_name(int, const char **name)
{
    *name = "CUDA_ERROR_PRETENDED";
    return 0;
}
int get_error_string(int, const char **text)
{
    *text = "an error of a GPU that is none";
    return 0;
}
int device_get_count(int *count)
{
    *count = 1;
    return 0;
}
int device_get(int *ordinal, int)
{
    *ordinal = 0;
    return 0;
}
int primary_retain(gpu_test::Context *context, int)
{
    static int primary = 0;
    *context = &primary;
    return 0;
}
int ctx_push(gpu_test::Context)
{
    ++contexts_current;
    return 0;
}
int ctx_pop(gpu_test::Context *)
{
    if (contexts_current-- == 0) stop("a context popped that was never pushed");
    return 0;
}
int ctx_get_current(gpu_test::Context *context)
{
    static int some = 0;
    *context = contexts_current > 0 ? &some : nullptr;
    return 0;
}
int mem_alloc(Pointer *address, std::size_t bytes)
{
    require_context();
    if (bytes == 0) return kInvalid;
    constexpr std::size_t alignment = 512;
    auto *memory =
        static_cast<unsigned char *>(std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment));
    std::memset(memory, 0xee, bytes);
    const std::lock_guard lock(device().mutex);
    device().allocations[memory] = bytes;
    *address = static_cast<Pointer>(reinterpret_cast<std::uintptr_t>(memory));
    return 0;
}
int mem_free(Pointer address)
{
    require_context();
    const std::lock_guard lock(device().mutex);
    if (device().allocations.erase(static_cast<unsigned char *>(host(address))) == 0)
        stop("memory freed that is not allocated");
    std::free(host(address));
    return 0;
}
int to_device(Pointer to, const void *from, std::size_t bytes)
{
    require_context();
    if (!device().holder(host(to))) return kInvalid;
    std::memcpy(host(to), from, bytes);
    return 0;
}
int to_host(void *to, Pointer from, std::size_t bytes)
{
    require_context();
    if (!device().holder(host(from))) return kInvalid;
    std::memcpy(to, host(from), bytes);
    return 0;
}
int stream_create(gpu_test::Stream *stream, unsigned)
{
    require_context();
    const std::lock_guard lock(device().mutex);
    ++device().streams;
    *stream = new int;
    return 0;
}
int stream_destroy(gpu_test::Stream stream)
{
    const std::lock_guard lock(device().mutex);
    --device().streams;
    delete static_cast<int *>(stream);
    return 0;
}
int stream_synchronize(gpu_test::Stream)
{
    require_context();
    const std::lock_guard lock(device().mutex);
    return fault() == "lost" && device().executes > 3 ? gpu_test::kIllegalAddress : 0;
}

int stream_begin_capture(gpu_test::Stream, int)
{
    capturing = new RecordedGraph;
    return 0;
}
int stream_end_capture(gpu_test::Stream, gpu_test::Graph *graph)
{
    *graph = std::exchange(capturing, nullptr);
    return 0;
}
int graph_instantiate(gpu_test::GraphExec *exec, gpu_test::Graph graph, unsigned long long)
{
    *exec = new RecordedGraph(*static_cast<RecordedGraph *>(graph));
    return 0;
}
int graph_update(gpu_test::GraphExec exec, gpu_test::Graph graph, gpu_test::GraphUpdateResult *)
{
    *static_cast<RecordedGraph *>(exec) = *static_cast<RecordedGraph *>(graph);
    return 0;
}
int graph_destroy(void *graph)
{
    delete static_cast<RecordedGraph *>(graph);
    return 0;
}
int graph_get_nodes(gpu_test::Graph graph, gpu_test::GraphNode *nodes, std::size_t *count)
{
    auto &recorded = *static_cast<RecordedGraph *>(graph);
    *count = recorded.size();
    for (std::size_t n = 0; nodes && n < recorded.size(); ++n) nodes[n] = &recorded[n];
    return 0;
}
int graph_node_get_type(gpu_test::GraphNode, int *type)
{
    *type = gpu_test::kKernelNode;
    return 0;
}
int graph_get_edges(gpu_test::Graph, gpu_test::GraphNode *, gpu_test::GraphNode *, std::size_t *count)
{
    *count = 0;
    return 0;
}
int graph_launch(gpu_test::GraphExec exec, gpu_test::Stream);

template <class F>
F next(const char *name)
{
    return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

bool is_output(attn_slot slot)
{
    return slot == ATTN_SLOT_OUT || slot == ATTN_SLOT_K_CACHE || slot == ATTN_SLOT_V_CACHE;
}

// Breaks what a fault of the device would.
void go_wrong(const attn_arg *args, std::size_t count, void *workspace, std::size_t bytes)
{
    if (fault() == "workspace" && workspace) static_cast<unsigned char *>(workspace)[bytes] ^= 1;
    if (fault() != "stray" && fault() != "input") return;
    for (std::size_t n = 0; n < count; ++n)
        if (is_output(args[n].slot) == (fault() == "stray") && args[n].tensor->data) {
            device().last_byte(args[n].tensor->data) ^= 1; // blocks end with guards
            return;
        }
}

attn_status run(Recorded call)
{
    {
        const std::lock_guard lock(device().mutex);
        ++device().executes;
    }
    if (fault() == "nothing") return ATTN_OK;
    for (std::size_t n = 0; n < call.args.size(); ++n) call.args[n].tensor = &call.views[n];
    const attn_status status = next<decltype(&attn_execute)>("attn_execute")(
        call.plan, call.args.data(), call.args.size(), call.workspace, call.bytes, nullptr);
    if (status == ATTN_OK) go_wrong(call.args.data(), call.args.size(), call.workspace, call.bytes);
    return status;
}

int graph_launch(gpu_test::GraphExec exec, gpu_test::Stream)
{
    for (const Recorded &call : *static_cast<RecordedGraph *>(exec))
        if (run(call) != ATTN_OK) return kInvalid;
    return 0;
}

} // namespace

// The driver.
extern "C" __attribute__((visibility("default"))) int cuGetProcAddress_v2(const char *name, void **address, int,
                                                                          std::uint64_t, int *)
{
    const struct {
        const char *name;
        void *function;
    } known[] = {{"cuInit", reinterpret_cast<void *>(init)},
                 {"cuGetErrorName", reinterpret_cast<void *>(get_error_name)},
                 {"cuGetErrorString", reinterpret_cast<void *>(get_error_string)},
                 {"cuDeviceGetCount", reinterpret_cast<void *>(device_get_count)},
                 {"cuDeviceGet", reinterpret_cast<void *>(device_get)},
                 {"cuDevicePrimaryCtxRetain", reinterpret_cast<void *>(primary_retain)},
                 {"cuCtxPushCurrent", reinterpret_cast<void *>(ctx_push)},
                 {"cuCtxPopCurrent", reinterpret_cast<void *>(ctx_pop)},
                 {"cuCtxGetCurrent", reinterpret_cast<void *>(ctx_get_current)},
                 {"cuMemAlloc", reinterpret_cast<void *>(mem_alloc)},
                 {"cuMemFree", reinterpret_cast<void *>(mem_free)},
                 {"cuMemcpyHtoD", reinterpret_cast<void *>(to_device)},
                 {"cuMemcpyDtoH", reinterpret_cast<void *>(to_host)},
                 {"cuStreamCreate", reinterpret_cast<void *>(stream_create)},
                 {"cuStreamDestroy", reinterpret_cast<void *>(stream_destroy)},
                 {"cuStreamSynchronize", reinterpret_cast<void *>(stream_synchronize)},
                 {"cuStreamBeginCapture", reinterpret_cast<void *>(stream_begin_capture)},
                 {"cuStreamEndCapture", reinterpret_cast<void *>(stream_end_capture)},
                 {"cuGraphInstantiateWithFlags", reinterpret_cast<void *>(graph_instantiate)},
                 {"cuGraphLaunch", reinterpret_cast<void *>(graph_launch)},
                 {"cuGraphExecUpdate", reinterpret_cast<void *>(graph_update)},
                 {"cuGraphExecDestroy", reinterpret_cast<void *>(graph_destroy)},
                 {"cuGraphDestroy", reinterpret_cast<void *>(graph_destroy)},
                 {"cuGraphGetNodes", reinterpret_cast<void *>(graph_get_nodes)},
                 {"cuGraphNodeGetType", reinterpret_cast<void *>(graph_node_get_type)},
                 {"cuGraphGetEdges", reinterpret_cast<void *>(graph_get_edges)}};
    for (const auto &entry : known)
        if (std::strcmp(entry.name, name) == 0) {
            *address = entry.function;
            return 0;
        }
    return kInvalid;
}

// In front of the library.
extern "C" __attribute__((visibility("default"))) attn_status ATTN_CALL attn_create(const attn_options *options,
                                                                                    attn_handle *handle)
{
    if (!options || options->device != ATTN_DEVICE_CUDA) stop("a handle that is not for a CUDA device");
    attn_options cpu = *options;
    cpu.device = ATTN_DEVICE_CPU, cpu.flags = 0, cpu.max_workers = 1;
    return next<decltype(&attn_create)>("attn_create")(&cpu, handle);
}

extern "C" __attribute__((visibility("default"))) attn_status ATTN_CALL
attn_execute(attn_plan plan, const attn_arg *args, std::size_t count, void *workspace, std::size_t bytes, void *)
{
    Recorded call{plan, {args, args + count}, std::vector<attn_tensor>(count), workspace, bytes};
    for (std::size_t n = 0; n < count; ++n) {
        call.views[n] = *args[n].tensor;
        if (call.views[n].data && !device().holder(call.views[n].data)) stop("a tensor is not in device memory");
        call.views[n].device = ATTN_DEVICE_DEFAULT;
    }
    if (workspace && !device().holder(workspace)) stop("the workspace is not in device memory");
    if (capturing) {
        capturing->push_back(std::move(call));
        return ATTN_OK;
    }
    return run(std::move(call));
}

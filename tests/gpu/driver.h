// The tests' own view of the CUDA driver: declared and loaded here, so that nothing is shared with the library under
// test. Names are those of the driver without `cu`; handles are plain pointers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace gpu_test {

using Pointer = std::uint64_t; // CUdeviceptr
using Context = void *;
using Stream = void *;
using Graph = void *;
using GraphExec = void *;
using GraphNode = void *;
using Module = void *;
using Function = void *;
using Allocation = std::uint64_t; // CUmemGenericAllocationHandle

// Streams that are always there.
inline const Stream kLegacyStream = reinterpret_cast<Stream>(std::uintptr_t{1});
inline const Stream kPerThreadStream = reinterpret_cast<Stream>(std::uintptr_t{2});

struct Location {
    int type = 1; // a device
    int id = 0;
};
struct AllocationProperties {
    int type = 1; // pinned
    int requested_handle_types = 0;
    Location location;
    void *win32_handle_meta_data = nullptr;
    unsigned char compression_type = 0, gpu_direct_rdma_capable = 0;
    unsigned short usage = 0;
    unsigned char reserved[4] = {};
};
struct AccessDescription {
    Location location;
    int flags = 3; // read and write
};
struct GraphUpdateResult {
    int result = 0;
    GraphNode error_node = nullptr, error_from_node = nullptr;
};

constexpr unsigned kNonBlocking = 1;   // of stream_create
constexpr int kCaptureGlobal = 0;      // of stream_begin_capture
constexpr int kCaptureThreadLocal = 1; // likewise
constexpr int kKernelNode = 0;         // of graph_node_get_type
constexpr int kGranularityMinimum = 0; // of mem_get_allocation_granularity
constexpr int kNotSupported = 801;     // a result
constexpr int kIllegalAddress = 700;   // a result
constexpr int kAttributeMajor = 75;    // of device_get_attribute: compute capability
constexpr int kAttributeMinor = 76;

// A call of the driver failed.
class DriverError : public std::runtime_error {
public:
    DriverError(int result, const std::string &what) : std::runtime_error(what), result(result) {}
    const int result;
};

// There is no driver or no device.
class DriverAbsent : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

struct Driver {
    int (*init)(unsigned);
    int (*driver_get_version)(int *);
    int (*get_error_name)(int, const char **);
    int (*get_error_string)(int, const char **);
    int (*device_get_count)(int *);
    int (*device_get)(int *, int);
    int (*device_get_name)(char *, int, int);
    int (*device_get_attribute)(int *, int, int);
    int (*device_primary_ctx_retain)(Context *, int);
    int (*device_primary_ctx_release)(int);
    int (*ctx_create)(Context *, unsigned, int);
    int (*ctx_destroy)(Context);
    int (*ctx_push_current)(Context);
    int (*ctx_pop_current)(Context *);
    int (*ctx_get_current)(Context *);
    int (*ctx_synchronize)();
    int (*mem_get_info)(std::size_t *, std::size_t *);
    int (*mem_alloc)(Pointer *, std::size_t);
    int (*mem_free)(Pointer);
    int (*memcpy_to_device)(Pointer, const void *, std::size_t);
    int (*memcpy_to_host)(void *, Pointer, std::size_t);
    int (*memset_bytes)(Pointer, unsigned char, std::size_t);
    int (*mem_get_allocation_granularity)(std::size_t *, const AllocationProperties *, int);
    int (*mem_address_reserve)(Pointer *, std::size_t, std::size_t, Pointer, unsigned long long);
    int (*mem_address_free)(Pointer, std::size_t);
    int (*mem_create)(Allocation *, std::size_t, const AllocationProperties *, unsigned long long);
    int (*mem_release)(Allocation);
    int (*mem_map)(Pointer, std::size_t, std::size_t, Allocation, unsigned long long);
    int (*mem_unmap)(Pointer, std::size_t);
    int (*mem_set_access)(Pointer, std::size_t, const AccessDescription *, std::size_t);
    int (*stream_create)(Stream *, unsigned);
    int (*stream_destroy)(Stream);
    int (*stream_synchronize)(Stream);
    int (*stream_begin_capture)(Stream, int);
    int (*stream_end_capture)(Stream, Graph *);
    int (*graph_instantiate)(GraphExec *, Graph, unsigned long long);
    int (*graph_launch)(GraphExec, Stream);
    int (*graph_exec_update)(GraphExec, Graph, GraphUpdateResult *);
    int (*graph_exec_destroy)(GraphExec);
    int (*graph_destroy)(Graph);
    int (*graph_get_nodes)(Graph, GraphNode *, std::size_t *);
    int (*graph_node_get_type)(GraphNode, int *);
    int (*graph_get_edges)(Graph, GraphNode *, GraphNode *, std::size_t *);
    int (*module_load_data)(Module *, const void *);
    int (*module_unload)(Module);
    int (*module_get_function)(Function *, Module, const char *);
    int (*launch_kernel)(Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream,
                         void **, void **);
};

// Loads libcuda.so.1, or what ATTN_CUDA_DRIVER names, at the first call and initialises it. Throws DriverAbsent, with
// the same reason every time.
const Driver &driver();

// Throws DriverError, with the driver's text, if `result` is one.
void check(int result, const char *call);

// Whether an asynchronous error has made the context useless: nothing that follows in this process can succeed.
bool device_is_lost();

// The primary context of device 0 of this process; retained at the first call and never released.
Context primary_context();

// Makes a context current for this thread while it lives.
class ContextScope {
public:
    explicit ContextScope(Context context = primary_context());
    ~ContextScope();
    ContextScope(const ContextScope &) = delete;
    ContextScope &operator=(const ContextScope &) = delete;
};

} // namespace gpu_test

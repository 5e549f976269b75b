// What the fake driver knows. Calls of attn_execute() take no lock here, so that ThreadSanitizer sees what the library
// itself orders.
#ifndef ATTN_TESTS_FAKE_CUDA_STATE_H
#define ATTN_TESTS_FAKE_CUDA_STATE_H

#include "tests/fake_cuda/fake_cuda.h"

#include "backends/cuda/driver_types.h"

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/types.h>
#include <unordered_map>
#include <vector>

namespace fake_cuda {

/// One for each entry point, in the order of kEntries.
enum class Entry {
    init,
    driver_get_version,
    get_error_name,
    get_error_string,
    device_get_count,
    device_get,
    device_get_name,
    device_get_attribute,
    device_total_mem,
    primary_retain,
    primary_release,
    ctx_push,
    ctx_pop,
    ctx_get_current,
    ctx_get_device,
    ctx_get_dev_resource,
    stream_create,
    stream_destroy,
    stream_synchronize,
    stream_get_ctx,
    exchange_capture_mode,
    module_load,
    module_unload,
    module_get_function,
    func_load,
    func_get_attribute,
    func_set_attribute,
    occupancy,
    clusters,
    launch,
    mem_alloc,
    mem_free,
    memcpy_htod_async,
    memset_async,
    tensor_map_encode_tiled,
    count
};
constexpr int kEntryCount = static_cast<int>(Entry::count);

/// The versions that get this signature: asked with another the driver would answer with another function.
struct EntryInfo {
    const char *name;
    int first, last;
    void *address;
};
extern const std::array<EntryInfo, kEntryCount> kEntries;
/// -1 for an unknown name.
int find_entry(const char *name);

constexpr int kMostDevices = 8;

struct Device {
    std::string name;
    size_t bytes = 0;
    std::map<int, int> attributes;
};

/// Objects are kept when destroyed, so that their use afterwards is noticed.
struct Context {
    int device = 0;
    int units = 0; ///< 0: all of the device.
    bool is_primary = false;
    std::atomic<bool> alive{true};
    std::atomic<int64_t> retained{0}, modules{0}, allocations{0}, streams{0};
};
struct Stream {
    Context *context = nullptr;
    bool of_backend = false;
    std::atomic<bool> alive{true};
};
struct Module;
struct Function {
    std::string name;
    Module *module = nullptr;
    int parameters = -1;
    std::atomic<bool> loaded{false};
    std::atomic<int> shared_limit{48 << 10};
};
struct Module {
    Context *context = nullptr;
    std::string image;
    bool is_ptx = false;
    std::vector<std::unique_ptr<Function>> functions;
    std::atomic<bool> alive{true};
};
struct Allocation {
    Context *context = nullptr;
    size_t bytes = 0;
};

/// The stack of contexts and the launches of one thread.
struct Thread {
    std::vector<Context *> stack;
    attn::cuda::CUstreamCaptureMode mode = attn::cuda::CU_STREAM_CAPTURE_MODE_GLOBAL;
    std::vector<fake_cuda_launch> launches;
    std::array<fake_cuda_tensor_map, 8> maps = {}; ///< A ring.
    int64_t map_count = 0;
};

struct State {
    std::atomic<pid_t> process{0}; ///< That called cuInit(); 0 before.
    std::atomic<int> version{13000};
    std::atomic<int> device_count{2};
    std::array<std::atomic<bool>, kEntryCount> hidden{};
    std::array<std::atomic<int64_t>, kEntryCount> calls{};

    std::atomic<int> failing{-1}; ///< Entry point, -1 for none.
    std::atomic<int64_t> countdown{0};
    std::atomic<int> failure{0}, breakage{0};
    std::atomic<bool> has_failed{false};
    std::atomic<int64_t> launches_after_failure{0};
    std::atomic<bool> was_shut_out{false}; ///< A push was made to fail: what is in the context cannot be given back.

    std::atomic<int64_t> captures{0}, pushed{0}, violations{0};

    /// A primary context ends before another thread can retain it again. Taken before `mutex`.
    std::mutex primary_mutex;

    std::mutex mutex; ///< Of what follows.
    std::array<Device, kMostDevices> devices;
    std::array<Context, kMostDevices> primary;
    std::vector<std::unique_ptr<Context>> contexts;
    std::vector<std::unique_ptr<Stream>> streams;
    std::vector<std::unique_ptr<Module>> modules;
    std::vector<std::unique_ptr<Thread>> threads;
    std::unordered_map<void *, Allocation> allocations;
    std::string violation_texts;
};

State &state();
Thread &this_thread();
Context *current();

/// Destroys a context, and with it what is left in it.
void end_context(Context *context);

/// Notes what the caller must not do.
[[gnu::format(printf, 1, 2)]] void violate(const char *format, ...);

/// Counts a call and says whether it is to fail; CUDA_SUCCESS to go on.
attn::cuda::CUresult begin(Entry entry);
/// Likewise for a call that does not work in a thread whose capture mode forbids it.
attn::cuda::CUresult begin_unsafe(Entry entry);

void set_up_devices(State *s);

} // namespace fake_cuda

#endif

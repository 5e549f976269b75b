// A CUDA driver for tests, in host memory: how tests set it up, make it fail, and ask what was done to it.
//
// The library implements the entry points that backends/cuda asks for. Kernels do not run; launches are recorded. It
// also watches its caller: what a driver would punish with undefined behaviour, and what leaks, is a violation with a
// text. Set ATTN_CUDA_DRIVER to its path before the first use of a CUDA device.
#ifndef ATTN_TESTS_FAKE_CUDA_FAKE_CUDA_H
#define ATTN_TESTS_FAKE_CUDA_FAKE_CUDA_H

#include <cstddef>
#include <cstdint>

#define FAKE_CUDA_API __attribute__((visibility("default")))

extern "C" {

/// Back to the beginning: two devices, no faults, nothing counted. What is live stays so, and stays accounted for.
FAKE_CUDA_API void fake_cuda_reset();

// The machine. Device 0 is of capability 9.0 with 132 SMs, device 1 of 8.0 with 108.

FAKE_CUDA_API void fake_cuda_set_version(int version);
/// 0 .. 8; with 0 cuInit() says CUDA_ERROR_NO_DEVICE.
FAKE_CUDA_API void fake_cuda_set_device_count(int count);
FAKE_CUDA_API void fake_cuda_set_attribute(int device, int attribute, int value);
/// cuGetProcAddress() does not find the entry point.
FAKE_CUDA_API void fake_cuda_hide(const char *entry);

// What programs bring along.

/// A context of the caller's own; with `units` > 0 a green one, of that many SMs. Current nowhere.
FAKE_CUDA_API void *fake_cuda_create_context(int device, int units);
FAKE_CUDA_API void fake_cuda_destroy_context(void *context);
/// The primary context of a device; NULL while nobody retains it.
FAKE_CUDA_API void *fake_cuda_primary_context(int device);
FAKE_CUDA_API void fake_cuda_push(void *context); ///< On this thread's stack.
FAKE_CUDA_API void fake_cuda_pop();
FAKE_CUDA_API void *fake_cuda_current(); ///< Of this thread; NULL if none.
FAKE_CUDA_API void *fake_cuda_create_stream(void *context);
FAKE_CUDA_API void fake_cuda_destroy_stream(void *stream);
/// While captures go on, calls that one would not allow fail in threads whose capture mode is not relaxed.
FAKE_CUDA_API void fake_cuda_begin_capture();
FAKE_CUDA_API void fake_cuda_end_capture();
FAKE_CUDA_API int fake_cuda_capture_mode(); ///< Of this thread.
FAKE_CUDA_API void fake_cuda_set_capture_mode(int mode);

// Faults.

/// The n-th call from now, 1 being the next, of an entry point fails once with `result`. Calls that give something back
/// do so all the same.
FAKE_CUDA_API void fake_cuda_fail(const char *entry, int64_t n, int result);
/// Every call fails with `result` from now on, as after a fault on the device, until fake_cuda_reset().
FAKE_CUDA_API void fake_cuda_break(int result);
/// Whether what fake_cuda_fail() asked for has happened, and what was launched after it.
FAKE_CUDA_API bool fake_cuda_has_failed();
FAKE_CUDA_API int64_t fake_cuda_launches_after_failure();

// What was done.

FAKE_CUDA_API int fake_cuda_entry_count();
FAKE_CUDA_API const char *fake_cuda_entry_name(int i);
FAKE_CUDA_API int64_t fake_cuda_calls(const char *entry);
FAKE_CUDA_API int64_t fake_cuda_all_calls();
FAKE_CUDA_API void fake_cuda_clear_calls();

/// Things that exist now.
struct fake_cuda_live {
    int64_t modules, allocations, bytes, streams; ///< Streams that the caller's backend made.
    int64_t retained;                             ///< Of primary contexts, less those released.
    int64_t pushed;                               ///< Of contexts by the backend, less those popped, all threads.
};
FAKE_CUDA_API fake_cuda_live fake_cuda_count_live();

struct fake_cuda_launch {
    char kernel[128];
    unsigned int grid[3], block[3], shared_bytes;
    int parameters; ///< -1 where the image does not tell.
    void *stream, *context;
    unsigned int cluster; ///< Blocks of a cluster along x; 0 without clusters.
    bool programmatic;    ///< May begin before the kernel before it has ended.
    bool balanced;        ///< Blocks of a cluster go where there is room.
};
/// Launches since the last reset or clear, thread by thread; no other thread may be launching.
FAKE_CUDA_API int64_t fake_cuda_launch_count();
FAKE_CUDA_API bool fake_cuda_get_launch(int64_t i, fake_cuda_launch *out);
FAKE_CUDA_API void fake_cuda_clear_launches();

/// What cuTensorMapEncodeTiled() was given. Axes from the innermost on; those beyond `rank` are 0.
struct fake_cuda_tensor_map {
    int type, rank, swizzle;
    const void *address;
    uint64_t extents[5], strides[4]; ///< Strides in bytes, of the axes from 1 on.
    uint32_t box[5];
};
/// The last maps of this thread, 0 being the latest, up to 7.
FAKE_CUDA_API bool fake_cuda_get_tensor_map(int i, fake_cuda_tensor_map *out);

/// Their number since the last reset, and the texts, one a line, cut to fit.
FAKE_CUDA_API int64_t fake_cuda_violations(char *text, size_t capacity);

} // extern "C"

#endif

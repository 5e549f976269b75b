// The handle: a device, its backend, and how loops run.
#ifndef ATTN_SRC_HANDLE_H
#define ATTN_SRC_HANDLE_H

#include "backend.h"
#include "thread_pool.h"

#include <atomic>
#include <memory>

/// Shared by its owner and by every plan made from it.
struct attn_handle_s {
    attn_device device = ATTN_DEVICE_CPU;
    int32_t device_id = 0;
    int32_t workers = 1; ///< Also the bound of `worker` in tasks; results depend on it, not on who runs a task.
    attn_parallel_for parallel_for = nullptr;
    void *parallel_ctx = nullptr;
    attn_log log = nullptr;
    void *log_ctx = nullptr;
    int32_t log_level = 0;
    int64_t process = 0; ///< The process that created the handle; a forked child has no threads.
    std::unique_ptr<attn::Backend> backend;
    std::unique_ptr<attn::ThreadPool> pool; ///< Absent with a caller's parallel_for or one worker.
    std::atomic<int64_t> references{1};

    /// Whether this is a child forked after attn_create().
    bool forked() const noexcept;
    /// Passes a line to the caller's log if it wants that level: 1 error .. 4 debug.
    [[gnu::format(printf, 3, 4)]] void write_log(int32_t level, const char *format, ...) const noexcept;
    void retain() noexcept { references.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept;
};

namespace attn {

/// Runs task(arg, 0 .. count-1, worker) on the handle's workers. Fails if a caller's parallel_for broke its contract
/// (a worker out of range, tasks left out); tasks with such a worker are not run.
[[nodiscard]] attn_status run_parallel(const attn_handle_s &handle, int64_t count, attn_task task, void *arg) noexcept;

/// Reads options and builds the handle.
[[nodiscard]] attn_status create_handle(const attn_options *given, attn_handle *out);

} // namespace attn

#endif

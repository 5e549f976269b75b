#include "handle.h"

#include "abi.h"
#include "names.h"
#include "packing.h"

#include <cstdarg>
#include <cstdio>
#include <new>
#include <system_error>
#include <unistd.h>

namespace attn {
namespace {

constexpr int32_t kMostWorkers = 4096;

/// What only a GPU uses must be absent for the CPU, so that it is not ignored.
attn_status check_cpu_options(const attn_options &options)
{
    if (options.device_id != 0)
        return fail(ATTN_ERROR_NO_DEVICE, "attn_options.device_id = %d: there is one CPU device, 0", options.device_id);
    if (options.device_alloc || options.device_free)
        return fail(ATTN_ERROR_INVALID, "attn_options.%s: must be NULL for the CPU",
                    options.device_alloc ? "device_alloc" : "device_free");
    if (options.alloc_ctx)
        return fail(ATTN_ERROR_INVALID, "attn_options.alloc_ctx = %p: must be NULL for the CPU", options.alloc_ctx);
    if (options.flags)
        return fail(ATTN_ERROR_INVALID, "attn_options.flags = 0x%llx: must be 0 for the CPU, which compiles nothing",
                    static_cast<unsigned long long>(options.flags));
    const struct {
        const char *field, *value;
    } paths[] = {{"cache_dir", options.cache_dir},
                 {"kernel_path", options.kernel_path},
                 {"compiler_path", options.compiler_path}};
    for (const auto &path : paths)
        if (path.value)
            return fail(ATTN_ERROR_INVALID, "attn_options.%s = %s: must be NULL for the CPU, which compiles nothing",
                        path.field, path.value);
    return ATTN_OK;
}

/// Likewise what only the CPU uses, and what one flag takes from another field.
attn_status check_gpu_options(const attn_options &options)
{
    if (options.max_workers != 0)
        return fail(ATTN_ERROR_INVALID, "attn_options.max_workers = %d: must be 0 for a GPU", options.max_workers);
    if (options.parallel_for) return fail(ATTN_ERROR_INVALID, "attn_options.parallel_for: must be NULL for a GPU");
    if (!options.device_alloc != !options.device_free)
        return fail(ATTN_ERROR_INVALID, "attn_options.%s = NULL: give both device_alloc and device_free or neither",
                    options.device_alloc ? "device_free" : "device_alloc");
    if (!options.device_alloc && options.alloc_ctx)
        return fail(ATTN_ERROR_INVALID, "attn_options.alloc_ctx = %p: must be NULL without device_alloc",
                    options.alloc_ctx);
    if ((options.flags & ATTN_HANDLE_NO_COMPILE) && options.compiler_path)
        return fail(ATTN_ERROR_INVALID, "attn_options.compiler_path = %s: must be NULL with ATTN_HANDLE_NO_COMPILE",
                    options.compiler_path);
    if ((options.flags & ATTN_HANDLE_NO_DISK_CACHE) && options.cache_dir)
        return fail(ATTN_ERROR_INVALID, "attn_options.cache_dir = %s: must be NULL with ATTN_HANDLE_NO_DISK_CACHE",
                    options.cache_dir);
    return ATTN_OK;
}

attn_status check_options(const attn_options &options)
{
    constexpr uint64_t kKnown =
        ATTN_HANDLE_NO_COMPILE | ATTN_HANDLE_NO_DISK_CACHE | ATTN_HANDLE_NO_WAIT | ATTN_HANDLE_CURRENT_CONTEXT;
    if (options.flags & ~kKnown)
        return fail(ATTN_ERROR_INVALID, "attn_options.flags = 0x%llx: unknown bits 0x%llx",
                    static_cast<unsigned long long>(options.flags),
                    static_cast<unsigned long long>(options.flags & ~kKnown));
    const bool cpu = options.device == ATTN_DEVICE_DEFAULT || options.device == ATTN_DEVICE_CPU;
    if (options.device == ATTN_DEVICE_HIP)
        return fail(ATTN_ERROR_NO_DEVICE, "attn_options.device = %s: this build of libattn has no %s backend",
                    device_name(options.device), device_name(options.device));
    if (!cpu && options.device != ATTN_DEVICE_CUDA)
        return fail(ATTN_ERROR_INVALID, "attn_options.device = %d: must be ATTN_DEVICE_CPU, _CUDA or _HIP, or 0",
                    options.device);
    if (options.max_workers < 0 || options.max_workers > kMostWorkers)
        return fail(ATTN_ERROR_INVALID, "attn_options.max_workers = %d: must be 0 .. %d", options.max_workers,
                    kMostWorkers);
    if (options.log_level < 0 || options.log_level > 4)
        return fail(ATTN_ERROR_INVALID, "attn_options.log_level = %d: must be 0 .. 4", options.log_level);
    if (!options.parallel_for && options.parallel_ctx)
        return fail(ATTN_ERROR_INVALID, "attn_options.parallel_ctx = %p: must be NULL without parallel_for",
                    options.parallel_ctx);
    if (!options.log && (options.log_ctx || options.log_level))
        return fail(ATTN_ERROR_INVALID, "attn_options.log = NULL: log_ctx and log_level must be 0 without it");
    return cpu ? check_cpu_options(options) : check_gpu_options(options);
}

/// Spreads task numbers over 64 bits (the finaliser of splitmix64), so that sums tell sets of them apart.
uint64_t spread(int64_t task)
{
    uint64_t x = static_cast<uint64_t>(task) + 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/// Guards a loop given to a caller's parallel_for against broken contracts.
struct Guarded {
    attn_task task;
    void *arg;
    int64_t count;
    int32_t workers;
    std::atomic<int64_t> ran{0};
    std::atomic<uint64_t> sum{0}; ///< Of spread() of the tasks that ran.
    std::atomic<bool> has_bad_worker{false}, has_bad_task{false};
    std::atomic<int64_t> bad_worker{0}, bad_task{0};

    static void ATTN_CALL run(void *self, int64_t task, int32_t worker)
    {
        Guarded &loop = *static_cast<Guarded *>(self);
        if (worker < 0 || worker >= loop.workers) {
            loop.bad_worker.store(worker);
            loop.has_bad_worker.store(true);
        } else if (task < 0 || task >= loop.count) {
            loop.bad_task.store(task);
            loop.has_bad_task.store(true);
        } else {
            loop.task(loop.arg, task, worker);
            loop.ran.fetch_add(1, std::memory_order_relaxed);
            loop.sum.fetch_add(spread(task), std::memory_order_relaxed);
        }
    }
};

attn_status open_cpu(const attn_options &options, attn_handle_s *handle)
{
    handle->workers = options.max_workers ? options.max_workers : usable_cores();
    handle->parallel_for = options.parallel_for;
    handle->parallel_ctx = options.parallel_ctx;
    if (const attn_status status = open_cpu_backend(&handle->backend)) return status;
    if (!handle->parallel_for && handle->workers > 1) {
        try {
            handle->pool = std::make_unique<ThreadPool>(handle->workers);
        } catch (const std::system_error &error) {
            return fail(ATTN_ERROR_RUNTIME, "attn_options.max_workers = %d: the system refused a thread: %s",
                        handle->workers, error.what());
        }
    }
    handle->write_log(3, "libattn 0x%06x: %s backend, %d workers%s", static_cast<unsigned>(ATTN_VERSION),
                      handle->backend->name(), handle->workers, handle->parallel_for ? " of the caller" : "");
    return ATTN_OK;
}

attn_status open_gpu(const attn_options &options, const attn_ext *packing, attn_handle_s *handle)
{
    handle->device = options.device;
    handle->device_id = options.device_id;
    if (packing) return open_packing_backend(options, *packing, &handle->backend);
    if (const attn_status status = open_cuda_backend(options, &handle->backend)) return status;
    handle->write_log(3, "libattn 0x%06x: %s backend, device %d", static_cast<unsigned>(ATTN_VERSION),
                      handle->backend->name(), handle->device_id);
    return ATTN_OK;
}

} // namespace

attn_status run_parallel(const attn_handle_s &handle, int64_t count, attn_task task, void *arg) noexcept
{
    const bool serial = count <= 1 || handle.workers <= 1 || handle.forked();
    if (serial) {
        for (int64_t i = 0; i < count; ++i) task(arg, i, 0);
        return ATTN_OK;
    }
    if (!handle.parallel_for) {
        handle.pool->run(count, task, arg);
        return ATTN_OK;
    }
    Guarded loop{task, arg, count, handle.workers};
    handle.parallel_for(handle.parallel_ctx, count, &Guarded::run, &loop);
    if (loop.has_bad_worker.load())
        return fail(ATTN_ERROR_INVALID, "attn_options.parallel_for called a task with worker = %lld: must be 0 .. %d",
                    static_cast<long long>(loop.bad_worker.load()), handle.workers - 1);
    if (loop.has_bad_task.load())
        return fail(ATTN_ERROR_INVALID, "attn_options.parallel_for called task %lld: must be 0 .. %lld",
                    static_cast<long long>(loop.bad_task.load()), static_cast<long long>(count - 1));
    uint64_t wanted = 0;
    for (int64_t i = 0; i < count; ++i) wanted += spread(i);
    if (loop.ran.load() != count || loop.sum.load() != wanted)
        return fail(ATTN_ERROR_INVALID, "attn_options.parallel_for ran %lld tasks: must run each of %lld once",
                    static_cast<long long>(loop.ran.load()), static_cast<long long>(count));
    return ATTN_OK;
}

attn_status create_handle(const attn_options *given, attn_handle *out)
{
    attn_options options = {};
    options.size = sizeof options;
    const attn_ext *packing = nullptr;
    if (given) {
        if (const attn_status status = read_struct(given, "attn_options", &options)) return status;
        if (const attn_status status = read_extensions(options.next, "attn_options", &kPackingType, 1, &packing))
            return status;
        if (const attn_status status = check_options(options)) return status;
    }
    auto handle = std::make_unique<attn_handle_s>();
    handle->log = options.log;
    handle->log_ctx = options.log_ctx;
    handle->log_level = options.log_level ? options.log_level : 2;
    handle->process = getpid();
    const attn_status status = options.device == ATTN_DEVICE_CUDA || packing ? open_gpu(options, packing, handle.get())
                                                                             : open_cpu(options, handle.get());
    if (status != ATTN_OK) return status;
    *out = handle.release();
    return ATTN_OK;
}

} // namespace attn

bool attn_handle_s::forked() const noexcept
{
    return getpid() != process;
}

void attn_handle_s::write_log(int32_t level, const char *format, ...) const noexcept
{
    if (!log || level > log_level) return;
    char text[512];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    log(log_ctx, level, text);
}

void attn_handle_s::release() noexcept
{
    if (references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (pool && forked()) {
        // The threads stayed with the parent, and a lock may have been held at the fork: leave the object alone, with
        // its thread ids, which threads of the child may have by now.
        static_cast<void>(pool.release());
    }
    delete this;
}

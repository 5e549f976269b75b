// Parallel loops: the handle's own threads, or the caller's.
#ifndef ATTN_SRC_THREAD_POOL_H
#define ATTN_SRC_THREAD_POOL_H

#include "status.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace attn {

/// Runs loops on a fixed number of threads, the calling one included.
///
/// One loop at a time has the threads; a loop that finds them busy runs on its caller alone. So concurrent executes
/// never wait for each other, and none needs more than its own scratch. Results do not depend on who runs a task.
class ThreadPool {
public:
    /// Starts workers - 1 threads; throws std::system_error if the system refuses, with none left behind.
    explicit ThreadPool(int32_t workers);
    ~ThreadPool();
    ThreadPool(const ThreadPool &) = delete;
    ThreadPool &operator=(const ThreadPool &) = delete;

    /// Runs task(arg, 0 .. count-1, worker) and returns when all are done. Allocates nothing.
    void run(int64_t count, attn_task task, void *arg) noexcept;

private:
    struct Loop {
        attn_task task = nullptr;
        void *arg = nullptr;
        int64_t count = 0;
    };

    void serve(int32_t worker) noexcept;
    void work(const Loop &loop, int32_t worker) noexcept;
    void stop() noexcept;

    std::mutex owner_; ///< Held by the loop that has the threads.
    std::mutex mutex_; ///< Guards what follows.
    std::condition_variable start_, finish_;
    Loop loop_;           ///< The loop to serve; no task: none.
    uint64_t number_ = 0; ///< Of the loop; a thread serves each once.
    int32_t active_ = 0;
    bool stopping_ = false;
    std::atomic<int64_t> next_{0};
    std::vector<std::thread> threads_;
};

} // namespace attn

#endif

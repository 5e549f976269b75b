#include "thread_pool.h"

namespace attn {

ThreadPool::ThreadPool(int32_t workers)
{
    threads_.reserve(static_cast<size_t>(workers > 1 ? workers - 1 : 0));
    try {
        for (int32_t worker = 1; worker < workers; ++worker) threads_.emplace_back([this, worker] { serve(worker); });
    } catch (...) {
        stop();
        throw;
    }
}

ThreadPool::~ThreadPool()
{
    stop();
}

void ThreadPool::stop() noexcept
{
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopping_ = true;
    }
    start_.notify_all();
    for (std::thread &thread : threads_) thread.join();
    threads_.clear();
}

void ThreadPool::work(const Loop &loop, int32_t worker) noexcept
{
    for (int64_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < loop.count;)
        loop.task(loop.arg, task, worker);
}

void ThreadPool::serve(int32_t worker) noexcept
{
    uint64_t served = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        start_.wait(lock, [&] { return stopping_ || (number_ != served && loop_.task); });
        if (stopping_) return;
        served = number_;
        const Loop loop = loop_;
        ++active_;
        lock.unlock();
        work(loop, worker);
        lock.lock();
        if (--active_ == 0) finish_.notify_one();
    }
}

void ThreadPool::run(int64_t count, attn_task task, void *arg) noexcept
{
    std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
    if (count <= 1 || threads_.empty() || !owner.owns_lock()) {
        for (int64_t i = 0; i < count; ++i) task(arg, i, 0);
        return;
    }
    const Loop loop = {task, arg, count};
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        loop_ = loop;
        next_.store(0, std::memory_order_relaxed);
        ++number_;
    }
    start_.notify_all();
    work(loop, 0);
    // A thread that wakes up late finds no loop and goes back to sleep; only those at work are waited for.
    std::unique_lock<std::mutex> lock(mutex_);
    loop_ = {};
    finish_.wait(lock, [&] { return active_ == 0; });
}

} // namespace attn

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

void ThreadPool::abandon() noexcept
{
    for (std::thread &thread : threads_) thread.detach();
    threads_.clear();
}

void ThreadPool::work(int32_t worker) noexcept
{
    for (int64_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) task_(arg_, task, worker);
}

void ThreadPool::serve(int32_t worker) noexcept
{
    uint64_t served = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        start_.wait(lock, [&] { return stopping_ || (loop_ != served && task_); });
        if (stopping_) return;
        served = loop_;
        ++active_;
        lock.unlock();
        work(worker);
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
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        task_ = task, arg_ = arg, count_ = count;
        next_.store(0, std::memory_order_relaxed);
        ++loop_;
    }
    start_.notify_all();
    work(0);
    // A thread that wakes up late finds task_ empty and goes back to sleep; only those at work are waited for.
    std::unique_lock<std::mutex> lock(mutex_);
    task_ = nullptr;
    finish_.wait(lock, [&] { return active_ == 0; });
}

} // namespace attn

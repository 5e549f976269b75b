// The thread pool: every task once, no worker number in two tasks at a time, whatever the callers do.
#include "core_random.h"

#include "handle.h"
#include "thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace attn::test {
namespace {

/// A loop that counts what was run, by whom.
class Loop {
public:
    Loop(int64_t count, int32_t workers) : runs_(static_cast<size_t>(count)), busy_(static_cast<size_t>(workers)) {}

    static void ATTN_CALL task(void *self, int64_t index, int32_t worker)
    {
        Loop &loop = *static_cast<Loop *>(self);
        if (index < 0 || index >= static_cast<int64_t>(loop.runs_.size()) || worker < 0 ||
            worker >= static_cast<int32_t>(loop.busy_.size())) {
            loop.faults_.fetch_add(1);
            return;
        }
        std::atomic<bool> &busy = loop.busy_[static_cast<size_t>(worker)];
        if (busy.exchange(true)) loop.faults_.fetch_add(1);
        if (loop.inside_) loop.inside_(index);
        loop.runs_[static_cast<size_t>(index)].fetch_add(1);
        busy.store(false);
    }

    /// What each task does besides counting.
    void inside(std::function<void(int64_t)> work) { inside_ = std::move(work); }

    /// Every task has run `times` times, each in a worker of its own.
    bool is_complete(int times = 1) const
    {
        bool complete = faults_.load() == 0;
        for (const std::atomic<int> &runs : runs_) complete &= runs.load() == times;
        return complete;
    }

private:
    std::vector<std::atomic<int>> runs_;
    std::vector<std::atomic<bool>> busy_;
    std::atomic<int> faults_{0};
    std::function<void(int64_t)> inside_;
};

int64_t threads_of_process()
{
    int64_t count = 0;
    for (const auto &entry : std::filesystem::directory_iterator("/proc/self/task")) count += entry.exists();
    return count;
}

/// A joined thread may stay listed for a moment.
bool becomes(int64_t threads)
{
    for (int wait = 0; wait < 2000; ++wait) {
        if (threads_of_process() == threads) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
}

TEST(ThreadPool, RunsEveryTaskOnce)
{
    for (const int32_t workers : {1, 2, 3, 8}) {
        ThreadPool pool(workers);
        for (const int64_t count : {1, 2, 3, 7, 64, 1000}) {
            Loop loop(count, workers);
            pool.run(count, &Loop::task, &loop);
            EXPECT_TRUE(loop.is_complete()) << count << " tasks, " << workers << " workers";
        }
    }
}

TEST(ThreadPool, ZeroTasksRunNothing)
{
    for (const int32_t workers : {1, 4}) {
        ThreadPool pool(workers);
        pool.run(
            0, [](void *, int64_t, int32_t) { FAIL() << "a task of an empty loop ran"; }, nullptr);
    }
}

TEST(ThreadPool, OneWorkerRunsInOrderOnItsCaller)
{
    ThreadPool pool(1);
    std::vector<int64_t> order;
    const std::thread::id caller = std::this_thread::get_id();
    Loop loop(20, 1);
    loop.inside([&](int64_t index) {
        EXPECT_EQ(std::this_thread::get_id(), caller);
        order.push_back(index);
    });
    pool.run(20, &Loop::task, &loop);
    ASSERT_EQ(order.size(), 20u);
    for (size_t i = 0; i < order.size(); ++i) EXPECT_EQ(order[i], static_cast<int64_t>(i));
}

TEST(ThreadPool, ManyShortLoops)
{
    // The moment to get wrong is the end of a loop: a thread that took its last task, one that wakes up too late.
    for (const int32_t workers : {2, 4}) {
        ThreadPool pool(workers);
        Random random(10);
        for (int round = 0; round < 20000; ++round) {
            const int64_t count = random.integer(2, 5);
            Loop loop(count, workers);
            const int64_t slow = random.integer(0, count);
            loop.inside([slow](int64_t index) { // the last tasks of two threads end at about the same time
                for (volatile int spin = index < slow ? 500 : 0; spin > 0;) spin = spin - 1;
            });
            pool.run(count, &Loop::task, &loop);
            ASSERT_TRUE(loop.is_complete()) << "round " << round;
        }
    }
}

TEST(ThreadPool, SeveralThreadsTakePart)
{
    ThreadPool pool(3);
    std::atomic<int> inside{0};
    Loop loop(3, 3);
    loop.inside([&](int64_t) { // none returns before all are there, unless it takes very long
        inside.fetch_add(1);
        for (int wait = 0; wait < 5000 && inside.load() < 3; ++wait)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
    pool.run(3, &Loop::task, &loop);
    EXPECT_TRUE(loop.is_complete());
    EXPECT_EQ(inside.load(), 3);
}

TEST(ThreadPool, NestedLoopsRunOnTheirCaller)
{
    ThreadPool pool(4);
    std::atomic<int> complete{0};
    Loop outer(32, 4);
    outer.inside([&](int64_t) {
        const std::thread::id caller = std::this_thread::get_id();
        Loop inner(5, 1); // worker 0 alone
        std::atomic<bool> here{true};
        inner.inside([&](int64_t) { here = here && std::this_thread::get_id() == caller; });
        pool.run(5, &Loop::task, &inner);
        complete.fetch_add(inner.is_complete() && here);
    });
    for (int round = 1; round <= 50; ++round) {
        pool.run(32, &Loop::task, &outer);
        ASSERT_TRUE(outer.is_complete(round));
        ASSERT_EQ(complete.load(), 32 * round);
    }
}

TEST(ThreadPool, ConcurrentLoopsStayApart)
{
    constexpr int kCallers = 4, kRounds = 1000;
    ThreadPool pool(3);
    std::atomic<int> complete{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < kCallers; ++caller)
        callers.emplace_back([&, caller] {
            Random random(20 + static_cast<uint64_t>(caller));
            for (int round = 0; round < kRounds; ++round) {
                const int64_t count = random.integer(0, 9);
                Loop loop(count, 3);
                pool.run(count, &Loop::task, &loop);
                complete.fetch_add(loop.is_complete());
            }
        });
    for (std::thread &caller : callers) caller.join();
    EXPECT_EQ(complete.load(), kCallers * kRounds);
}

TEST(ThreadPool, ThreadsEndWithThePool)
{
    // A sanitizer starts a thread of its own with the first, and a joined one may stay listed: counted while it lives.
    std::atomic<bool> counted{false};
    std::thread first([&] { counted.wait(false); });
    const int64_t before = threads_of_process() - 1;
    counted = true;
    counted.notify_one();
    first.join();
    for (int round = 0; round < 20; ++round) {
        auto pool = std::make_unique<ThreadPool>(5);
        EXPECT_TRUE(becomes(before + 4));
        if (round % 2) { // with and without a loop before the end
            Loop loop(16, 5);
            pool->run(16, &Loop::task, &loop);
            EXPECT_TRUE(loop.is_complete());
        }
        pool.reset();
        ASSERT_TRUE(becomes(before)) << threads_of_process() << " threads after the pool, " << before << " before";
    }
}

/// A caller's loop, on handles whose workers are 3.
struct Caller {
    int64_t skip = -1;   ///< A task left out,
    int64_t twice = -1;  ///< or run twice,
    int32_t worker = 0;  ///< the worker given,
    int64_t shifted = 0; ///< what is added to every task.

    static void ATTN_CALL run(void *ctx, int64_t count, attn_task task, void *arg)
    {
        const Caller &self = *static_cast<const Caller *>(ctx);
        for (int64_t i = 0; i < count; ++i) {
            if (i != self.skip) task(arg, i + self.shifted, self.worker);
            if (i == self.twice) task(arg, i + self.shifted, self.worker);
        }
    }
};

attn_status run_with(Caller caller, Loop *loop, int64_t count)
{
    attn_options options = {};
    options.size = sizeof options;
    options.max_workers = 3;
    options.parallel_for = &Caller::run;
    options.parallel_ctx = &caller;
    attn_handle handle = nullptr;
    if (const attn_status status = attn_create(&options, &handle)) return status;
    const attn_status status = run_parallel(*handle, count, &Loop::task, loop);
    attn_destroy(handle);
    return status;
}

TEST(RunParallel, TakesACallersLoopAndChecksIt)
{
    Loop good(4, 3), other_worker(4, 3), missing(4, 3), twice(4, 3), out_of_range(4, 3), low(4, 3), high(4, 3);
    EXPECT_EQ(run_with({}, &good, 4), ATTN_OK);
    EXPECT_TRUE(good.is_complete());
    EXPECT_EQ(run_with({.worker = 2}, &other_worker, 4), ATTN_OK);
    EXPECT_TRUE(other_worker.is_complete());
    EXPECT_EQ(run_with({.skip = 3}, &missing, 4), ATTN_ERROR_INVALID);
    EXPECT_STREQ(attn_last_error(), "attn_options.parallel_for ran 3 tasks: must run each of 4 once");
    EXPECT_EQ(run_with({.twice = 1}, &twice, 4), ATTN_ERROR_INVALID);
    EXPECT_EQ(run_with({.shifted = 1}, &out_of_range, 4), ATTN_ERROR_INVALID);
    EXPECT_EQ(run_with({.worker = -1}, &low, 4), ATTN_ERROR_INVALID);
    EXPECT_TRUE(low.is_complete(0));
    EXPECT_EQ(run_with({.worker = 3}, &high, 4), ATTN_ERROR_INVALID);
    EXPECT_STREQ(attn_last_error(), "attn_options.parallel_for called a task with worker = 3: must be 0 .. 2");
    EXPECT_TRUE(high.is_complete(0));
}

} // namespace
} // namespace attn::test

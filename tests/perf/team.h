// A few threads that run the same function at the same time.
#ifndef ATTN_TESTS_PERF_TEAM_H
#define ATTN_TESTS_PERF_TEAM_H

#include <barrier>
#include <functional>
#include <thread>
#include <vector>

namespace attn::perf {

class Team {
public:
    explicit Team(int threads) : size_(threads), start_(threads), finish_(threads)
    {
        for (int worker = 1; worker < threads; ++worker) {
            threads_.emplace_back([this, worker] {
                for (;;) {
                    start_.arrive_and_wait();
                    if (!task_) return;
                    task_(worker);
                    finish_.arrive_and_wait();
                }
            });
        }
    }
    ~Team()
    {
        task_ = nullptr;
        start_.arrive_and_wait();
    }
    Team(const Team &) = delete;
    Team &operator=(const Team &) = delete;

    int size() const { return size_; }

    /// Calls task(0 .. size - 1), each on a thread of its own, 0 on the caller's; returns when all are done.
    void run(std::function<void(int)> task)
    {
        task_ = std::move(task);
        start_.arrive_and_wait();
        task_(0);
        finish_.arrive_and_wait();
    }

private:
    int size_;
    std::barrier<> start_, finish_;
    std::function<void(int)> task_;
    std::vector<std::jthread> threads_; // last: joined before what they use goes
};

} // namespace attn::perf

#endif

// A few threads that run the same function at the same time.
#ifndef ATTN_SRC_CLI_MEASURE_TEAM_H
#define ATTN_SRC_CLI_MEASURE_TEAM_H

#include <barrier>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

namespace attn::perf {

/// Share `worker` of `count` things: from the first, up to the second.
inline std::pair<int64_t, int64_t> share(int64_t count, int worker, int workers)
{
    return {count * worker / workers, count * (worker + 1) / workers};
}

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

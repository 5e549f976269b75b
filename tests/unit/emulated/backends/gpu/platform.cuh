// Stands in for backends/gpu/platform.cuh where a kernel runs on the host: a thread of the process for each thread of a
// block, blocks one after the other. No more than the kernel of mask programs needs.
#ifndef ATTN_TESTS_UNIT_EMULATED_PLATFORM_CUH
#define ATTN_TESTS_UNIT_EMULATED_PLATFORM_CUH

#include "backends/gpu/types.h"

#include <barrier>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define ATTN_DEVICE inline
#define __global__
#define __shared__ static
#define __grid_constant__
#define __launch_bounds__(threads)

namespace emulated {

struct Place {
    unsigned x = 0, y = 0;
};

/// The threads of one block.
class Block {
public:
    explicit Block(int threads)
        : all_(threads), votes_(static_cast<size_t>(threads)), values_(static_cast<size_t>(threads))
    {
        for (int warp = 0; warp < threads / 32; ++warp) warps_.push_back(std::make_unique<std::barrier<>>(32));
    }
    void wait() { all_.arrive_and_wait(); }
    void wait(unsigned thread) { warps_[thread / 32]->arrive_and_wait(); }
    bool vote(unsigned thread, bool value, bool any)
    {
        votes_[thread] = value;
        wait();
        bool result = !any;
        for (const char vote : votes_) result = any ? result || vote : result && vote;
        wait();
        return result;
    }
    unsigned ballot(unsigned thread, bool value)
    {
        votes_[thread] = value;
        wait(thread);
        unsigned word = 0;
        for (unsigned lane = 0; lane < 32; ++lane)
            word |= static_cast<unsigned>(votes_[thread / 32 * 32 + lane]) << lane;
        wait(thread);
        return word;
    }
    long long exchange(unsigned thread, long long value, unsigned other)
    {
        values_[thread] = value;
        wait(thread);
        const long long result = values_[other];
        wait(thread);
        return result;
    }

private:
    std::barrier<> all_;
    std::vector<std::unique_ptr<std::barrier<>>> warps_;
    std::vector<char> votes_;
    std::vector<long long> values_;
};

inline thread_local Place thread, block, grid;
inline Block *current = nullptr;

/// Runs a kernel on a grid.
template <class Kernel>
void launch(unsigned x, unsigned y, int threads, Kernel kernel)
{
    Block all(threads);
    current = &all;
    std::vector<std::thread> team;
    for (int t = 0; t < threads; ++t)
        team.emplace_back([&, t] {
            thread = {static_cast<unsigned>(t), 0}, grid = {x, y};
            for (block.y = 0; block.y < y; ++block.y)
                for (block.x = 0; block.x < x; ++block.x) {
                    all.wait(); // shared memory is free
                    kernel();
                }
        });
    for (std::thread &member : team) member.join();
}

} // namespace emulated

#define threadIdx ::emulated::thread
#define blockIdx ::emulated::block
#define gridDim ::emulated::grid

namespace attn::gpu {

constexpr u32 kAllLanes = 0xffffffffu;

inline int smaller(int a, int b)
{
    return a < b ? a : b;
}
inline int larger(int a, int b)
{
    return a > b ? a : b;
}
inline i64 read_integer(const char *p, bool wide)
{
    i64 value = 0;
    i32 narrow = 0;
    std::memcpy(wide ? static_cast<void *>(&value) : &narrow, p, wide ? 8 : 4);
    return wide ? value : narrow;
}

inline void __syncthreads()
{
    emulated::current->wait();
}
inline int __syncthreads_or(int x)
{
    return emulated::current->vote(threadIdx.x, x != 0, true);
}
inline int __syncthreads_and(int x)
{
    return emulated::current->vote(threadIdx.x, x != 0, false);
}
inline u32 __ballot_sync(u32, bool x)
{
    return emulated::current->ballot(threadIdx.x, x);
}
inline i64 __shfl_xor_sync(u32, i64 x, unsigned step)
{
    return emulated::current->exchange(threadIdx.x, x, threadIdx.x ^ step);
}

} // namespace attn::gpu

#endif

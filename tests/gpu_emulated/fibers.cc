#include "fibers.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <ucontext.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" {
alignas(1024) char shared[gpu_emulated::kSharedBytes];
}

namespace gpu_emulated {

Here here;

namespace {

constexpr std::size_t kStackBytes = std::size_t{256} << 10;
constexpr unsigned kWarp = 32;

// Threads that wait for each other. Those that ended are waited for no more.
struct Meeting {
    unsigned members = 0, arrived = 0;
    std::uint64_t round = 0;
};

struct Fiber {
    std::unique_ptr<char[]> stack{new char[kStackBytes]};
    ucontext_t context{};
    bool ended = false;
    const Meeting *waits = nullptr;
    std::uint64_t since = 0;
};

struct Warp {
    Meeting meeting;
    // By the parity of the operation: a lane is at most one ahead of the others.
    unsigned char bytes[2][kWarp * kLaneBytes];
};

class Block {
public:
    void run(unsigned threads, const std::function<void()> &kernel)
    {
        if (fibers_.size() < threads) fibers_.resize(threads);
        warps_.assign((threads + kWarp - 1) / kWarp, {});
        kernel_ = &kernel, votes_[0] = votes_[1] = {};
        all_ = {threads, 0, 0};
        for (unsigned t = 0; t < threads; ++t) {
            Fiber &f = fibers_[t];
            f.ended = false, f.waits = nullptr;
            getcontext(&f.context);
            f.context.uc_stack.ss_sp = f.stack.get(), f.context.uc_stack.ss_size = kStackBytes;
            f.context.uc_link = &scheduler_;
            makecontext(&f.context, reinterpret_cast<void (*)()>(entry), 0);
            ++warps_[t / kWarp].meeting.members;
        }
        for (unsigned left = threads; left > 0;) {
            bool moved = false;
            for (unsigned t = 0; t < threads; ++t) {
                Fiber &f = fibers_[t];
                if (f.ended || (f.waits && f.waits->round == f.since)) continue;
                moved = true;
                f.waits = nullptr;
                here.thread = {t, 0, 0};
                current_ = &f;
                enter(f);
                if (f.ended) --left;
            }
            if (!moved) {
                std::fprintf(stderr, "emulated GPU: threads wait for others that have ended\n");
                std::abort();
            }
        }
    }
    void wait(Meeting &m)
    {
        if (++m.arrived == m.members) return open(m);
        current_->waits = &m, current_->since = m.round;
        leave(*current_);
    }
    void wait() { wait(all_); }
    // By the parity of the round, like the bytes of a warp.
    bool vote(bool value, bool any)
    {
        const std::size_t set = all_.round & 1;
        votes_[set].any |= value, votes_[set].all &= value;
        wait();
        return any ? votes_[set].any : votes_[set].all;
    }
    const unsigned char *meet(const void *mine, std::size_t bytes)
    {
        const unsigned lane = here.thread.x % kWarp;
        Warp &warp = warps_[here.thread.x / kWarp];
        unsigned char *all = warp.bytes[warp.meeting.round & 1];
        std::memcpy(all + lane * kLaneBytes, mine, bytes);
        wait(warp.meeting);
        return all;
    }

private:
    struct Votes {
        bool any = false, all = true;
    };

    void open(Meeting &m)
    {
        m.arrived = 0, ++m.round;
        if (&m == &all_) votes_[m.round & 1] = {}; // everyone has read what was voted two rounds ago
    }
    static void entry()
    {
        finish_switch(nullptr);
        instance().body();
    }
    void body()
    {
        Fiber &f = *current_;
        (*kernel_)();
        f.ended = true;
        for (Meeting *m : {&warps_[here.thread.x / kWarp].meeting, &all_})
            if (--m->members == m->arrived && m->members > 0) open(*m);
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_start_switch_fiber(nullptr, scheduler_stack_, scheduler_bytes_);
#endif
    }

    // Switches, which a sanitizer is told of.
    void enter(Fiber &f)
    {
#if defined(__SANITIZE_ADDRESS__)
        void *fake = nullptr;
        __sanitizer_start_switch_fiber(&fake, f.stack.get(), kStackBytes);
        swapcontext(&scheduler_, &f.context);
        __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
        swapcontext(&scheduler_, &f.context);
#endif
    }
    void leave(Fiber &f)
    {
#if defined(__SANITIZE_ADDRESS__)
        void *fake = nullptr;
        __sanitizer_start_switch_fiber(&fake, scheduler_stack_, scheduler_bytes_);
        swapcontext(&f.context, &scheduler_);
        finish_switch(fake);
#else
        swapcontext(&f.context, &scheduler_);
#endif
    }
    static void finish_switch([[maybe_unused]] void *fake)
    {
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(fake, &instance().scheduler_stack_, &instance().scheduler_bytes_);
#endif
    }

public:
    static Block &instance()
    {
        static Block one;
        return one;
    }

private:
    std::vector<Fiber> fibers_;
    std::vector<Warp> warps_;
    Meeting all_;
    Votes votes_[2];
    ucontext_t scheduler_{};
    Fiber *current_ = nullptr;
    const std::function<void()> *kernel_ = nullptr;
    [[maybe_unused]] const void *scheduler_stack_ = nullptr;
    [[maybe_unused]] std::size_t scheduler_bytes_ = 0;
};

} // namespace

void run_kernel(Grid3 grid, unsigned threads, const std::function<void()> &kernel)
{
    here.grid = grid;
    for (here.block.z = 0; here.block.z < grid.z; ++here.block.z)
        for (here.block.y = 0; here.block.y < grid.y; ++here.block.y)
            for (here.block.x = 0; here.block.x < grid.x; ++here.block.x) {
                std::memset(shared, 0xff, kSharedBytes);
                Block::instance().run(threads, kernel);
            }
}

void meet_block()
{
    Block::instance().wait();
}
bool any_of_block(bool value)
{
    return Block::instance().vote(value, true);
}
bool all_of_block(bool value)
{
    return Block::instance().vote(value, false);
}
const unsigned char *meet_warp(const void *mine, std::size_t bytes)
{
    return Block::instance().meet(mine, bytes);
}

} // namespace gpu_emulated

// A handle made before fork() works in the child, which has none of its threads.
#include "core_call.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace attn::test {
namespace {

/// Runs `body` in a forked child, which fails if it takes half a minute. "" if it returned 0.
std::string in_child(const std::function<int()> &body)
{
    const pid_t child = fork();
    if (child < 0) return "fork() failed";
    if (child == 0) {
        alarm(30);
        _exit(body());
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) return "waitpid() failed";
    if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
    const int code = WEXITSTATUS(status);
    return code ? "exit " + std::to_string(code) : "";
}

/// Split keys, so both loops of an execute are run.
struct Decode {
    explicit Decode(int32_t workers) : handle(make_handle(workers))
    {
        call.plan(handle.get());
        EXPECT_EQ(call.execute(), ATTN_OK) << attn_last_error();
        expected = call.out();
    }
    /// 0 if an execute gives what it gave before.
    int repeat()
    {
        call.clear_out();
        if (call.execute() != ATTN_OK) return 1;
        return std::memcmp(call.out().data(), expected.data(), expected.size() * sizeof(float)) == 0 ? 0 : 2;
    }
    int repeat_and_destroy()
    {
        for (int round = 0; round < 3; ++round)
            if (const int code = repeat()) return code;
        handle.reset(); // the plan keeps what it needs
        if (const int code = repeat()) return code;
        call.destroy_plan();
        return 0;
    }

    Call call{{.batch = 2, .queries = 1, .keys = 4096, .heads = 2, .dim = 32}};
    Handle handle;
    std::vector<float> expected;
};

TEST(Fork, ChildExecutesAndDestroys)
{
    for (const int32_t workers : {1, 2, 5}) {
        Decode decode(workers);
        EXPECT_EQ(in_child([&] { return decode.repeat_and_destroy(); }), "") << workers << " workers";
        EXPECT_EQ(decode.repeat(), 0); // the parent's threads are untouched
        EXPECT_EQ(decode.repeat_and_destroy(), 0);
    }
}

TEST(Fork, GrandchildToo)
{
    Decode decode(3);
    EXPECT_EQ(in_child([&] {
                  if (const int code = decode.repeat()) return code;
                  return in_child([&] { return decode.repeat_and_destroy(); }).empty() ? 0 : 3;
              }),
              "");
}

TEST(Fork, ChildOfABusyPool)
{
    Decode decode(3);
    // Another thread keeps the pool in a loop; whatever it holds at the fork stays held in the child.
    std::atomic<bool> stop{false};
    std::thread busy([&] {
        std::vector<char> workspace(decode.call.workspace.size());
        std::vector<float> out(decode.expected.size());
        std::vector<attn_arg> args = decode.call.args;
        attn_tensor out_view = decode.call.tensor(ATTN_SLOT_OUT);
        out_view.data = out.data();
        for (attn_arg &arg : args)
            if (arg.slot == ATTN_SLOT_OUT) arg.tensor = &out_view;
        while (!stop.load()) decode.call.execute_with(args, workspace);
    });
    for (int round = 0; round < 20; ++round)
        EXPECT_EQ(in_child([&] { return decode.repeat_and_destroy(); }), "") << "round " << round;
    stop.store(true);
    busy.join();
    EXPECT_EQ(decode.repeat_and_destroy(), 0);
}

TEST(Fork, ChildMakesItsOwnHandle)
{
#if defined(__SANITIZE_THREAD__)
    std::printf("absent: threads in a forked child\n");
    GTEST_SKIP() << "absent: threads in a forked child";
#endif
    Decode decode(2);
    EXPECT_EQ(in_child([] { return Decode(3).repeat_and_destroy(); }), "");
    EXPECT_EQ(decode.repeat_and_destroy(), 0);
}

} // namespace
} // namespace attn::test

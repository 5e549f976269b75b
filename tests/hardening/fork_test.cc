// A child inherits a handle whose threads stayed with the parent: it plans, executes and destroys on it all the same,
// and can make handles of its own.
#include "linked.h"
#include "sanitizer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <functional>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace attn::hardening {
namespace {

attn_handle create(int32_t workers)
{
    attn_options options = {};
    options.size = sizeof options;
    options.max_workers = workers;
    attn_handle handle = nullptr;
    EXPECT_EQ(attn_create(&options, &handle), ATTN_OK) << attn_last_error();
    return handle;
}

/// Runs `body` in a child that fails if it takes a minute. "" if it returned 0.
std::string in_child(const std::function<int()> &body)
{
    const pid_t child = fork();
    if (child < 0) return "fork() failed";
    if (child == 0) {
        alarm(60);
        _exit(body());
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) return "waitpid() failed";
    if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
    return WEXITSTATUS(status) ? "exit " + std::to_string(WEXITSTATUS(status)) : "";
}

/// Samples with what they give.
struct Expected {
    explicit Expected(attn_handle handle)
    {
        for (const auto &sample : samples) {
            attn_plan plan = nullptr;
            EXPECT_EQ(sample->plan(kLinked, handle, &plan), ATTN_OK) << attn_last_error();
            Tensors tensors(kLinked, plan, 6);
            EXPECT_EQ(tensors.execute(), ATTN_OK) << attn_last_error();
            outputs.push_back(tensors.outputs());
            attn_plan_destroy(plan);
        }
    }
    /// 0 if planning and executing gives the same again.
    int repeat(attn_handle handle) const
    {
        for (size_t i = 0; i < samples.size(); ++i) {
            attn_plan plan = nullptr;
            if (samples[i]->plan(kLinked, handle, &plan) != ATTN_OK) return 1;
            Tensors tensors(kLinked, plan, 6);
            if (tensors.execute() != ATTN_OK) return 2;
            if (tensors.outputs() != outputs[i]) return 3;
            attn_plan_destroy(plan);
        }
        return 0;
    }

    std::vector<std::unique_ptr<Sample>> samples = make_samples();
    std::vector<std::vector<unsigned char>> outputs;
};

TEST(ForkedChild, PlansExecutesAndDestroys)
{
    for (const int32_t workers : {1, 3}) {
        const attn_handle handle = create(workers);
        const Expected expected(handle);
        EXPECT_EQ(in_child([&] {
                      if (const int code = expected.repeat(handle)) return code;
                      attn_destroy(handle);
                      return 0;
                  }),
                  "");
        EXPECT_EQ(expected.repeat(handle), 0);
        attn_destroy(handle);
    }
}

TEST(ForkedChild, MakesHandlesBesideTheInheritedOne)
{
#if defined(__SANITIZE_THREAD__)
    std::printf("absent: threads in a forked child\n");
    GTEST_SKIP() << "absent: threads in a forked child";
#endif
    const attn_handle handle = create(3);
    const Expected expected(handle);
    EXPECT_EQ(in_child([&] {
                  const attn_handle own = create(3);
                  if (const int code = expected.repeat(own)) return code;
                  attn_destroy(handle);
                  if (const int code = expected.repeat(own)) return 10 + code;
                  attn_destroy(own);
                  return 0;
              }),
              "");
    attn_destroy(handle);
}

TEST(ForkedChild, OfThreadsThatPlanAndExecute)
{
#if !ATTN_TEST_CAN_INTERPOSE
    // A fork may leave the locks of a sanitizer's allocator held; those of the C library it does not.
    std::printf("absent: allocations in a child of busy threads\n");
    GTEST_SKIP() << "absent: allocations in a child of busy threads";
#endif
    const attn_handle handle = create(3);
    const Expected expected(handle);
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 2; ++thread)
        threads.emplace_back([&] {
            while (!stop.load()) wrong += expected.repeat(handle) != 0;
        });
    for (int round = 0; round < 15; ++round)
        EXPECT_EQ(in_child([&] {
                      if (const int code = expected.repeat(handle)) return code;
                      attn_destroy(handle);
                      return 0;
                  }),
                  "")
            << "round " << round;
    stop.store(true);
    for (std::thread &thread : threads) thread.join();
    EXPECT_EQ(wrong.load(), 0);
    attn_destroy(handle);
}

} // namespace
} // namespace attn::hardening

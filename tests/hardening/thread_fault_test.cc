// The system refuses threads: attn_create() says so, and leaves none behind.
#include "linked.h"
#include "sanitizer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <dlfcn.h>
#include <filesystem>
#include <pthread.h>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace attn::hardening {
namespace {

std::atomic<int> started{0};
std::atomic<int> refused_at{-1}; ///< The thread to refuse, counted from 0; -1: none.

int64_t threads_of_process()
{
    int64_t count = 0;
    for (const auto &entry : std::filesystem::directory_iterator("/proc/self/task")) count += entry.exists();
    return count;
}

/// A joined thread may stay listed for a moment.
bool becomes(int64_t threads)
{
    for (int wait = 0; wait < 5000; ++wait) {
        if (threads_of_process() == threads) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
}

attn_status create(int32_t workers, attn_handle *handle)
{
    attn_options options = {};
    options.size = sizeof options;
    options.max_workers = workers;
    return attn_create(&options, handle);
}

std::vector<unsigned char> results(attn_handle handle, const Sample &sample)
{
    attn_plan plan = nullptr;
    EXPECT_EQ(sample.plan(kLinked, handle, &plan), ATTN_OK) << attn_last_error();
    if (!plan) return {};
    Tensors tensors(kLinked, plan, 3);
    EXPECT_EQ(tensors.execute(), ATTN_OK) << attn_last_error();
    attn_plan_destroy(plan);
    return tensors.outputs();
}

} // namespace

#if ATTN_TEST_CAN_INTERPOSE
extern "C" int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *arg)
{
    using Create = int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    static const Create create_thread = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
    if (started.fetch_add(1) == refused_at.load()) return EAGAIN;
    return create_thread(thread, attributes, body, arg);
}
#endif

namespace {

TEST(ThreadFaults, EachThreadOnce)
{
#if !ATTN_TEST_CAN_INTERPOSE
    std::printf("absent: a pthread_create() that fails\n");
    GTEST_SKIP() << "absent: a pthread_create() that fails";
#endif
    constexpr int32_t kWorkers = 6;
    const int64_t before = threads_of_process();
    const auto samples = make_samples();
    std::vector<unsigned char> expected;
    for (int n = 0; n <= kWorkers; ++n) {
        attn_handle handle = nullptr;
        started.store(0);
        refused_at.store(n);
        const attn_status status = create(kWorkers, &handle);
        refused_at.store(-1);
        if (n < kWorkers - 1) {
            EXPECT_EQ(status, ATTN_ERROR_RUNTIME) << n;
            EXPECT_EQ(handle, nullptr);
            const std::string message = attn_last_error();
            EXPECT_NE(message.find("attn_options.max_workers = 6"), std::string::npos) << message;
            EXPECT_NE(message.find("the system refused a thread"), std::string::npos) << message;
            EXPECT_TRUE(becomes(before)) << threads_of_process() << " threads after thread " << n << " was refused";
            ASSERT_EQ(create(kWorkers, &handle), ATTN_OK) << attn_last_error();
        } else {
            ASSERT_EQ(status, ATTN_OK) << attn_last_error();
        }
        const std::vector<unsigned char> got = results(handle, *samples[4]);
        if (expected.empty()) expected = got;
        EXPECT_EQ(got, expected);
        attn_destroy(handle);
        EXPECT_TRUE(becomes(before));
    }
}

TEST(ThreadFaults, NoAddressSpaceForStacks)
{
#if !ATTN_TEST_CAN_INTERPOSE
    std::printf("absent: a limit of the address space\n");
    GTEST_SKIP() << "absent: a limit of the address space";
#endif
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        alarm(60);
        const rlimit limit = {256 << 20, 256 << 20};
        if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(2);
        attn_handle handle = nullptr;
        const attn_status status = create(1000, &handle); // stacks of 8 MiB
        if (status != ATTN_ERROR_RUNTIME && status != ATTN_ERROR_MEMORY) _exit(3);
        if (handle || attn_last_error()[0] == '\0') _exit(4);
        if (create(2, &handle) != ATTN_OK) _exit(5);
        const auto samples = make_samples();
        _exit(results(handle, *samples[0]).empty() ? 6 : 0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

} // namespace
} // namespace attn::hardening

// One handle, one plan, many threads. Results are those of one thread; data races are what ThreadSanitizer finds here.
#include "linked.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace attn::hardening {
namespace {

constexpr int kThreads = 6;

attn_handle create(int32_t workers)
{
    attn_options options = {};
    options.size = sizeof options;
    options.max_workers = workers;
    attn_handle handle = nullptr;
    EXPECT_EQ(attn_create(&options, &handle), ATTN_OK) << attn_last_error();
    return handle;
}

/// Runs body(thread) on every thread, all from the same moment on.
template <class Body>
void on_threads(Body body)
{
    std::atomic<int> ready{0};
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread)
        threads.emplace_back([&, thread] {
            ready.fetch_add(1);
            while (ready.load() < kThreads) std::this_thread::yield();
            body(thread);
        });
    for (std::thread &thread : threads) thread.join();
}

std::vector<unsigned char> results(attn_plan plan, uint64_t seed)
{
    Tensors tensors(kLinked, plan, seed);
    if (tensors.execute() != ATTN_OK) return {};
    return tensors.outputs();
}

class Concurrency : public testing::TestWithParam<int32_t> {};

TEST_P(Concurrency, OnePlanOfEveryKind)
{
    const attn_handle handle = create(GetParam());
    for (const auto &sample : make_samples()) {
        SCOPED_TRACE(sample->name);
        attn_plan plan = nullptr;
        ASSERT_EQ(sample->plan(kLinked, handle, &plan), ATTN_OK) << attn_last_error();
        std::vector<std::vector<unsigned char>> expected;
        for (uint64_t seed = 0; seed < 3; ++seed) expected.push_back(results(plan, seed));
        for (const auto &outputs : expected) ASSERT_FALSE(outputs.empty()) << attn_last_error();
        std::atomic<int> different{0};
        on_threads([&](int thread) {
            const uint64_t seed = static_cast<uint64_t>(thread) % 3;
            Tensors tensors(kLinked, plan, seed); // and so a workspace of its own
            for (int round = 0; round < 20; ++round) {
                tensors.reset();
                different += tensors.execute() != ATTN_OK || tensors.outputs() != expected[seed];
            }
        });
        EXPECT_EQ(different.load(), 0);
        attn_plan_destroy(plan);
    }
    attn_destroy(handle);
}

TEST_P(Concurrency, PlanningExecutingDescribingAndDestroyingOnOneHandle)
{
    const attn_handle handle = create(GetParam());
    const auto samples = make_samples();
    std::vector<std::vector<unsigned char>> expected;
    for (const auto &sample : samples) {
        attn_plan plan = nullptr;
        ASSERT_EQ(sample->plan(kLinked, handle, &plan), ATTN_OK) << attn_last_error();
        expected.push_back(results(plan, 9));
        attn_plan_destroy(plan);
    }
    std::atomic<int> wrong{0};
    on_threads([&](int thread) {
        for (size_t round = 0; round < 30; ++round) {
            const size_t i = (round + static_cast<size_t>(thread)) % samples.size();
            attn_plan plan = nullptr;
            if (samples[i]->supports(kLinked, handle) != ATTN_OK ||
                samples[i]->plan(kLinked, handle, &plan) != ATTN_OK) {
                wrong.fetch_add(1);
                continue;
            }
            wrong += results(plan, 9) != expected[i];
            size_t needed = 0;
            wrong += attn_plan_describe(plan, nullptr, 0, &needed) != ATTN_OK || needed < 10;
            attn_plan_destroy(plan);
        }
    });
    EXPECT_EQ(wrong.load(), 0);
    attn_destroy(handle);
}

TEST_P(Concurrency, TheHandleGoesWhilePlansAreInUse)
{
    for (int round = 0; round < 5; ++round) {
        const attn_handle handle = create(GetParam());
        const auto samples = make_samples();
        std::vector<attn_plan> plans(kThreads, nullptr);
        for (size_t i = 0; i < plans.size(); ++i)
            ASSERT_EQ(samples[i]->plan(kLinked, handle, &plans[i]), ATTN_OK) << attn_last_error();
        std::atomic<int> wrong{0};
        on_threads([&](int thread) {
            const attn_plan plan = plans[static_cast<size_t>(thread)];
            if (thread == round) attn_destroy(handle);
            const std::vector<unsigned char> first = results(plan, 2);
            wrong += first.empty() || results(plan, 2) != first;
            attn_plan_destroy(plan); // the last of them ends the threads of the handle
        });
        EXPECT_EQ(wrong.load(), 0);
    }
}

TEST_P(Concurrency, HandlesComeAndGo)
{
    const auto samples = make_samples();
    std::atomic<int> wrong{0};
    on_threads([&](int thread) {
        for (int round = 0; round < 6; ++round) {
            const attn_handle handle = create(GetParam());
            attn_plan plan = nullptr;
            if (samples[static_cast<size_t>(thread)]->plan(kLinked, handle, &plan) != ATTN_OK) wrong.fetch_add(1);
            attn_destroy(handle);
            wrong += results(plan, 1).empty();
            attn_plan_destroy(plan);
        }
    });
    EXPECT_EQ(wrong.load(), 0);
}

TEST_P(Concurrency, EachThreadHasItsOwnError)
{
    const attn_handle handle = create(GetParam());
    const auto samples = make_samples();
    attn_plan plan = nullptr;
    ASSERT_EQ(samples[0]->plan(kLinked, handle, &plan), ATTN_OK);
    std::atomic<int> wrong{0};
    on_threads([&](int thread) {
        Sample bad("bad", ATTN_KIND_DENSE);
        Tensors tensors(kLinked, plan, 1);
        for (int round = 0; round < 200; ++round) {
            const int64_t value = 1000 * thread + round + 1;
            bad.problem.heads_q = -value;
            attn_plan none = nullptr;
            wrong += bad.plan(kLinked, handle, &none) != ATTN_ERROR_INVALID;
            wrong += std::string(attn_last_error()).find("attn_problem.heads_q = -" + std::to_string(value) + ":") ==
                     std::string::npos;
            tensors.find(ATTN_SLOT_Q)->shape[3] = value + 100000;
            wrong += tensors.execute() != ATTN_ERROR_INVALID;
            char copy[256];
            attn_last_error_copy(copy, sizeof copy);
            wrong +=
                std::string(copy).find("Q.shape[3] = " + std::to_string(value + 100000) + ":") == std::string::npos;
        }
    });
    EXPECT_EQ(wrong.load(), 0);
    attn_plan_destroy(plan);
    attn_destroy(handle);
}

INSTANTIATE_TEST_SUITE_P(Workers, Concurrency, testing::Values(1, 3),
                         [](const testing::TestParamInfo<int32_t> &info) { return std::to_string(info.param); });

} // namespace
} // namespace attn::hardening

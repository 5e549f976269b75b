// A caller's parallel_for: used, with right results, and every way to break its contract noticed.

#include "abi_fixture.h"

#include <atomic>
#include <functional>
#include <thread>

namespace {

using caller::Dense;
using caller::Execution;
using caller::Parts;

/// What the loop of a test does, given as a function.
struct Loop {
    std::function<void(int64_t count, attn_task task, void *arg)> body;
    int calls = 0;
    int64_t largest = 0;

    static void ATTN_CALL run(void *ctx, int64_t count, attn_task task, void *arg)
    {
        Loop &loop = *static_cast<Loop *>(ctx);
        ++loop.calls;
        loop.largest = std::max(loop.largest, count);
        loop.body(count, task, arg);
    }
    attn_options options(int32_t workers)
    {
        attn_options options = caller::Handle::workers(workers);
        options.parallel_for = run, options.parallel_ctx = this;
        return options;
    }
};

TEST(ParallelFor, IsUsedAndGivesRightResults)
{
    Loop loop;
    const attn_options options = loop.options(4);
    const caller::Handle handle(&options);
    Dense desc;
    const caller::Plan plan(handle, desc);
    const struct {
        const char *name;
        std::function<void(int64_t, attn_task, void *)> body;
    } loops[] = {
        {"in order",
         [](int64_t count, attn_task task, void *arg) {
             for (int64_t i = 0; i < count; ++i) task(arg, i, 0);
         }},
        {"backwards, workers in turn",
         [](int64_t count, attn_task task, void *arg) {
             for (int64_t i = count; i-- > 0;) task(arg, i, static_cast<int32_t>(i % 4));
         }},
        {"four threads",
         [](int64_t count, attn_task task, void *arg) {
             std::atomic<int64_t> next{0};
             std::vector<std::thread> threads;
             for (int32_t worker = 0; worker < 4; ++worker)
                 threads.emplace_back([&, worker] {
                     for (int64_t i; (i = next.fetch_add(1)) < count;) task(arg, i, worker);
                 });
             for (std::thread &thread : threads) thread.join();
         }},
    };
    for (const auto &entry : loops) {
        SCOPED_TRACE(entry.name);
        loop.body = entry.body;
        loop.calls = 0, loop.largest = 0;
        Execution e(plan.workspace());
        ASSERT_TRUE(e.served(plan));
        EXPECT_TRUE(caller::is_near(e.out_memory.floats(), caller::reference(e)));
        EXPECT_GE(loop.calls, 1);
        EXPECT_GT(loop.largest, 1);
    }
}

TEST(ParallelFor, AgreesWithTheThreadsOfTheHandle)
{
    Loop loop;
    loop.body = [](int64_t count, attn_task task, void *arg) {
        for (int64_t i = 0; i < count; ++i) task(arg, i, static_cast<int32_t>(i % 3));
    };
    const attn_options own = caller::Handle::workers(3), given = loop.options(3);
    const caller::Handle pool(&own), callers(&given);
    Dense desc;
    // Few queries and many keys: the keys are split, and a second loop merges the parts.
    desc.binds.clear();
    desc.problem.batch = 1, desc.problem.max_q = 1, desc.problem.max_kv = 5000;
    const std::vector<float> q = caller::filled(32, 1), k = caller::filled(5000 * 16, 2),
                             v = caller::filled(5000 * 8, 3);
    std::vector<float> results[2];
    for (const attn_handle handle : {attn_handle(pool), attn_handle(callers)}) {
        const caller::Plan plan(handle, desc);
        std::vector<float> &out = results[handle == attn_handle(callers)];
        out.assign(16, -9);
        std::vector<char> workspace(plan.workspace());
        const attn_tensor views[] = {attn_tensor_4d(q.data(), ATTN_FLOAT32, 1, 1, 4, 8),
                                     attn_tensor_4d(k.data(), ATTN_FLOAT32, 1, 5000, 2, 8),
                                     attn_tensor_4d(v.data(), ATTN_FLOAT32, 1, 5000, 2, 4),
                                     attn_tensor_4d(out.data(), ATTN_FLOAT32, 1, 1, 4, 4)};
        std::vector<attn_arg> args;
        for (int slot = 0; slot < 4; ++slot) args.push_back({ATTN_SLOT_Q + slot, 0, &views[slot]});
        ASSERT_TRUE(caller::succeeds(attn_execute(plan, args.data(), 4, workspace.data(), workspace.size(), nullptr)));
    }
    EXPECT_EQ(loop.calls, 2) << "one loop over the parts, one that merges them";
    EXPECT_EQ(results[0], results[1]);
}

struct Broken {
    const char *name;
    std::function<void(int64_t count, attn_task task, void *arg)> body;
    Parts parts;
};

void expect_broken(const std::vector<Broken> &table)
{
    Loop loop;
    const attn_options options = loop.options(3);
    const caller::Handle handle(&options);
    Dense desc;
    const caller::Plan plan(handle, desc);
    for (const Broken &broken : table) {
        SCOPED_TRACE(broken.name);
        loop.body = broken.body;
        Execution e(plan.workspace());
        EXPECT_TRUE(caller::fails(e.run(plan), ATTN_ERROR_INVALID, broken.parts));
        EXPECT_TRUE(e.out_memory.guards_untouched() && e.lse_memory.guards_untouched() &&
                    e.workspace.guards_untouched());
    }
    loop.body = [](int64_t count, attn_task task, void *arg) {
        for (int64_t i = 0; i < count; ++i) task(arg, i, 2);
    };
    Execution e(plan.workspace()); // the plan is as good as before
    ASSERT_TRUE(e.served(plan));
    EXPECT_TRUE(caller::is_near(e.out_memory.floats(), caller::reference(e)));
}

TEST(ParallelFor, BrokenContracts)
{
    const auto with_worker = [](int32_t worker) {
        return [worker](int64_t count, attn_task task, void *arg) {
            for (int64_t i = 0; i < count; ++i) task(arg, i, i + 1 == count ? worker : 0);
        };
    };
    expect_broken({
        {"worker 3 of 3", with_worker(3), {"attn_options.parallel_for", "worker = 3", "0 .. 2"}},
        {"worker -1", with_worker(-1), {"attn_options.parallel_for", "worker = -1", "0 .. 2"}},
        {"worker INT32_MAX", with_worker(INT32_MAX), {"worker = 2147483647"}},
        {"no task", [](int64_t, attn_task, void *) {}, {"attn_options.parallel_for ran 0 tasks", "each of"}},
        {"last left out",
         [](int64_t count, attn_task task, void *arg) {
             for (int64_t i = 0; i + 1 < count; ++i) task(arg, i, 0);
         },
         {"attn_options.parallel_for ran", "each of"}},
        {"first repeated",
         [](int64_t count, attn_task task, void *arg) {
             for (int64_t i = 0; i < count; ++i) task(arg, i, 0);
             task(arg, 0, 0);
         },
         {"attn_options.parallel_for ran", "each of"}},
        {"one too many",
         [](int64_t count, attn_task task, void *arg) {
             for (int64_t i = 0; i <= count; ++i) task(arg, i, 0);
         },
         {"attn_options.parallel_for called task", "0 .."}},
        {"task -1",
         [](int64_t count, attn_task task, void *arg) {
             for (int64_t i = -1; i < count; ++i) task(arg, i, 0);
         },
         {"attn_options.parallel_for called task -1"}},
    });
}

TEST(ParallelFor, OneTaskForAnother)
{
    expect_broken({
        {"only the first",
         [](int64_t count, attn_task task, void *arg) {
             for (int64_t i = 0; i < count; ++i) task(arg, 0, 0);
         },
         {"attn_options.parallel_for", "each of"}},
        {"first for last",
         [](int64_t count, attn_task task, void *arg) {
             for (int64_t i = 0; i < count; ++i) task(arg, i + 1 == count ? 0 : i, 0);
         },
         {"attn_options.parallel_for", "each of"}},
    });
}

TEST(ParallelFor, TaskOfTheLowestNumber)
{
    expect_broken({
        {"task INT64_MIN",
         [](int64_t count, attn_task task, void *arg) {
             task(arg, INT64_MIN, 0);
             for (int64_t i = 0; i < count; ++i) task(arg, i, 0);
         },
         {"attn_options.parallel_for called task -9223372036854775808"}},
    });
}

} // namespace

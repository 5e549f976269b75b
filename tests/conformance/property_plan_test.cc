// Plans: several sizes, several threads, the caller's loop, a forked child; and calls with nothing to do.
#include "property.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>

namespace conformance {
namespace {

TEST(PropertyPlan, OnePlanServesSmallerSizes)
{
    for (const Case &largest : sample(60, 25, [](Case &) {})) {
        ATTN_TRACE_CASE(largest);
        const Bounds bounds = Instance(largest, draw_contents(largest), 0).bounds();
        for_each_backend([&](const Backend &backend) {
            const PlanPointer plan = plan_for(backend.handle(largest.workers), largest, bounds);
            ASSERT_TRUE(plan);
            Random random(largest.seed, 61);
            for (int n = 0; n < 6; ++n) {
                Case c = largest;
                c.batch = random.integer(0, bounds.batch), c.max_q = random.integer(0, bounds.max_q);
                c.max_kv = random.integer(0, bounds.max_kv), c.seed += std::uint64_t(n);
                if (c.products() > 1e7) continue;
                Instance instance(c, draw_contents(c), 0);
                const Bounds need = instance.actual();
                if (need.max_kv > bounds.max_kv || (c.q_packed() && need.total_q > bounds.total_q) ||
                    (c.kv_packed() && need.total_kv > bounds.total_kv))
                    continue;
                SCOPED_TRACE(to_json(c));
                const auto kind = n % 2 ? WorkspaceSize::bound : WorkspaceSize::for_actual_sizes;
                EXPECT_EQ(execute(plan.get(), instance, kind), "");
                EXPECT_EQ(compare(instance, reference(c, instance.contents())).broken, "");
            }
        });
    }
}

TEST(PropertyPlan, ConcurrentExecutesGiveTheSameBits)
{
    for (const Case &c : sample(62, 10, [](Case &) {})) {
        ATTN_TRACE_CASE(c);
        const auto contents = draw_contents(c);
        for_each_backend([&](const Backend &backend) {
            Instance alone(c, contents, 0);
            const PlanPointer plan = plan_for(backend.handle(c.workers), alone);
            ASSERT_TRUE(plan);
            const Output expected = run(plan.get(), alone);
            std::atomic<int> different = 0;
            std::vector<std::thread> threads;
            for (int n = 0; n < 4; ++n)
                threads.emplace_back([&] {
                    Instance own(c, contents, 0);
                    for (int again = 0; again < 3; ++again) {
                        own.poison_outputs();
                        if (!execute(plan.get(), own).empty() || !same_bits(expected, output_of(own))) ++different;
                    }
                });
            for (std::thread &thread : threads) thread.join();
            EXPECT_EQ(different, 0);
        });
    }
}

// Loops that a caller may bring. Workers are numbers below max_workers that no two tasks have at a time.
void ATTN_CALL loop_in_order(void *, std::int64_t count, attn_task task, void *arg)
{
    for (std::int64_t n = 0; n < count; ++n) task(arg, n, 0);
}

void ATTN_CALL loop_backwards(void *, std::int64_t count, attn_task task, void *arg)
{
    for (std::int64_t n = count; n > 0; --n) task(arg, n - 1, static_cast<std::int32_t>(n % 3));
}

void ATTN_CALL loop_on_threads(void *, std::int64_t count, attn_task task, void *arg)
{
    std::atomic<std::int64_t> next = 0;
    std::vector<std::thread> threads;
    for (std::int32_t worker = 0; worker < 3; ++worker)
        threads.emplace_back([&, worker] {
            for (std::int64_t n; (n = next++) < count;) task(arg, n, worker);
        });
    for (std::thread &thread : threads) thread.join();
}

TEST(PropertyPlan, TheCallersLoopGivesTheBitsOfThePool)
{
    if (on_gpu()) GTEST_SKIP() << "loops are of the CPU";
    for (const Case &c : sample(63, 20, [](Case &x) { x.workers = 3; })) {
        ATTN_TRACE_CASE(c);
        Instance instance(c, draw_contents(c), 0);
        for_each_backend([&](const Backend &backend) {
            const Output expected = run_alone(backend, instance);
            for (attn_parallel_for loop : {loop_in_order, loop_backwards, loop_on_threads}) {
                attn_options options{};
                options.max_workers = 3, options.parallel_for = loop;
                std::string why;
                const HandlePointer handle = backend.create(options, why);
                ASSERT_TRUE(handle) << why;
                const PlanPointer plan = plan_for(handle.get(), instance);
                ASSERT_TRUE(plan);
                EXPECT_TRUE(same_bits(expected, run(plan.get(), instance)));
            }
        });
    }
}

TEST(PropertyPlan, PlansOutliveTheirHandle)
{
    const Case c = sample(64, 1, [](Case &x) { x.workers = 2; })[0];
    ATTN_TRACE_CASE(c);
    Instance instance(c, draw_contents(c), 0);
    for_each_backend([&](const Backend &backend) {
        attn_options options{};
        options.max_workers = 2;
        std::string why;
        HandlePointer handle = backend.create(options, why);
        ASSERT_TRUE(handle) << why;
        const PlanPointer plan = plan_for(handle.get(), instance);
        handle.reset();
        ASSERT_TRUE(plan);
        EXPECT_TRUE(same_bits(run_alone(backend, instance), run(plan.get(), instance)));
    });
}

TEST(PropertyPlan, AForkedChildComputesTheSame)
{
    if (on_gpu()) GTEST_SKIP() << "a GPU is refused in a forked child, see tests/gpu";
    for (const Case &c : sample(65, 4, [](Case &x) { x.workers = 3; })) {
        ATTN_TRACE_CASE(c);
        Instance instance(c, draw_contents(c), 0);
        for_each_backend([&](const Backend &backend) {
            const PlanPointer plan = plan_for(backend.handle(c.workers), instance);
            ASSERT_TRUE(plan);
            const Output expected = run(plan.get(), instance);
            const pid_t child = fork();
            ASSERT_GE(child, 0);
            if (child == 0) {
                alarm(60); // a child that waits for the parent's threads would wait for ever
                instance.poison_outputs();
                if (!execute(plan.get(), instance).empty()) _exit(2);
                _exit(same_bits(expected, output_of(instance)) ? 0 : 3);
            }
            int status = 0;
            ASSERT_EQ(waitpid(child, &status, 0), child);
            EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
            EXPECT_EQ(WEXITSTATUS(status), 0) << "2: an error, 3: other bits";
        });
    }
}

TEST(PropertyPlan, NothingToDo)
{
    // Every way of giving lengths, with no batch, no queries, no keys, and sequences of no length.
    int run_count = 0;
    for (const char *q : {"dense", "cu", "seqlens", "cu+seqlens"})
        for (const char *kv :
             {"dense", "cu", "seqlens", "cu+seqlens", "paged", "paged+seqlens", "paged+ptr", "paged+ptr+seqlens"})
            for (const char *causal : {"none", "bottom_right", "by_position"})
                for (int empty = 0; empty < 8; ++empty) {
                    Case c;
                    c.seed = session().seed + std::uint64_t(++run_count), c.q_lengths = q, c.kv_lengths = kv;
                    c.causal = causal, c.page_size = 4, c.dim_qk = c.dim_v = 8;
                    c.batch = empty & 1 ? 0 : 2, c.max_q = empty & 2 ? 0 : 5, c.max_kv = empty & 4 ? 0 : 9;
                    auto contents = draw_contents(c);
                    if (empty == 0) { // the first sequence has no queries and the second no keys, where lengths say so
                        if (c.q_packed() || c.q_shortened()) {
                            Content &x = contents[0];
                            x.used.tq = 0, x.used.q.clear(), x.used.positions_q.clear();
                            if (c.q_packed()) x.q_rows = 0;
                        }
                        if (c.kv_packed() || c.kv_shortened() || c.flat_table()) {
                            Content &x = contents[1];
                            x.used.tk = 0, x.used.k.clear(), x.used.v.clear(), x.used.positions_kv.clear();
                            if (c.kv_packed() || c.paged()) x.k_rows = 0;
                        }
                    }
                    ATTN_TRACE_CASE(c);
                    Instance instance(c, contents, 0);
                    const std::vector<Result> expected = reference(c, contents);
                    for_each_backend([&](const Backend &backend) {
                        const PlanPointer plan = plan_for(backend.handle(c.workers), instance);
                        ASSERT_TRUE(plan);
                        instance.poison_outputs();
                        EXPECT_EQ(execute(plan.get(), instance), "");
                        EXPECT_EQ(compare(instance, expected).broken, "");
                    });
                }
}

// Rows of keys that are too long for a thread to keep their weights, beside short ones: the plan's bounds decide.
TEST(PropertyPlan, ColumnMassOfLongAndShortSequences)
{
    for (const int invariant : {0, 1}) {
        Case c;
        c.seed = session().seed, c.batch = 3, c.heads_q = 2, c.heads_k = c.heads_v = 1, c.dim_qk = c.dim_v = 8;
        c.max_q = 200, c.max_kv = 10500, c.kv_lengths = "cu", c.column_mass = 1, c.sink_logits = 1;
        c.causal = "bottom_right", c.workers = 1 + invariant, c.batch_invariant = invariant;
        ATTN_TRACE_CASE(c);
        std::vector<Content> contents = draw_contents(c);
        for (std::size_t b = 1; b < contents.size(); ++b) {
            Content &content = contents[b];
            Sequence &s = content.used;
            content.k_rows = s.tk = std::min<std::int64_t>(s.tk, 300 * static_cast<std::int64_t>(b));
            s.k.resize(s.tk * s.heads_k * s.dim_qk), s.v.resize(s.tk * s.heads_v * s.dim_v);
        }
        Instance instance(c, contents, 0);
        const std::vector<Result> expected = reference(c, contents);
        Bounds bounds = instance.bounds();
        bounds.max_q = 400, bounds.max_kv = bounds.total_kv = 60000;
        for_each_backend([&](const Backend &backend) {
            const PlanPointer plan = plan_for(backend.handle(c.workers), c, bounds);
            ASSERT_TRUE(plan);
            const Output whole = run(plan.get(), instance);
            EXPECT_EQ(compare(instance, expected).broken, "");
            for (std::size_t b = 0; invariant && b < contents.size(); ++b) {
                Case alone = c;
                alone.batch = 1;
                Instance single(alone, {contents[b]}, 0);
                EXPECT_TRUE(same_bits(whole.mass[b], run(plan.get(), single).mass[0])) << "sequence " << b;
            }
        });
    }
}

TEST(PropertyPlan, LargeScoresNeitherOverflowNorLoseTheMaximum)
{
    // Scores up to some hundred. Each is one product, so that nothing cancels and the usual tolerances hold; but 16-bit
    // outputs, since the rounding of scale alone moves such a score by more than float32 resolves.
    const auto change = [](Case &c) {
        if (c.out_dtype == "fp32") c.out_dtype = c.seed % 2 ? "fp16" : "bf16";
        c.scale_factor = c.seed % 3 ? 0 : -1;
    };
    for (const Case &c : sample(66, 30, change)) {
        ATTN_TRACE_CASE(c);
        auto contents = draw_contents(c);
        for (std::size_t b = 0; b < contents.size(); ++b) {
            Random random(c.seed, 67, b);
            Sequence &s = contents[b].used;
            const double step = std::exp2(std::round(std::log2(32 * std::sqrt(static_cast<double>(c.dim_qk)))));
            for (double &x : s.q) x = step * static_cast<double>(random.integer(-2, 2));
            std::fill(s.k.begin(), s.k.end(), 0.0);
            for (std::int64_t j = 0; j < s.tk; ++j) { // one channel of each key, the same in all heads
                const std::int64_t channel = random.integer(0, c.dim_qk - 1);
                const double value = static_cast<double>(random.integer(-1, 1));
                for (std::int64_t h = 0; h < c.heads_k; ++h) s.k[(j * c.heads_k + h) * c.dim_qk + channel] = value;
            }
        }
        Instance instance(c, contents, 0);
        const std::vector<Result> expected = reference(c, contents);
        for_each_backend([&](const Backend &backend) {
            run_alone(backend, instance);
            EXPECT_EQ(compare(instance, expected).broken, "");
        });
    }
}

} // namespace
} // namespace conformance

// What must not change a single bit: running again, where pages lie, the order of the batch, the rest of the batch.
#include "property.h"

#include <algorithm>
#include <cmath>

namespace conformance {
namespace {

TEST(PropertyBits, RunningAgain)
{
    for (const Case &c : sample(1, 40, [](Case &) {})) {
        ATTN_TRACE_CASE(c);
        Instance instance(c, draw_contents(c), 0);
        for_each_backend([&](const Backend &backend) {
            const PlanPointer plan = plan_for(backend.handle(c.workers), instance);
            ASSERT_TRUE(plan);
            const Output first = run(plan.get(), instance);
            for (int again = 0; again < 3; ++again) EXPECT_TRUE(same_bits(first, run(plan.get(), instance)));
            EXPECT_TRUE(same_bits(first, run_alone(backend, instance))) << "another plan of the same descriptor";
        });
    }
}

TEST(PropertyBits, WhereTheWorkspaceIsLarger)
{
    // A workspace of the bound and one of the actual need hold the same computation.
    for (const Case &c : sample(2, 20, [](Case &x) { x.bounds = "loose"; })) {
        ATTN_TRACE_CASE(c);
        Instance instance(c, draw_contents(c), 0);
        for_each_backend([&](const Backend &backend) {
            const PlanPointer plan = plan_for(backend.handle(c.workers), instance);
            ASSERT_TRUE(plan);
            const Output first = run(plan.get(), instance);
            instance.poison_outputs();
            EXPECT_EQ(execute(plan.get(), instance, WorkspaceSize::for_actual_sizes), "");
            EXPECT_TRUE(same_bits(first, output_of(instance)));
        });
    }
}

TEST(PropertyBits, OrderOfPages)
{
    for (const Case &c : sample(
             3, 30, [](Case &) {}, [](const Case &x) { return x.paged(); })) {
        ATTN_TRACE_CASE(c);
        const auto contents = draw_contents(c);
        Instance first(c, contents, 0);
        const Bounds bounds = first.bounds();
        for_each_backend([&](const Backend &backend) {
            const PlanPointer plan = plan_for(backend.handle(c.workers), first);
            ASSERT_TRUE(plan);
            const Output expected = run(plan.get(), first);
            for (std::uint64_t placement = 1; placement < 4; ++placement) {
                Instance other(c, contents, placement);
                if (c.q_packed() && other.bounds().total_q > bounds.total_q) continue; // more margin than planned for
                EXPECT_TRUE(same_bits(expected, run(plan.get(), other)));
            }
        });
    }
}

TEST(PropertyBits, OrderOfTheBatch)
{
    const auto change = [](Case &c) { c.batch = 2 + std::int64_t(c.seed % 4); };
    for (const Case &c : sample(4, 40, change)) {
        ATTN_TRACE_CASE(c);
        const auto contents = draw_contents(c);
        auto rotated = contents;
        std::rotate(rotated.begin(), rotated.begin() + 1, rotated.end());
        Instance first(c, contents, 0), second(c, rotated, 0);
        for_each_backend([&](const Backend &backend) {
            const PlanPointer plan = plan_for(backend.handle(c.workers), first);
            ASSERT_TRUE(plan);
            const Output expected = run(plan.get(), first), got = run(plan.get(), second);
            for (std::size_t b = 0; b < contents.size(); ++b) {
                const std::size_t at = (b + contents.size() - 1) % contents.size();
                EXPECT_TRUE(same_bits(expected.out[b], got.out[at])) << "sequence " << b;
                EXPECT_TRUE(same_bits(expected.lse[b], got.lse[at])) << "sequence " << b;
                EXPECT_TRUE(same_bits(expected.mass[b], got.mass[at])) << "sequence " << b;
            }
        });
    }
}

TEST(PropertyBits, RestOfTheBatchIfBatchInvariant)
{
    const auto change = [](Case &c) { c.batch = 2 + std::int64_t(c.seed % 4), c.batch_invariant = 1; };
    for (const Case &c : sample(5, 40, change)) {
        ATTN_TRACE_CASE(c);
        const auto contents = draw_contents(c);
        Instance whole(c, contents, 0);
        for_each_backend([&](const Backend &backend) {
            const PlanPointer plan = plan_for(backend.handle(c.workers), whole);
            ASSERT_TRUE(plan);
            const Output expected = run(plan.get(), whole);
            for (std::size_t b = 0; b < contents.size(); ++b) {
                Case alone = c;
                alone.batch = 1;
                Instance instance(alone, {contents[b]}, 0);
                const Bounds need = instance.actual(), have = whole.bounds();
                if (need.total_q > have.total_q || need.total_kv > have.total_kv) continue; // margins of packed rows
                const Output got = run(plan.get(), instance);
                EXPECT_TRUE(same_bits(expected.out[b], got.out[0])) << "sequence " << b;
                EXPECT_TRUE(same_bits(expected.lse[b], got.lse[0])) << "sequence " << b;
                EXPECT_TRUE(same_bits(expected.mass[b], got.mass[0])) << "sequence " << b;
            }
        });
    }
}

TEST(PropertyBits, OtherQueries)
{
    // A query that is not finite stays in its row, whatever tile it shares with others.
    for (const Case &c : sample(
             6, 20, [](Case &) {}, [](const Case &x) { return x.max_q >= 2; })) {
        ATTN_TRACE_CASE(c);
        const auto contents = draw_contents(c);
        auto changed = contents;
        Random random(c.seed, 7);
        std::vector<std::int64_t> rows;
        for (Content &content : changed) {
            Sequence &s = content.used;
            rows.push_back(s.tq > 0 ? random.integer(0, s.tq - 1) : 0);
            const std::int64_t width = s.heads_q * s.dim_qk;
            for (std::int64_t n = 0; s.tq > 0 && n < width; ++n) s.q[rows.back() * width + n] = n % 2 ? NAN : INFINITY;
        }
        Instance first(c, contents, 0), second(c, changed, 0);
        for_each_backend([&](const Backend &backend) {
            const PlanPointer plan = plan_for(backend.handle(c.workers), first);
            ASSERT_TRUE(plan);
            const Output expected = run(plan.get(), first), got = run(plan.get(), second);
            for (std::size_t b = 0; b < contents.size(); ++b) {
                const Sequence &s = contents[b].used;
                const std::int64_t width = s.heads_out() * s.dim_v;
                for (std::int64_t i = 0; i < s.tq; ++i) {
                    if (i == rows[b]) continue;
                    const auto at = i * width;
                    EXPECT_TRUE(same_bits({expected.out[b].begin() + at, expected.out[b].begin() + at + width},
                                          {got.out[b].begin() + at, got.out[b].begin() + at + width}))
                        << "row " << i << " of sequence " << b;
                }
            }
        });
    }
}

} // namespace
} // namespace conformance

// More sequences, heads, rows or tokens than one axis of a grid can have blocks (65535), where the result is known
// without an oracle.
#include "resident.h"

#include "tests/conformance/backend.h"
#include "tests/conformance/session.h"

#include <gtest/gtest.h>

#include <string>

namespace gpu_test {
namespace {

using conformance::Index;
using conformance::Tensor;

constexpr std::int64_t kMany = 70000;

double value_at(std::int64_t row, std::int64_t channel)
{
    return static_cast<double>((row * 7 + channel * 3) % 251); // exact in every dtype but fp8
}

void run(attn_plan plan, const std::vector<attn_arg> &args)
{
    const ContextScope scope;
    const OwnStream stream;
    Resident resident(plan, args);
    ASSERT_EQ(resident.execute(plan, stream.get()), ATTN_OK) << attn_last_error();
    stream.synchronize();
    resident.read(args);
}

// Every query sees one key, so that OUT is the row of V.
void expect_rows_of_v(std::int64_t batch, std::int64_t queries, std::int64_t heads, std::int64_t dim = 16)
{
    constexpr attn_dtype dtype = ATTN_FLOAT16;
    SCOPED_TRACE(std::to_string(batch) + " sequences, " + std::to_string(queries) + " queries, " +
                 std::to_string(heads) + " heads");
    Tensor q(dtype, {batch, queries, heads, dim}), k(dtype, {batch, 1, heads, dim}), v(dtype, {batch, 1, heads, dim}),
        out(dtype, {batch, queries, heads, dim});
    for (std::int64_t b = 0; b < batch; ++b)
        for (std::int64_t h = 0; h < heads; ++h)
            for (std::int64_t c = 0; c < dim; ++c) {
                for (std::int64_t i = 0; i < queries; ++i) q.set({b, i, h, c}, 1);
                k.set({b, 0, h, c}, 0.5);
                v.set({b, 0, h, c}, value_at(b * heads + h, c));
            }
    attn_problem problem{};
    problem.size = sizeof problem, problem.q_dtype = dtype, problem.batch = batch, problem.heads_q = heads;
    problem.dim_qk = dim, problem.max_q = queries, problem.max_kv = 1;
    attn_dense dense{};
    dense.size = sizeof dense, dense.problem = &problem;
    attn_plan made = nullptr;
    ASSERT_EQ(attn_plan_dense(conformance::backends().front()->handle(1), &dense, &made), ATTN_OK) << attn_last_error();
    const conformance::PlanPointer plan(made);
    const attn_tensor views[] = {q.view(), k.view(), v.view(), out.view()};
    run(made, {{ATTN_SLOT_Q, 0, &views[0]},
               {ATTN_SLOT_K, 0, &views[1]},
               {ATTN_SLOT_V, 0, &views[2]},
               {ATTN_SLOT_OUT, 0, &views[3]}});
    std::int64_t wrong = 0;
    for (std::int64_t b = 0; b < batch; ++b)
        for (std::int64_t i = 0; i < queries; ++i)
            for (std::int64_t h = 0; h < heads; ++h)
                for (std::int64_t c = 0; c < dim; ++c) wrong += out.get({b, i, h, c}) != value_at(b * heads + h, c);
    EXPECT_EQ(wrong, 0);
}

TEST(Limits, ManySequencesHeadsAndQueries)
{
    expect_rows_of_v(kMany, 1, 1);
    expect_rows_of_v(1, 1, kMany);
    expect_rows_of_v(300, 1, 300);
    expect_rows_of_v(1, 64 * kMany, 1, 4); // tiles of up to 64 rows
}

TEST(Limits, MergeOfManyRows)
{
    constexpr std::int64_t dim = 8;
    for (const bool by_batch : {true, false}) {
        const std::int64_t batch = by_batch ? kMany : 1, rows = by_batch ? 1 : kMany;
        Tensor part(ATTN_FLOAT32, {batch, rows, 1, dim}), lse(ATTN_FLOAT32, {batch, 1, rows}),
            out(ATTN_FLOAT32, {batch, rows, 1, dim});
        for (std::int64_t b = 0; b < batch; ++b)
            for (std::int64_t i = 0; i < rows; ++i) {
                lse.set({b, 0, i}, 2);
                for (std::int64_t c = 0; c < dim; ++c) part.set({b, i, 0, c}, value_at(b + i, c));
            }
        attn_problem problem{};
        problem.size = sizeof problem, problem.q_dtype = ATTN_FLOAT32, problem.batch = batch, problem.heads_q = 1;
        problem.dim_v = dim, problem.max_q = rows;
        attn_merge merge{};
        merge.size = sizeof merge, merge.problem = &problem, merge.parts = 1;
        attn_plan made = nullptr;
        ASSERT_EQ(attn_plan_merge(conformance::backends().front()->handle(1), &merge, &made), ATTN_OK)
            << attn_last_error();
        const conformance::PlanPointer plan(made);
        const attn_tensor views[] = {part.view(), lse.view(), out.view()};
        run(made, {{ATTN_SLOT_PARTIAL_OUT, 0, &views[0]},
                   {ATTN_SLOT_PARTIAL_LSE, 0, &views[1]},
                   {ATTN_SLOT_OUT, 0, &views[2]}});
        std::int64_t wrong = 0;
        for (std::int64_t b = 0; b < batch; ++b)
            for (std::int64_t i = 0; i < rows; ++i)
                for (std::int64_t c = 0; c < dim; ++c) wrong += out.get({b, i, 0, c}) != value_at(b + i, c);
        EXPECT_EQ(wrong, 0);
    }
}

TEST(Limits, AppendOfManyRows)
{
    constexpr std::int64_t dim = 8;
    for (const bool by_batch : {true, false}) {
        const std::int64_t batch = by_batch ? kMany : 1, rows = by_batch ? 1 : kMany;
        Tensor k(ATTN_FLOAT16, {batch, rows, 1, dim}), cache(ATTN_FLOAT16, {batch, rows, 1, dim});
        for (std::int64_t b = 0; b < batch; ++b)
            for (std::int64_t i = 0; i < rows; ++i)
                for (std::int64_t c = 0; c < dim; ++c) k.set({b, i, 0, c}, value_at(b + i, c));
        attn_bind bind{};
        bind.slot = ATTN_SLOT_V, bind.flags = ATTN_BIND_ABSENT;
        attn_problem problem{};
        problem.size = sizeof problem, problem.binds = &bind, problem.bind_count = 1, problem.q_dtype = ATTN_FLOAT16;
        problem.batch = batch, problem.heads_k = 1, problem.dim_qk = dim, problem.max_q = problem.max_kv = rows;
        attn_append append{};
        append.size = sizeof append, append.problem = &problem;
        attn_plan made = nullptr;
        ASSERT_EQ(attn_plan_append(conformance::backends().front()->handle(1), &append, &made), ATTN_OK)
            << attn_last_error();
        const conformance::PlanPointer plan(made);
        const attn_tensor views[] = {k.view(), cache.view()};
        run(made, {{ATTN_SLOT_K, 0, &views[0]}, {ATTN_SLOT_K_CACHE, 0, &views[1]}});
        std::int64_t wrong = 0;
        for (std::int64_t b = 0; b < batch; ++b)
            for (std::int64_t i = 0; i < rows; ++i)
                for (std::int64_t c = 0; c < dim; ++c) wrong += cache.get({b, i, 0, c}) != value_at(b + i, c);
        EXPECT_EQ(wrong, 0);
    }
}

} // namespace
} // namespace gpu_test

// Descriptions of plans, read back by `attn replay`: they determine the plan, and it computes what the oracle says.
#include "property.h"
#include "refusal.h"
#include "trial.h"

#include "src/cli/described_plan.h"
#include "src/cli/plan_descriptor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace conformance {
namespace {

using attn::cli::DescribedPlan;
using attn::cli::JsonValue;
using attn::cli::parse_json;

std::string describe(attn_plan plan)
{
    std::size_t needed = 0;
    EXPECT_EQ(attn_plan_describe(plan, nullptr, 0, &needed), ATTN_OK);
    std::string text(needed, '\0');
    EXPECT_EQ(attn_plan_describe(plan, text.data(), text.size(), nullptr), ATTN_OK);
    text.resize(needed - 1);
    return text;
}

PlanPointer plan_described(attn_handle handle, const DescribedPlan &described)
{
    Descriptor descriptor(described.spec, described.bounds);
    attn::cli::complete(described, &descriptor);
    std::string why;
    PlanPointer plan = make_plan(handle, descriptor, why);
    EXPECT_EQ(why, "");
    return plan;
}

// A descriptor made of a description alone, as `attn pack` makes it, asks for the same plan.
void expect_same_plan(attn_handle handle, const JsonValue &description)
{
    const attn::cli::PlanDescriptor exact(description);
    attn_plan plan = nullptr;
    ASSERT_EQ(exact.plan(handle, &plan), ATTN_OK) << attn_last_error();
    EXPECT_EQ(attn::cli::difference(description, parse_json(describe(plan))), "");
    attn_plan_destroy(plan);
}

// Plans the case, reads the description of the plan, plans that and compares the descriptions.
void expect_round_trip(Case c)
{
    const Backend &backend = *backends().back();
    const Refusal refusal = reduce(backend, c);
    ATTN_TRACE_CASE(c);
    ASSERT_EQ(refusal.broken, "");
    if (!refusal.whole.empty()) return;
    const Instance instance(c, draw_contents(c), 0);
    const PlanPointer plan = plan_for(backend.handle(c.workers), instance);
    ASSERT_TRUE(plan);
    const JsonValue description = parse_json(describe(plan.get()));
    expect_same_plan(backend.handle(c.workers), description);
    const DescribedPlan described = attn::cli::read_description(description, c.seed, INFINITY);
    const PlanPointer again = plan_described(backend.handle(c.workers), described);
    ASSERT_TRUE(again);
    const std::string difference = attn::cli::difference(description, parse_json(describe(again.get())));
    // A case derives the grid of its bias table from its sizes; where the bounds were loose it is another one.
    if (c.bias_table == "grid" && difference.find("bias_table.grid") != std::string::npos) return;
    EXPECT_EQ(difference, "");
    if (!difference.empty()) return;
    const double work = c.bias_table == "grid" ? INFINITY : 5e6; // a grid cannot be reduced
    const DescribedPlan small = attn::cli::read_description(description, c.seed, work);
    attn::cli::FittingContents fit = attn::cli::draw_fitting(small);
    Trial trial(fit.spec, std::move(fit.contents), fit.placement);
    EXPECT_EQ(trial.run(plan.get(), WorkspaceSize::bound).broken, "");
}

// The case without what the library refuses.
Case served(Case c)
{
    c.column_mass = 0;
    return c;
}

TEST(Described, PlansOfTheTableReadBack)
{
    std::int64_t count = session().subset ? 40 : 300;
    for (Random seeds(session().seed, 30); count > 0 && !testing::Test::HasFailure(); --count)
        expect_round_trip(random_case(seeds.next()));
}

TEST(Described, PlansWithOptionsReadBack)
{
    std::int64_t count = session().subset ? 40 : 300;
    for (Random seeds(session().seed, 31); count > 0 && !testing::Test::HasFailure(); --count)
        expect_round_trip(served(random_option_case(seeds.next())));
}

TEST(Described, MergesAndAppendsReadBack)
{
    const attn_handle handle = backends().back()->handle(1);
    const auto expect_same = [&](auto make, const auto &descriptor) {
        attn_plan plan = nullptr;
        ASSERT_EQ(make(handle, &descriptor, &plan), ATTN_OK) << attn_last_error();
        expect_same_plan(handle, parse_json(describe(plan)));
        attn_plan_destroy(plan);
    };
    attn_bind binds[4] = {};
    attn_problem problem = {};
    problem.size = sizeof problem;
    problem.binds = binds;
    problem.q_dtype = ATTN_FLOAT32;
    problem.batch = 2;
    problem.heads_q = 4;
    problem.max_q = 9;
    problem.dim_v = 24;
    attn_merge merge = {};
    merge.size = sizeof merge;
    merge.problem = &problem;
    merge.parts = 3;
    expect_same(attn_plan_merge, merge);
    binds[0].slot = ATTN_SLOT_PARTIAL_OUT, binds[0].dtype = ATTN_BFLOAT16;
    binds[1].slot = ATTN_SLOT_GATE;
    binds[2].slot = ATTN_SLOT_CU_SEQLENS_Q, binds[2].dtype = ATTN_INT64;
    problem.bind_count = 3;
    problem.total_q = 11;
    merge.gate = ATTN_GATE_SILU;
    expect_same(attn_plan_merge, merge);
    merge.activation = ATTN_SIGMOID;
    expect_same(attn_plan_merge, merge);

    problem.heads_k = 2;
    problem.dim_qk = 32;
    problem.max_kv = 64;
    problem.total_q = 0;
    problem.bind_count = 0;
    attn_append append = {};
    append.size = sizeof append;
    append.problem = &problem;
    expect_same(attn_plan_append, append);
    attn_rope rope = {};
    rope.size = sizeof rope;
    rope.layout = ATTN_ROPE_INTERLEAVED;
    rope.dim = 16;
    rope.first = 8;
    rope.base = 5e5;
    append.rope = &rope;
    append.ring_rows = 32;
    append.sink_tokens = 4;
    expect_same(attn_plan_append, append);
    append.ring_rows = append.sink_tokens = 0;
    rope.source = ATTN_ROPE_TABLE;
    rope.base = 0;
    problem.page_size = 16;
    for (attn_bind &bind : binds) bind = {};
    binds[0].slot = ATTN_SLOT_V, binds[0].flags = ATTN_BIND_ABSENT;
    binds[1].slot = ATTN_SLOT_Q;
    binds[2].slot = ATTN_SLOT_OUT;
    problem.bind_count = 3;
    expect_same(attn_plan_append, append);
}

TEST(Described, WhatACaseCannotExpressIsFound)
{
    Case c;
    c.softcap = 3;
    const Instance instance(c, draw_contents(c), 0);
    const PlanPointer plan = plan_for(backends().back()->handle(1), instance);
    std::string text = describe(plan.get());
    const JsonValue description = parse_json(text);
    const auto with = [&](const std::string &from, const std::string &to) {
        std::string changed = text;
        const std::size_t at = changed.find(from);
        EXPECT_NE(at, std::string::npos) << from;
        return parse_json(changed.replace(at, from.size(), to));
    };
    EXPECT_EQ(attn::cli::difference(description, description), "");
    EXPECT_EQ(attn::cli::difference(description, with("\"softcap\":3", "\"softcap\":4")), "dense.softcap is 3, not 4");
    EXPECT_EQ(attn::cli::difference(description, with("\"softcap\":3,", "")), "dense.softcap is 3, not absent");
    EXPECT_EQ(attn::cli::difference(with("\"softcap\":3,", ""), description), "dense.softcap is absent, not 3");
    EXPECT_EQ(attn::cli::difference(description, with("\"slot\":\"LSE\"", "\"slot\":\"ROW_MAX\"")),
              "tensors[4].slot is LSE, not ROW_MAX");
    const auto refused = [](const JsonValue &value) -> std::string {
        try {
            attn::cli::read_description(value, 1, 1e6);
        } catch (const std::invalid_argument &error) {
            return std::string(error.what()).substr(std::string(error.what()).find(' ') + 1);
        }
        return "";
    };
    EXPECT_EQ(refused(description), "");
    EXPECT_EQ(refused(with("\"schema\":1", "\"schema\":2")), "schema 2 is not known, only 1");
    EXPECT_EQ(refused(with("\"kind\":\"dense\"", "\"kind\":\"merge\"")), "the oracle has no plans of kind merge");
    EXPECT_EQ(refused(with("\"slot\":\"LSE\"", "\"slot\":\"MASK\"")), "the oracle has no slot MASK");
    EXPECT_EQ(refused(with("\"q_dtype\":\"float32\"", "\"q_dtype\":\"int8\"")), "the oracle has no dtype int8");
    EXPECT_EQ(refused(with("\"max_q\":7", "\"max_q\":0")), "max_q is no bound of a plan");
    EXPECT_EQ(refused(with("\"direction\":\"forward\"", "\"direction\":\"backward\"")),
              "the oracle has no direction but forward");
}

} // namespace
} // namespace conformance

// Descriptions of plans, read back by `attn replay`: they determine the plan, and it computes what the oracle says.
#include "property.h"
#include "refusal.h"
#include "trial.h"

#include "src/cli/described_plan.h"

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

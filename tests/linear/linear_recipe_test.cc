// The recipes of attn/recipes.h: planned, and computed against the recurrence in their own words.
#include "backend.h"
#include "linear_spec.h"

#include <attn/recipes.h>

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace linear {
namespace {

attn_problem problem_of(std::int64_t dim)
{
    attn_problem problem = {};
    problem.size = sizeof problem;
    problem.q_dtype = ATTN_FLOAT32;
    problem.heads_q = 2, problem.dim_qk = dim, problem.max_q = 64;
    return problem;
}

TEST(LinearRecipe, EveryRecipeIsAPlan)
{
    const auto plan = [](const char *name, attn_linear (*recipe)(attn_problem *), double scale) {
        attn_problem problem = problem_of(16);
        const attn_linear linear = recipe(&problem);
        attn_plan made = nullptr;
        EXPECT_EQ(attn_plan_linear(conformance::backends().front()->handle(1), &linear, &made), ATTN_OK)
            << name << ": " << attn_last_error();
        EXPECT_EQ(problem.scale, scale) << name;
        attn_plan_destroy(made);
        problem.scale = 0.125; // that of the caller stays
        recipe(&problem);
        EXPECT_EQ(problem.scale, 0.125) << name;
    };
    plan(
        "linear", [](attn_problem *p) { return attn_recipe_linear(p, ATTN_FEATURE_ELU1); }, 1);
    plan("based", attn_recipe_based, 1);
    plan("hedgehog", attn_recipe_hedgehog, 1);
    plan("retnet", attn_recipe_retnet, 0);
    plan("lightning", attn_recipe_lightning, 1);
    plan("gla", attn_recipe_gla, 0);
    plan("hgrn2", attn_recipe_hgrn2, 0);
    plan("mamba2", attn_recipe_mamba2, 1);
    plan("rwkv6", attn_recipe_rwkv6, 1);
    plan("rwkv7", attn_recipe_rwkv7, 1);
    plan("deltanet", attn_recipe_deltanet, 0);
    plan("gated deltanet", attn_recipe_gated_deltanet, 0);
    plan(
        "kda", [](attn_problem *p) { return attn_recipe_kda(p, 0); }, 0);
    plan(
        "kda, safe gate", [](attn_problem *p) { return attn_recipe_kda(p, -5); }, 0);
    plan(
        "bidirectional", [](attn_problem *p) { return attn_recipe_bidirectional(p, ATTN_FEATURE_ELU1); }, 1);
    plan(
        "inline", [](attn_problem *p) { return attn_recipe_inline(p, 10); }, 1 / 40.0);
}

/// What the table shows to be right is what recipes make.
TEST(LinearRecipe, TheTableHasTheRecipes)
{
    const auto compare = [](const char *name, const attn_linear &recipe) {
        const Method &m = method(name);
        EXPECT_EQ(recipe.decay, m.decay) << name;
        EXPECT_EQ(recipe.decay_form, m.form) << name;
        EXPECT_EQ(recipe.update, m.update) << name;
        EXPECT_EQ(recipe.read, m.read) << name;
        EXPECT_EQ(recipe.feature_map, m.map) << name;
        EXPECT_EQ(recipe.flags, m.flags) << name;
        EXPECT_EQ(recipe.normaliser_eps, m.eps) << name;
        EXPECT_EQ(recipe.decay_lower_bound, m.lower_bound) << name;
        EXPECT_EQ(recipe.decay_scale, m.decay_scale) << name;
        // That of InLine has the number of keys in it.
        EXPECT_TRUE(recipe.problem->scale == m.scale || m.name == "inline_core") << name;
    };
    std::vector<attn_problem> problems(20, problem_of(16));
    attn_problem *problem = problems.data();
    compare("linear", attn_recipe_linear(problem++, ATTN_FEATURE_ELU1));
    compare("based", attn_recipe_based(problem++));
    compare("hedgehog", attn_recipe_hedgehog(problem++));
    compare("retnet", attn_recipe_retnet(problem++));
    compare("lightning", attn_recipe_lightning(problem++));
    compare("mamba2", attn_recipe_mamba2(problem++));
    compare("gla", attn_recipe_gla(problem++));
    compare("hgrn2", attn_recipe_hgrn2(problem++));
    compare("rwkv6", attn_recipe_rwkv6(problem++));
    compare("rwkv7", attn_recipe_rwkv7(problem++));
    compare("deltanet", attn_recipe_deltanet(problem++));
    compare("gated_deltanet", attn_recipe_gated_deltanet(problem++));
    compare("kda", attn_recipe_kda(problem++, 0));
    compare("kda_safe", attn_recipe_kda(problem++, -5));
    compare("linear_full", attn_recipe_bidirectional(problem++, ATTN_FEATURE_ELU1));
    compare("inline_core", attn_recipe_inline(problem++, 10));
}

TEST(LinearRecipe, DecaysOfHeads)
{
    std::vector<float> decay(12);
    attn_recipe_retnet_decay(decay.data(), 12);
    for (int h = 0; h < 12; ++h) EXPECT_NEAR(std::exp(double(decay[h])), 1 - std::pow(2, -5 - h), 1e-7);
    attn_recipe_lightning_decay(decay.data(), 8, 3, 12);
    for (int h = 0; h < 8; ++h) EXPECT_NEAR(decay[h], -std::pow(2, -(h + 1)) * (1 - 3.0 / 11 + 1e-5), 1e-7);
    // 12 heads: the slopes of 8, then every second of 16.
    attn_recipe_lightning_decay(decay.data(), 12, 0, 12);
    for (int h = 8; h < 12; ++h) EXPECT_NEAR(decay[h], -std::pow(2, -0.5 * (2 * (h - 8) + 1)) * (1 + 1e-5), 1e-6);
}

/// InLine: weights `s q.k / n - s q.mean(k) / n + 1 / n`, from its product and the rank-one rest.
TEST(LinearRecipe, InLineWeightsSumToOne)
{
    constexpr std::int64_t n = 10, d = 16;
    attn_problem problem = problem_of(d);
    problem.heads_q = 1;
    const attn_linear linear = attn_recipe_inline(&problem, n);
    attn_plan plan = nullptr;
    ASSERT_EQ(attn_plan_linear(conformance::backends().front()->handle(1), &linear, &plan), ATTN_OK);
    std::vector<float> q(n * d), k(n * d), v(n * d), out(n * d);
    unsigned x = 1;
    for (auto *array : {&q, &k, &v})
        for (float &value : *array) value = float((x = x * 1664525u + 1013904223u) >> 8) / float(1 << 24) - 0.5f;
    const attn_tensor tq = attn_tensor_4d(q.data(), ATTN_FLOAT32, 1, n, 1, d);
    const attn_tensor tk = attn_tensor_4d(k.data(), ATTN_FLOAT32, 1, n, 1, d);
    const attn_tensor tv = attn_tensor_4d(v.data(), ATTN_FLOAT32, 1, n, 1, d);
    const attn_tensor to = attn_tensor_4d(out.data(), ATTN_FLOAT32, 1, n, 1, d);
    const attn_arg args[] = {
        {ATTN_SLOT_Q, 0, &tq}, {ATTN_SLOT_K, 0, &tk}, {ATTN_SLOT_V, 0, &tv}, {ATTN_SLOT_OUT, 0, &to}};
    std::size_t bytes = 0;
    ASSERT_EQ(attn_plan_workspace(plan, &bytes, nullptr), ATTN_OK);
    std::vector<char> workspace(bytes);
    ASSERT_EQ(attn_execute(plan, args, 4, workspace.data(), bytes, nullptr), ATTN_OK) << attn_last_error();
    const double s = 1 / std::sqrt(double(d));
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t c = 0; c < d; ++c) {
            double wanted = 0, mean_product = 0, mean_v = 0;
            for (std::int64_t j = 0; j < n; ++j) {
                double product = 0;
                for (std::int64_t e = 0; e < d; ++e) product += double(q[i * d + e]) * k[j * d + e];
                mean_product += s * product / n, mean_v += double(v[j * d + c]) / n;
                wanted += s * product / n * v[j * d + c];
            }
            wanted += (1 - mean_product) * mean_v; // sum over j of (w_ij - mean of w + 1/n) v_j
            EXPECT_NEAR(double(out[i * d + c]) + (1 - mean_product) * mean_v, wanted, 1e-6);
        }
    attn_plan_destroy(plan);
}

} // namespace
} // namespace linear

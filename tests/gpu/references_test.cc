// Scores that rise from block to block of keys, so that what weights refer to has to move, and sequences that differ in
// how: each against fp64, and with the same bits whether it is computed alone or after others, from which a kernel
// may learn how careful to be. All heads have the same keys.
#include "call.h"
#include "resident.h"

#include "tests/conformance/backend.h"
#include "tests/conformance/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace gpu_test {
namespace {

using conformance::Index;
using conformance::Tensor;

struct Size {
    attn_dtype dtype;
    bool causal; // with as many queries as keys
    std::int64_t queries, keys, heads, dim = 128;
};

// How scores differ along a sequence.
enum Pattern { kEven, kWide, kSteps, kFirstKeys, kFalling, kFewQueries, kPatterns };

struct Tensors {
    Tensor q, k, v, out;

    Tensors(const Size &size, std::int64_t batch)
        : q(size.dtype, {batch, size.queries, size.heads, size.dim}),
          k(size.dtype, {batch, size.keys, 1, size.dim}),
          v(size.dtype, {batch, size.keys, 1, size.dim}),
          out(size.dtype, {batch, size.queries, size.heads, size.dim})
    {
    }

    // Sequence `b` of these gets the contents that belong to the pattern.
    void fill(std::int64_t b, Pattern pattern, std::uint64_t seed)
    {
        std::mt19937 random(static_cast<std::mt19937::result_type>(seed + pattern));
        std::normal_distribution<float> normal;
        const std::int64_t keys = k.shape()[1], heads = q.shape()[2], dim = q.shape()[3];
        for (std::int64_t i = 0; i < q.shape()[1]; ++i) {
            const float factor = pattern == kWide || (pattern == kFewQueries && i % 7 == 0) ? 20.0f : 1.0f;
            for (std::int64_t h = 0; h < heads; ++h)
                for (std::int64_t c = 0; c < dim; ++c) q.set({b, i, h, c}, factor * normal(random));
        }
        for (std::int64_t j = 0; j < keys; ++j) {
            // Blocks of keys are visited from the last to the first, or the other way.
            const auto part = static_cast<float>(j) / static_cast<float>(keys);
            float factor = 1.0f;
            if (pattern == kSteps) factor = std::exp2(std::floor(8.0f * (1.0f - part)));
            if (pattern == kFirstKeys && j < 3) factor = 40.0f;
            if (pattern == kFalling) factor = std::exp2(std::floor(8.0f * part) - 4.0f);
            for (std::int64_t c = 0; c < dim; ++c) {
                k.set({b, j, 0, c}, factor * normal(random));
                v.set({b, j, 0, c}, normal(random));
            }
        }
    }

    // Of a sequence, in a sample of rows: the error of all of them together, and of the worst.
    std::pair<double, double> error(std::int64_t b, const Size &size, std::uint64_t seed) const
    {
        constexpr int rows = 40;
        std::mt19937_64 random(seed);
        double squares = 0, wrong = 0, worst = 0;
        for (int row = 0; row < rows; ++row) {
            const auto i = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(size.queries));
            const auto h = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(size.heads));
            const std::int64_t end = size.causal ? i + 1 : size.keys;
            std::vector<double> scores(static_cast<std::size_t>(end)), o(static_cast<std::size_t>(size.dim));
            for (std::int64_t j = 0; j < end; ++j) {
                double &score = scores[static_cast<std::size_t>(j)];
                for (std::int64_t c = 0; c < size.dim; ++c) score += q.get({b, i, h, c}) * k.get({b, j, 0, c});
                score /= std::sqrt(static_cast<double>(size.dim));
            }
            const double max = *std::max_element(scores.begin(), scores.end());
            double sum = 0;
            for (std::int64_t j = 0; j < end; ++j) {
                const double weight = std::exp(scores[static_cast<std::size_t>(j)] - max);
                sum += weight;
                for (std::int64_t c = 0; c < size.dim; ++c)
                    o[static_cast<std::size_t>(c)] += weight * v.get({b, j, 0, c});
            }
            double square = 0, difference = 0;
            for (std::int64_t c = 0; c < size.dim; ++c) {
                const double expected = o[static_cast<std::size_t>(c)] / sum;
                square += expected * expected;
                difference += std::pow(out.get({b, i, h, c}) - expected, 2);
            }
            squares += square, wrong += difference;
            worst = std::max(worst, std::sqrt(difference / square)); // NaN is left to the sum
        }
        return {std::sqrt(wrong / squares), worst};
    }
};

void execute(attn_plan plan, Tensors &tensors)
{
    tensors.out.poison();
    const attn_tensor views[] = {tensors.q.view(), tensors.k.view(), tensors.v.view(), tensors.out.view()};
    const std::vector<attn_arg> args = {{ATTN_SLOT_Q, 0, &views[0]},
                                        {ATTN_SLOT_K, 0, &views[1]},
                                        {ATTN_SLOT_V, 0, &views[2]},
                                        {ATTN_SLOT_OUT, 0, &views[3]}};
    const OwnStream stream;
    Resident resident(plan, args);
    ASSERT_EQ(resident.execute(plan, stream.get()), ATTN_OK) << attn_last_error();
    stream.synchronize();
    resident.read(args);
}

void expect_right(const Size &size)
{
    const std::uint64_t seed = conformance::session().seed;
    SCOPED_TRACE(std::to_string(size.dtype) + (size.causal ? " causal " : " full ") + std::to_string(size.keys) +
                 " keys, seed " + std::to_string(seed));
    attn_problem problem{};
    problem.size = sizeof problem, problem.q_dtype = size.dtype, problem.batch = kPatterns;
    problem.heads_q = size.heads, problem.heads_k = 1, problem.dim_qk = size.dim;
    problem.max_q = size.queries, problem.max_kv = size.keys;
    problem.flags = ATTN_BATCH_INVARIANT;
    attn_dense dense{};
    dense.size = sizeof dense, dense.problem = &problem;
    if (size.causal) dense.causal = ATTN_BOTTOM_RIGHT;
    attn_plan made = nullptr;
    ASSERT_EQ(attn_plan_dense(shared_handle(), &dense, &made), ATTN_OK) << attn_last_error();
    const conformance::PlanPointer plan(made);
    const ContextScope scope;
    Tensors together(size, kPatterns);
    for (int pattern = 0; pattern < kPatterns; ++pattern) together.fill(pattern, static_cast<Pattern>(pattern), seed);
    execute(made, together);
    const auto [most, most_row] = size.dtype == ATTN_BFLOAT16 ? std::pair(4e-3, 1e-2) : std::pair(6e-4, 2e-3);
    for (int pattern = 0; pattern < kPatterns; ++pattern) {
        SCOPED_TRACE("pattern " + std::to_string(pattern));
        const auto [error, worst] = together.error(pattern, size, seed);
        EXPECT_LE(error, most);
        EXPECT_LE(worst, most_row);
        Tensors alone(size, 1);
        alone.fill(0, static_cast<Pattern>(pattern), seed);
        execute(made, alone);
        std::int64_t different = 0;
        for (std::int64_t i = 0; i < size.queries; ++i)
            for (std::int64_t h = 0; h < size.heads; ++h)
                for (std::int64_t c = 0; c < size.dim; ++c)
                    different += alone.out.get({0, i, h, c}) != together.out.get({pattern, i, h, c});
        EXPECT_EQ(different, 0);
    }
}

// Sizes of which a GPU computes all sequences in more than one round.
TEST(References, Full)
{
    expect_right({ATTN_BFLOAT16, false, 390, 2100, 8});
    expect_right({ATTN_FLOAT16, false, 390, 2100, 8});
}

TEST(References, Causal)
{
    expect_right({ATTN_BFLOAT16, true, 2100, 2100, 2});
}

TEST(References, InClusters)
{
    expect_right({ATTN_BFLOAT16, false, 4096, 1500, 1});
}

TEST(References, Small)
{
    expect_right({ATTN_BFLOAT16, false, 128, 1100, 8});
}

} // namespace
} // namespace gpu_test

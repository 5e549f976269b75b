// What executes launch: how many kernels and of which shapes follows from the plan and the shapes of a call alone, as
// graphs need; and plans that need more than one launch compute the same.
#include "device.h"
#include "tests/conformance/append_call.h"
#include "tests/conformance/merge_call.h"
#include "tests/conformance/property.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gpu_emulated {
namespace {

using conformance::AppendCall;
using conformance::AppendSpec;
using conformance::MergeCall;
using conformance::MergeCase;
using conformance::PlanPointer;
using conformance::Random;
using conformance::session;

attn_handle handle()
{
    return conformance::backends().front()->handle(1);
}

std::vector<std::string> entries_of(const std::vector<Launch> &launches)
{
    std::vector<std::string> names;
    for (const Launch &launch : launches) names.push_back(launch.entry);
    return names;
}

std::vector<std::string> run_merge(const MergeCase &setup)
{
    SCOPED_TRACE(setup.text());
    MergeCall call(setup);
    std::string why;
    const PlanPointer plan = call.plan(handle(), why);
    EXPECT_TRUE(plan) << why;
    if (!plan) return {};
    take_launches();
    call.run(plan.get());
    call.check();
    return entries_of(take_launches());
}

std::vector<std::string> run_append(const AppendSpec &spec)
{
    SCOPED_TRACE(text_of(spec));
    AppendCall call(spec);
    take_launches();
    call.run(*conformance::backends().front());
    return entries_of(take_launches());
}

TEST(EmulatedLaunches, OfMergesFollowFromTheParts)
{
    using Names = std::vector<std::string>;
    for (const std::int64_t parts : {1, 2, 48, 49, 54, 120}) {
        const std::size_t prepare = parts <= 48 ? 0 : std::size_t((parts + 52) / 53);
        Names wanted(prepare, "attn_merge_prepare");
        wanted.emplace_back("attn_merge");
        for (const char *layout : {"bshd", "any"}) { // for the vector kernel, or not
            MergeCase s = conformance::plain_merge(parts);
            s.batch = 1, s.tq = 2, s.heads = 2, s.dim = 8, s.layout = layout, s.shortened = true;
            EXPECT_EQ(run_merge(s), wanted);
            s.tq = 0;
            EXPECT_EQ(run_merge(s), Names{});
        }
    }
}

// More rows than blocks scan for themselves; places with many rows for them, and with few.
TEST(EmulatedLaunches, OfAppendsFollowFromTheRows)
{
    using Names = std::vector<std::string>;
    const Names one{"attn_append"}, three{"attn_append_index", "attn_append_index", "attn_append"};
    AppendSpec s = conformance::small_append_spec();
    s.seed = Random(session().seed, 960).next();
    s.batch = 3, s.most_new = 700;
    s.mapped = true;
    for (const std::int64_t page_size : {0, 4}) {
        s.page_size = page_size;
        EXPECT_EQ(run_append(s), three);
    }
    s.batch = 2; // 1400 rows
    EXPECT_EQ(run_append(s), one);
    s.mapped = false, s.batch = 3, s.seqlens_kv = s.seqlens_q = true;
    EXPECT_EQ(run_append(s), three); // pages
    s.flat_table = true, s.ring = 100, s.sinks = 3;
    EXPECT_EQ(run_append(s), three);
    s.page_size = 0, s.flat_table = false;
    EXPECT_EQ(run_append(s), one); // distinct places
    s.packed = true, s.batch = 4, s.ring = s.sinks = 0, s.page_size = 8, s.rope = s.write_q = true;
    EXPECT_EQ(run_append(s).back(), "attn_append");
}

// The vector kernels with everything that makes a difference there.
TEST(EmulatedLaunches, VectorKernelsComputeTheSame)
{
    constexpr attn_dtype floats[] = {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16};
    Random random(session().seed, 961);
    const auto pick = [&] { return floats[random.integer(0, 2)]; };
    for (int n = 0; n < (session().subset ? 20 : 100); ++n) {
        AppendSpec s = conformance::small_append_spec();
        s.seed = random.next(), s.most_new = random.integer(1, 6), s.heads_k = random.integer(1, 3);
        s.heads_v = s.heads_k, s.heads_q = 2 * s.heads_k, s.dim_qk = 16 * random.integer(1, 5);
        s.dim_v = 8 * random.integer(1, 9);
        s.k = pick(), s.v = pick(), s.k_cache = pick(), s.v_cache = pick(), s.q = pick(), s.out = pick();
        s.write_q = random.chance(0.5), s.rope = random.chance(0.7), s.interleaved = random.chance(0.5);
        s.table = s.rope && random.chance(0.3);
        if (s.rope && random.chance(0.5)) {
            s.rope_dim = 16 * random.integer(1, s.dim_qk / 16);
            s.rope_first = 8 * random.integer(0, (s.dim_qk - s.rope_dim) / 8);
        }
        s.page_size = random.chance(0.5) ? random.integer(1, 4) : 0, s.seqlens_kv = random.chance(0.5);
        if (random.chance(0.3)) s.in_layout = s.cache_layout = "bhsd";
        take_launches();
        run_append(s);
        const MergeCase merge = [&] {
            MergeCase m = conformance::plain_merge(random.integer(1, 60));
            m.seed = random.next(), m.dim = 8 * random.integer(1, 20), m.tq = 2, m.head_weight = random.chance(0.5);
            m.part_dtype = pick(), m.out_dtype = pick(), m.gate_dtype = pick(), m.gate = random.integer(-1, 2);
            m.sinks = random.chance(0.5), m.packed = random.chance(0.5), m.shortened = random.chance(0.5);
            if (random.chance(0.3)) m.broadcast = m.packed ? 1 << 2 : 1 << 3;
            return m;
        }();
        run_merge(merge);
        if (testing::Test::HasFailure()) return;
    }
}

// Alignment decides between the kernels, and nothing else about a call.
TEST(EmulatedLaunches, AlignmentChoosesTheKernel)
{
    const auto define_of_last = [] { return take_launches().back().define; };
    for (const bool aligned : {true, false}) {
        AppendSpec s = conformance::small_append_spec();
        s.dim_qk = s.dim_v = 16, s.cache_layout = aligned ? "bshd" : "gaps";
        AppendCall append(s);
        append.run(*conformance::backends().front());
        EXPECT_EQ(define_of_last(), aligned ? "ATTN_VECTOR=1" : "ATTN_VECTOR=0");
        MergeCase m = conformance::plain_merge(3);
        m.out_layout = aligned ? "bshd" : "strided";
        MergeCall merge(m);
        std::string why;
        merge.run(merge.plan(handle(), why).get());
        EXPECT_EQ(define_of_last(), aligned ? "ATTN_VECTOR=1" : "ATTN_VECTOR=0");
    }
}

TEST(EmulatedLaunches, WorkspaceIsWhatLargeCallsNeed)
{
    const auto bytes_of = [](attn_plan plan) {
        std::size_t bytes = 0;
        EXPECT_EQ(attn_plan_workspace(plan, &bytes, nullptr), ATTN_OK);
        return bytes;
    };
    for (const std::int64_t parts : {48, 49}) {
        MergeCall call(conformance::plain_merge(parts));
        std::string why;
        const PlanPointer plan = call.plan(handle(), why);
        ASSERT_TRUE(plan) << why;
        EXPECT_EQ(bytes_of(plan.get()) > 0, parts == 49);
    }
    AppendSpec s = conformance::small_append_spec();
    s.batch = 2, s.mapped = true;
    for (const std::int64_t rows : {1024, 1025}) {
        s.most_new = rows;
        AppendCall call(s);
        PlanPointer plan;
        ASSERT_EQ(call.plan(handle(), plan), ATTN_OK) << attn_last_error();
        EXPECT_EQ(bytes_of(plan.get()) > 0, rows == 1025);
        if (rows == 1024) continue;
        std::vector<attn_tensor> views;
        std::vector<attn_arg> args;
        views.reserve(call.tensors.size());
        for (auto &[slot, tensor] : call.tensors) {
            views.push_back(tensor.view());
            args.push_back({slot, 0, &views.back()});
        }
        take_launches();
        EXPECT_EQ(attn_execute(plan.get(), args.data(), args.size(), nullptr, 0, nullptr), ATTN_ERROR_WORKSPACE);
        EXPECT_TRUE(take_launches().empty());
        attn_sizes sizes{};
        sizes.size = sizeof sizes, sizes.batch = 1, sizes.max_q = 7; // a length, which the host cannot know
        std::size_t fewer = 1;
        EXPECT_EQ(attn_plan_workspace_for(plan.get(), &sizes, &fewer), ATTN_OK);
        EXPECT_EQ(fewer, 0u);
    }
}

} // namespace
} // namespace gpu_emulated

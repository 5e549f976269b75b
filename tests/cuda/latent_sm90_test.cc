// Plans for the Hopper kernel of latent attention: shapes, splits, refusals, launches, tensor maps. Kernels do not run.
#include "backends/cuda/latent_sm90/executor.h"
#include "backends/cuda/latent_sm90/splits.h"
#include "backends/cuda/latent_sm90/variants.h"
#include "tests/cuda/sm90_session.h"

#include <algorithm>
#include <cstdlib>
#include <functional>

namespace attn::cuda::test {
namespace {

/// A problem that the kernel serves.
Described served(const char *name = "served")
{
    Described described(name);
    described.problem.q_dtype = ATTN_BFLOAT16, described.problem.flags = ATTN_V_ALIASES_K;
    described.problem.batch = 2, described.problem.heads_q = 128, described.problem.heads_k = 1;
    described.problem.dim_qk = 576, described.problem.dim_v = 512;
    described.problem.max_q = 1, described.problem.max_kv = 1000;
    return described;
}

class LatentSm90 : public Sm90Session {
protected:
    void SetUp() override
    {
        Sm90Session::SetUp();
        record_->parameters = 2; // what all that are launched have at least
    }
    std::string refusal(Described described, int device_id = 0)
    {
        return refusal_by(sm90::refuse_latent, std::move(described), device_id);
    }
};

TEST_F(LatentSm90, Shape)
{
    constexpr sm90::LatentShape kShape = {2, 1};
    EXPECT_EQ(kShape.fault(), nullptr);
    EXPECT_NE((sm90::LatentShape{0, 1}).fault(), nullptr);
    const sm90::LatentLayout at = kShape.shared();
    for (const int32_t place : {at.q, at.k, sm90::LatentShape::kBufferBytes})
        EXPECT_EQ(place % 1024, 0) << "the pattern of the swizzle";
    EXPECT_EQ(at.barriers % 8, 0);
    EXPECT_LE(at.bytes, 227 * 1024);
    EXPECT_LE(sm90::LatentShape::kProducerRegisters + 2 * sm90::LatentShape::kConsumerRegisters,
              3 * (65536 / kShape.threads() / 8 * 8))
        << "registers that the launch has";
}

/// Splits are worth their while and never need more workspace than there is.
TEST_F(LatentSm90, Splits)
{
    for (const bool invariant : {false, true})
        for (const int64_t tiles : {1, 2, 5, 8, 17, 40, 66, 67, 98, 99, 132, 133, 140, 256, 264, 265, 5000})
            for (const int64_t key_blocks : {1, 2, 3, 7, 8, 16, 17, 100, 128, 129, 1000, 4000}) {
                SCOPED_TRACE(testing::Message() << tiles << " tiles, " << key_blocks << " blocks of keys");
                const sm90::LatentRules rules = {132, invariant, 5};
                const int64_t splits = sm90::latent_splits(rules, tiles, key_blocks);
                ASSERT_GE(splits, 1);
                if (invariant) {
                    EXPECT_EQ(splits, 5);
                } else if (splits > 1) {
                    EXPECT_LE(4 * splits, key_blocks);
                }
                if (splits == 1) continue;
                EXPECT_LE(tiles * splits, sm90::most_latent_partials(rules, tiles, key_blocks));
                // Calls of less need no more.
                EXPECT_LE(tiles * splits, sm90::most_latent_partials(rules, 2 * tiles, key_blocks));
                EXPECT_LE(tiles * splits, sm90::most_latent_partials(rules, tiles, 2 * key_blocks));
            }
    const sm90::LatentRules rules = {132, false, 1};
    EXPECT_EQ(sm90::latent_splits(rules, 0, 10), 1);
    EXPECT_EQ(sm90::latent_splits(rules, 10, 0), 1);
    EXPECT_EQ(sm90::latent_splits(rules, 132, 128), 1);
    EXPECT_EQ(sm90::latent_splits(rules, 66, 128), 2);
    EXPECT_EQ(sm90::latent_splits(rules, 2, 1024), 64) << "16 blocks of keys for each of 128 SMs";
    EXPECT_GT(sm90::latent_splits(rules, 140, 128), 1)
        << "or a second wave of 8 blocks would take as long as the first";
}

TEST_F(LatentSm90, Refusals)
{
    EXPECT_EQ(refusal(served()), "");
    const struct {
        std::function<void(Described &)> change;
        const char *reason;
    } table[] = {
        {[](Described &d) { d.problem.max_q = 5; }, ""},
        {[](Described &d) { d.problem.max_q = 1000; }, ""},
        {[](Described &d) { d.problem.heads_q = 16; }, ""},
        {[](Described &d) { d.problem.heads_q = 1; }, ""},
        {[](Described &d) { d.problem.heads_k = d.problem.heads_v = 4; }, ""},
        {[](Described &d) { d.problem.q_dtype = ATTN_FLOAT16; }, ""},
        {[](Described &d) { d.problem.page_size = 16; }, ""},
        {[](Described &d) { d.problem.page_size = 192; }, ""},
        {[](Described &d) { d.dense.causal = ATTN_BOTTOM_RIGHT; }, ""},
        {[](Described &d) { d.bind(ATTN_SLOT_LSE); }, ""},
        {[](Described &d) { d.problem.flags = 0; }, "a V of its own (attn_problem.flags: without ATTN_V_ALIASES_K)"},
        {[](Described &d) { d.problem.q_dtype = ATTN_FLOAT32; }, "float16 or bfloat16 throughout"},
        {[](Described &d) { d.problem.flags |= ATTN_STRICT_NONFINITE; }, "ATTN_STRICT_NONFINITE"},
        {[](Described &d) { d.dense.softcap = 30; }, "the plain operator"},
        {[](Described &d) { d.problem.scale = -1; }, "the plain operator"},
        {[](Described &d) { d.problem.dim_qk = 512; }, "attn_problem.dim_qk = 512 (576)"},
        {[](Described &d) { d.problem.dim_v = 256; }, "attn_problem.dim_v = 256 (512)"},
        {[](Described &d) { d.problem.page_size = 1; }, "attn_problem.page_size = 1 (a divisor of 64 from 8 on"},
        {[](Described &d) { d.problem.page_size = 48; }, "attn_problem.page_size = 48"},
    };
    for (const auto &[change, reason] : table) {
        Described described = served();
        change(described);
        if (described.problem.page_size) described.problem.max_kv = 960; // whole pages of each
        if (*reason == 0)
            EXPECT_EQ(refusal(described), "");
        else
            EXPECT_NE(refusal(described).find(reason), std::string::npos) << reason << ": " << refusal(described);
    }
    EXPECT_EQ(refusal(served(), 1), "needs compute capability 9.0, this is 8.0");
}

/// Few tiles: splits, and a kernel that combines them.
TEST_F(LatentSm90, LaunchOfSplits)
{
    attn_handle handle = create();
    attn_plan plan = nullptr;
    Described described = served();
    described.problem.max_q = 2;
    ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
    const std::string text = describe(plan);
    EXPECT_NE(text.find("\"kernel\":\"cuda.dense.latent_sm90\""), std::string::npos) << text;
    EXPECT_NE(text.find("\"splits\":4"), std::string::npos) << text;
    Tensors tensors(plan);
    ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
    ASSERT_EQ(fake_cuda_launch_count(), 2);
    fake_cuda_launch launch;
    ASSERT_TRUE(fake_cuda_get_launch(0, &launch));
    EXPECT_STREQ(launch.kernel, "attn_dense_latent_sm90");
    EXPECT_EQ(launch.grid[0], 2u * 4 * 4) << "sequences, tiles of 64 of 256 rows, splits";
    EXPECT_EQ(launch.block[0], 384u);
    EXPECT_EQ(launch.cluster, 0u);
    EXPECT_TRUE(launch.programmatic);
    ASSERT_TRUE(fake_cuda_get_launch(1, &launch));
    EXPECT_STREQ(launch.kernel, "attn_dense_combine");
    EXPECT_EQ(launch.grid[0], 2u * 4 * 64 * 16 / 4) << "four warps, of 32 channels each, for each row of a tile";
    EXPECT_TRUE(launch.programmatic);
    fake_cuda_tensor_map k;
    ASSERT_TRUE(fake_cuda_get_tensor_map(0, &k));
    EXPECT_EQ(k.address, tensors.view(ATTN_SLOT_K).data);
    EXPECT_EQ(k.swizzle, CU_TENSOR_MAP_SWIZZLE_128B);
    const uint64_t extents[] = {576, 1000, 1, 2};
    EXPECT_TRUE(std::equal(extents, extents + 4, k.extents));
    EXPECT_EQ(k.strides[0], 576u * 2) << "from key to key";
    EXPECT_EQ(k.strides[2], 1000u * 576 * 2);
    const uint32_t box[] = {64, 64, 1, 1};
    EXPECT_TRUE(std::equal(box, box + 4, k.box));
    attn_plan_destroy(plan);
    attn_destroy(handle);
}

/// Enough tiles, or few keys: no splits, and nothing to combine.
TEST_F(LatentSm90, LaunchWithoutSplits)
{
    attn_handle handle = create();
    for (const bool many : {true, false}) {
        Described described = served();
        described.problem.batch = many ? 66 : 2, described.problem.max_kv = many ? 1000 : 100;
        attn_plan plan = nullptr;
        ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
        const Tensors tensors(plan);
        fake_cuda_clear_launches();
        ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
        ASSERT_EQ(fake_cuda_launch_count(), 1);
        fake_cuda_launch launch;
        ASSERT_TRUE(fake_cuda_get_launch(0, &launch));
        EXPECT_STREQ(launch.kernel, "attn_dense_latent_sm90");
        EXPECT_EQ(launch.grid[0], many ? 132u : 4u);
        attn_plan_destroy(plan);
    }
    attn_destroy(handle);
}

/// Boxes are of one page; a map is of pages.
TEST_F(LatentSm90, Pages)
{
    attn_handle handle = create();
    for (const int64_t page : {16, 64, 128}) {
        Described described = served();
        described.problem.page_size = page, described.problem.max_kv = 1024;
        attn_plan plan = nullptr;
        ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
        Tensors tensors(plan);
        fake_cuda_clear_launches();
        ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
        fake_cuda_tensor_map k;
        ASSERT_TRUE(fake_cuda_get_tensor_map(0, &k));
        const auto pages = static_cast<uint64_t>(tensors.view(ATTN_SLOT_K).shape[0]);
        const uint64_t extents[] = {576, static_cast<uint64_t>(page), 1, pages};
        EXPECT_TRUE(std::equal(extents, extents + 4, k.extents));
        EXPECT_EQ(k.box[1], static_cast<uint32_t>(std::min<int64_t>(page, 64)));
        attn_plan_destroy(plan);
    }
    attn_destroy(handle);
}

/// Calls whose tensors are no tiles go to the portable kernel.
TEST_F(LatentSm90, OtherStrides)
{
    record_->parameters = 1; // those of the kernels that are launched
    attn_handle handle = create();
    attn_plan plan = nullptr;
    ASSERT_EQ(served().plan(handle, &plan), ATTN_OK) << last_error();
    const std::function<void(Tensors &)> changes[] = {
        [](Tensors &t) { // not aligned; a key less, so that it stays within its memory
            t.view(ATTN_SLOT_K).shape[1] = 999;
            t.view(ATTN_SLOT_K).byte_offset = 2;
        },
        [](Tensors &t) { t.view(ATTN_SLOT_Q).strides[2] = 572; }, // rows that are not aligned
        [](Tensors &t) { t.view(ATTN_SLOT_K).shape[1] = 0; },
    };
    for (const auto &change : changes) {
        Tensors tensors(plan);
        change(tensors);
        fake_cuda_clear_launches();
        ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
        fake_cuda_launch launch;
        ASSERT_TRUE(fake_cuda_get_launch(0, &launch));
        EXPECT_STREQ(launch.kernel, "attn_dense_forward");
    }
    attn_plan_destroy(plan);
    attn_destroy(handle);
}

TEST_F(LatentSm90, EveryCallFails)
{
    const Sweep sweep = fail_every_call_of(served);
    EXPECT_EQ(sweep.faults.count("cuTensorMapEncodeTiled"), 1u);
    EXPECT_EQ(sweep.faults.count("cuLaunchKernelEx"), 1u);
}

/// Tiles of one token may be a cluster; where heads do not fill two tiles they are not.
TEST_F(LatentSm90, ShapeOverride)
{
    attn_handle handle = create();
    attn_plan plan = nullptr;
    setenv("ATTN_GPU_LATENT_SHAPE", "cluster=2", 1);
    for (const int64_t heads : {64, 128, 192, 256}) {
        Described described = served();
        described.problem.heads_q = heads, described.problem.max_q = 2;
        ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
        const uint32_t cluster = heads % 128 == 0 ? 2 : 1;
        EXPECT_NE(describe(plan).find("\"cluster\":" + std::to_string(cluster)), std::string::npos);
        Tensors tensors(plan);
        fake_cuda_clear_launches();
        ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
        fake_cuda_launch launch;
        ASSERT_TRUE(fake_cuda_get_launch(0, &launch));
        EXPECT_EQ(launch.cluster, cluster == 1 ? 0u : cluster);
        EXPECT_EQ(launch.grid[0] % cluster, 0u);
        attn_plan_destroy(plan);
    }
    setenv("ATTN_GPU_LATENT_SHAPE", "cluster=3", 1);
    EXPECT_TRUE(failed_with(served().plan(handle, &plan), ATTN_ERROR_INVALID,
                            {"ATTN_GPU_LATENT_SHAPE = cluster=3: cluster must be 1 or 2"}));
    unsetenv("ATTN_GPU_LATENT_SHAPE");
    attn_destroy(handle);
}

} // namespace
} // namespace attn::cuda::test

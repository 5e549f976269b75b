// Plans for the Hopper kernel of few rows: shapes, splits, refusals, launches, tensor maps. Kernels do not run.
#include "backends/cuda/decode_sm90/executor.h"
#include "backends/cuda/decode_sm90/splits.h"
#include "backends/cuda/decode_sm90/variants.h"
#include "tests/cuda/sm90_session.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <tuple>

namespace attn::cuda::test {
namespace {

/// A problem that the kernel serves.
Described served(const char *name = "served")
{
    Described described(name);
    described.problem.q_dtype = ATTN_BFLOAT16;
    described.problem.batch = 2, described.problem.heads_q = 16, described.problem.heads_k = 4;
    described.problem.dim_qk = 128, described.problem.max_q = 1, described.problem.max_kv = 1000;
    return described;
}

class DecodeSm90 : public Sm90Session {
protected:
    std::string refusal(Described described, int device_id = 0)
    {
        return refusal_by(sm90::refuse_decode, std::move(described), device_id);
    }
};

TEST_F(DecodeSm90, EveryHeadHasAShape)
{
    for (const int64_t rows : {1, 16, 17, 32, 33, 64})
        for (int64_t dim_qk = 8; dim_qk <= sm90::kLargestDecodeDim; dim_qk += 8)
            for (int64_t dim_v = 8; dim_v <= sm90::kLargestDecodeDim; dim_v += 8) {
                const sm90::DecodeShape s = sm90::decode_shape_of(2, rows, dim_qk, dim_v);
                ASSERT_EQ(s.fault(), nullptr) << rows << " " << dim_qk << " " << dim_v;
                EXPECT_EQ(s.rows, rows <= 16 ? 16 : rows <= 32 ? 32 : 64);
                EXPECT_GE(s.dim_qk, dim_qk);
                EXPECT_EQ(s.dim_qk % (rows > 16 ? 64 : 16), 0);
                EXPECT_GE(s.dim_v, dim_v);
                EXPECT_EQ(s.k_bytes() % 1024, 0) << "the pattern of the swizzle";
                EXPECT_EQ(s.stage_bytes() % 1024, 0);
                EXPECT_GE(s.stages, 3) << "or copies would wait for products";
                const sm90::DecodeShape few = sm90::decode_shape_of(2, 1, dim_qk, dim_v);
                if (rows > 16) {
                    const sm90::DecodeShape many = sm90::decode_shape_of(2, 64, dim_qk, dim_v);
                    EXPECT_EQ(s.stages, many.stages) << "parts of rows take the place of the stages, not more";
                    EXPECT_EQ(s.blocks, many.blocks);
                }
                // The place for what 16 rows receive may cost a stage, or leave one block, which then has all memory.
                const bool same_blocks = few.blocks == s.blocks;
                EXPECT_GE(few.stages, same_blocks ? s.stages - 1 : 2 * s.stages) << dim_qk << " " << dim_v;
                EXPECT_TRUE(same_blocks || (few.blocks == 1 && few.dim_qk <= 64 && few.dim_v == 192))
                    << dim_qk << " " << dim_v;
            }
    EXPECT_EQ(sm90::decode_shape_of(2, 16, 128, 128).blocks, 2);
    EXPECT_EQ(sm90::decode_shape_of(2, 16, 256, 256).blocks, 1);
}

/// Parts of rows, and behind them what a cluster sends, take the place of the stages; but what 16 rows receive has a
/// place of its own.
TEST_F(DecodeSm90, PlacesInSharedMemory)
{
    for (const int64_t rows : {16, 32, 64})
        for (int64_t dim_v = 64; dim_v <= sm90::kLargestDecodeDim; dim_v += 64) {
            const sm90::DecodeShape s = sm90::decode_shape_of(2, rows, 64, dim_v);
            const sm90::DecodeLayout at = s.shared();
            const int stages_end = s.stages * s.stage_bytes(), parts_end = s.key_warps() * s.part_bytes();
            EXPECT_GE(at.received, rows == 16 ? std::max(stages_end, parts_end) : parts_end);
            EXPECT_EQ(at.received % 16, 0) << "copies of the engine";
            EXPECT_EQ(s.part_step() * 4 % 16, 0);
            EXPECT_EQ(at.barriers, std::max(stages_end, at.received + s.received_bytes()));
            EXPECT_EQ(at.bytes, at.barriers + 16 * s.stages + 8);
            // Each block of a cluster finishes as many rows, rounded up, and receives one of each from all.
            for (int blocks = 2; blocks <= sm90::DecodeShape::kMostClusterSplits; ++blocks)
                for (int count = 1; count <= rows; ++count)
                    EXPECT_LE((count + blocks - 1) / blocks * blocks, s.most_received());
        }
}

/// The warps that compute have every row and every key of a stage once.
TEST_F(DecodeSm90, WarpsByRowsAndKeys)
{
    for (const auto &[rows, row_warps, keys] : {std::tuple(16, 1, 16), {32, 2, 32}, {64, 4, 64}}) {
        const sm90::DecodeShape s = sm90::decode_shape_of(2, rows, 128, 128);
        EXPECT_EQ(s.row_warps(), row_warps);
        EXPECT_EQ(s.row_warps() * s.key_warps(), sm90::DecodeShape::kWarps);
        EXPECT_EQ(s.warp_keys(), keys);
        EXPECT_EQ(s.warp_keys() * s.key_warps(), sm90::DecodeShape::kKeys);
        EXPECT_EQ(s.step_keys(), keys);
        EXPECT_EQ(sm90::decode_shape_of(2, rows, 64, 256).step_keys(), 16) << "registers are few";
    }
    sm90::DecodeShape s = sm90::decode_shape_of(2, 16, 128, 128);
    s.rows = 48;
    EXPECT_STREQ(s.fault(), "rows must be 16, 32 or 64");
}

/// Of a GPU of 132 SMs, in groups of 16: a cluster lies in one of them.
sm90::DecodeRules rules_of(int64_t blocks_per_unit, bool busy = false, bool invariant = false)
{
    sm90::DecodeRules rules = {132, blocks_per_unit, busy, invariant, 5};
    for (uint32_t blocks = 2; blocks <= gpu::kMostClusterBlocks; ++blocks)
        rules.clusters[blocks] = 8 * (16 * blocks_per_unit / blocks);
    return rules;
}

/// Splits fill the SMs and no more; clusters have room; the workspace has room for whatever meets in it.
TEST_F(DecodeSm90, Splits)
{
    for (const auto &[invariant, busy] : {std::pair(false, false), std::pair(true, false), std::pair(false, true)})
        for (const int64_t blocks_per_unit : {1, 2})
            for (const int64_t tiles : {1, 2, 5, 8, 17, 40, 66, 67, 98, 99, 132, 256, 5000})
                for (const int64_t key_blocks : {1, 2, 3, 16, 17, 100, 128, 129, 1000, 4000}) {
                    SCOPED_TRACE(testing::Message() << tiles << " tiles, " << key_blocks << " blocks of keys");
                    const sm90::DecodeRules rules = rules_of(blocks_per_unit, busy, invariant);
                    const sm90::DecodeSplits splits = sm90::decode_splits(rules, tiles, key_blocks);
                    ASSERT_GE(splits.count, 1);
                    if (invariant) {
                        EXPECT_EQ(splits.count, 5);
                    } else {
                        EXPECT_LE(splits.count, key_blocks);
                        EXPECT_TRUE(splits.count == 1 || tiles * splits.count <= 132 * blocks_per_unit);
                    }
                    if (splits.clustered) {
                        EXPECT_GT(splits.count, 1);
                        EXPECT_LE(splits.count, gpu::kMostClusterBlocks);
                        EXPECT_LE(tiles, rules.clusters[static_cast<size_t>(splits.count)]);
                    } else if (splits.count > 1) {
                        EXPECT_LE(tiles * splits.count, sm90::most_decode_partials(rules, tiles, key_blocks));
                        // Calls of less need no more.
                        EXPECT_LE(tiles * splits.count, sm90::most_decode_partials(rules, 2 * tiles, key_blocks));
                    }
                }
    const sm90::DecodeRules rules = rules_of(2);
    EXPECT_EQ(sm90::decode_splits(rules, 256, 128).count, 1);
    EXPECT_EQ(sm90::decode_splits(rules, 8, 128).count, 8);
    EXPECT_TRUE(sm90::decode_splits(rules, 8, 128).clustered);
    EXPECT_EQ(sm90::decode_splits(rules, 8, 2048).count, 32) << "nearly all SMs, twice";
    EXPECT_FALSE(sm90::decode_splits(rules, 8, 2048).clustered);
    const sm90::DecodeRules alone = rules_of(1);
    EXPECT_EQ(sm90::decode_splits(alone, 8, 2048).count, 8) << "half of the SMs read as fast";
    EXPECT_TRUE(sm90::decode_splits(alone, 8, 2048).clustered);
    EXPECT_FALSE(sm90::decode_splits(alone, 4, 2048).clustered);
    sm90::DecodeRules busy = rules_of(2, true);
    EXPECT_EQ(sm90::decode_splits(busy, 32, 128).count, 8) << "two blocks on an SM";
    EXPECT_TRUE(sm90::decode_splits(busy, 32, 128).clustered);
    EXPECT_EQ(sm90::decode_splits(busy, 96, 128).count, 2);
    EXPECT_TRUE(sm90::decode_splits(busy, 96, 128).clustered);
    EXPECT_EQ(sm90::decode_splits(busy, 200, 128).count, 1);
    busy.clusters[8] = 31;
    EXPECT_EQ(sm90::decode_splits(busy, 32, 128).count, 7) << "clusters of 8 do not all have room at a time";
    busy.clusters = {};
    EXPECT_EQ(sm90::decode_splits(busy, 96, 128).count, 2);
    EXPECT_FALSE(sm90::decode_splits(busy, 96, 128).clustered) << "no clusters at all";
}

/// Calls that leave SMs free begin when the kernel before them has ended, but for short ones.
TEST_F(DecodeSm90, BeginsEarly)
{
    const sm90::DecodeRules rules = rules_of(2);
    EXPECT_TRUE(sm90::begin_early(rules, 64, 2));
    EXPECT_FALSE(sm90::begin_early(rules, 64, 8));
    EXPECT_FALSE(sm90::begin_early(rules, 128, 4));
    EXPECT_FALSE(sm90::begin_early(rules, 160, 64));
    EXPECT_TRUE(sm90::begin_early(rules, 256, 64));
    EXPECT_TRUE(sm90::begin_early(rules, 1024, 64));
    EXPECT_TRUE(sm90::begin_early(rules_of(1), 132, 64));
}

TEST_F(DecodeSm90, Refusals)
{
    EXPECT_EQ(refusal(served()), "");
    const struct {
        std::function<void(Described &)> change;
        const char *reason;
    } table[] = {
        {[](Described &d) { d.problem.max_q = 4; }, ""},
        {[](Described &d) { d.problem.max_q = 16; }, ""},
        {[](Described &d) { d.problem.max_q = 17; },
         "attn_problem.max_q = 17 with 4 heads on a key head (at most 64 rows)"},
        {[](Described &d) { d.problem.heads_q = 64 * 4; }, ""},
        {[](Described &d) { d.problem.heads_q = 65 * 4; }, "max_q = 1 with 65 heads on a key head (at most 64 rows)"},
        {[](Described &d) { d.problem.q_dtype = ATTN_FLOAT32; }, "float16 or bfloat16 throughout"},
        {[](Described &d) { d.problem.flags = ATTN_STRICT_NONFINITE; }, "ATTN_STRICT_NONFINITE"},
        {[](Described &d) { d.dense.softcap = 30; }, "the plain operator"},
        {[](Described &d) { d.problem.scale = -1; }, "the plain operator"},
        {[](Described &d) { d.problem.dim_qk = 264; }, "attn_problem.dim_qk = 264 (a multiple of 8 up to 256)"},
        {[](Described &d) { d.problem.page_size = 16; }, ""},
        {[](Described &d) { d.problem.page_size = 192; }, ""},
        {[](Described &d) { d.problem.page_size = 1; }, "attn_problem.page_size = 1 (a divisor of 64 from 8 on"},
        {[](Described &d) { d.problem.page_size = 48; }, "attn_problem.page_size = 48"},
        {[](Described &d) { d.dense.causal = ATTN_BOTTOM_RIGHT; }, ""},
        {[](Described &d) { d.bind(ATTN_SLOT_LSE); }, ""},
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

/// More queries of a head than 16: left to the kernel of many rows only where that has work for all SMs, one head a
/// tile, and no pages.
TEST_F(DecodeSm90, ManyQueries)
{
    const struct {
        int64_t batch, heads_q, heads_k, max_q, page_size;
        bool refused;
    } table[] = {
        {2, 4, 4, 64, 0, false},  {2, 4, 4, 65, 0, true},   {32, 4, 4, 32, 0, false}, // 128 tiles, 132 SMs
        {33, 4, 4, 32, 0, true},  {33, 4, 4, 16, 0, false}, {33, 4, 4, 32, 16, false},
        {33, 8, 4, 32, 0, false}, {33, 8, 4, 33, 0, true},
    };
    for (const auto &c : table) {
        Described described = served();
        described.problem.batch = c.batch, described.problem.heads_q = c.heads_q, described.problem.heads_k = c.heads_k;
        described.problem.max_q = c.max_q, described.problem.page_size = c.page_size;
        if (c.page_size) described.problem.max_kv = 960;
        const std::string reason = refusal(described);
        EXPECT_EQ(!reason.empty(), c.refused) << c.batch << " " << c.heads_q << " " << c.max_q << ": " << reason;
    }
    Described described = served();
    described.problem.batch = 33, described.problem.heads_q = 4, described.problem.max_q = 32;
    EXPECT_NE(
        refusal(described).find("max_q = 32 with 1 heads on a key head (at most 16 queries where there are 132 tiles"),
        std::string::npos)
        << refusal(described);
}

/// Rows of a tile: in the shape, in what the second kernel gets, and in the workspace.
TEST_F(DecodeSm90, RowsOfATile)
{
    record_->parameters = 2; // what all that are launched have at least
    attn_handle handle = create();
    for (const auto &[heads_q, max_q, rows] :
         {std::tuple(4, 16, 16), {4, 17, 32}, {32, 4, 32}, {40, 4, 64}, {256, 1, 64}}) {
        SCOPED_TRACE(testing::Message() << heads_q << " heads, " << max_q << " queries");
        Described described = served();
        described.problem.batch = 1, described.problem.heads_q = heads_q;
        described.problem.max_q = max_q, described.problem.max_kv = 10000;
        attn_plan plan = nullptr;
        ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
        const std::string text = describe(plan);
        EXPECT_NE(text.find("\"kernel\":\"cuda.dense.decode_sm90\""), std::string::npos) << text;
        EXPECT_NE(text.find("\"tile_rows\":" + std::to_string(rows) + ","), std::string::npos) << text;
        EXPECT_NE(text.find("\"splits_meet_in\":\"workspace\""), std::string::npos) << text;
        const Tensors tensors(plan);
        fake_cuda_clear_launches();
        ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
        fake_cuda_launch launch;
        ASSERT_EQ(fake_cuda_launch_count(), 2);
        ASSERT_TRUE(fake_cuda_get_launch(0, &launch));
        EXPECT_EQ(launch.block[0], 160u);
        const uint32_t splits = launch.grid[0] / 4;
        size_t bytes = 0, alignment = 0;
        ASSERT_EQ(attn_plan_workspace(plan, &bytes, &alignment), ATTN_OK);
        EXPECT_GE(bytes, size_t{4} * splits * static_cast<size_t>(rows) * (128 + 3) * sizeof(float));
        ASSERT_TRUE(fake_cuda_get_launch(1, &launch));
        EXPECT_STREQ(launch.kernel, "attn_dense_combine");
        EXPECT_EQ(launch.grid[0], 4u * static_cast<uint32_t>(rows)) << "four warps for each row of a tile";
        attn_plan_destroy(plan);
    }
    attn_destroy(handle);
}

/// Few tiles: a cluster for each, and no second kernel.
TEST_F(DecodeSm90, LaunchOfClusters)
{
    attn_handle handle = create();
    attn_plan plan = nullptr;
    ASSERT_EQ(served().plan(handle, &plan), ATTN_OK) << last_error();
    const std::string text = describe(plan);
    EXPECT_NE(text.find("\"kernel\":\"cuda.dense.decode_sm90\""), std::string::npos) << text;
    EXPECT_NE(text.find("\"splits\":8,\"splits_meet_in\":\"cluster\""), std::string::npos) << text;
    Tensors tensors(plan);
    ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
    ASSERT_EQ(fake_cuda_launch_count(), 1);
    fake_cuda_launch launch;
    ASSERT_TRUE(fake_cuda_get_launch(0, &launch));
    EXPECT_STREQ(launch.kernel, "attn_dense_decode_sm90");
    EXPECT_EQ(launch.grid[0], 2u * 4 * 8) << "sequences, heads of K, splits";
    EXPECT_EQ(launch.block[0], 160u);
    EXPECT_EQ(launch.cluster, 8u);
    EXPECT_TRUE(launch.balanced);
    EXPECT_TRUE(launch.programmatic) << "a short call";
    fake_cuda_tensor_map k, v;
    ASSERT_TRUE(fake_cuda_get_tensor_map(0, &v) && fake_cuda_get_tensor_map(1, &k));
    for (const auto &[map, slot] : {std::pair(&k, ATTN_SLOT_K), std::pair(&v, ATTN_SLOT_V)}) {
        EXPECT_EQ(map->address, tensors.view(slot).data);
        EXPECT_EQ(map->swizzle, CU_TENSOR_MAP_SWIZZLE_128B);
        const uint64_t extents[] = {128, 1000, 4, 2}, strides[] = {4 * 256, 256, 1000 * 4 * 256};
        EXPECT_TRUE(std::equal(extents, extents + 4, map->extents));
        EXPECT_TRUE(std::equal(strides, strides + 3, map->strides));
        const uint32_t box[] = {64, 64, 1, 1};
        EXPECT_TRUE(std::equal(box, box + 4, map->box));
    }
    attn_plan_destroy(plan);
    attn_destroy(handle);
}

/// Enough tiles: no splits. Few with many keys: all SMs, and a kernel that combines.
TEST_F(DecodeSm90, OtherLaunches)
{
    record_->parameters = 2; // what all that are launched have at least
    attn_handle handle = create();
    for (const bool many : {true, false}) {
        Described described = served();
        described.problem.batch = many ? 40 : 3, described.problem.max_kv = many ? 100 : 100000;
        attn_plan plan = nullptr;
        ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
        const Tensors tensors(plan);
        fake_cuda_clear_launches();
        ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
        fake_cuda_launch launch;
        ASSERT_TRUE(fake_cuda_get_launch(0, &launch));
        EXPECT_STREQ(launch.kernel, "attn_dense_decode_sm90");
        EXPECT_EQ(launch.cluster, 0u);
        if (many) {
            EXPECT_EQ(fake_cuda_launch_count(), 1);
            EXPECT_EQ(launch.grid[0], 160u);
            EXPECT_FALSE(launch.programmatic) << "where it waited the next would be left with the other SMs";
        } else {
            ASSERT_EQ(fake_cuda_launch_count(), 2);
            EXPECT_EQ(launch.grid[0] % 12, 0u);
            EXPECT_GT(launch.grid[0], 100u);
            ASSERT_TRUE(fake_cuda_get_launch(1, &launch));
            EXPECT_STREQ(launch.kernel, "attn_dense_combine");
            EXPECT_EQ(launch.grid[0], 3u * 4 * 16) << "four warps, of 32 channels each, for each row of a tile";
            EXPECT_TRUE(launch.programmatic);
        }
        attn_plan_destroy(plan);
    }
    attn_destroy(handle);
}

/// Boxes are of one page; a map is of pages.
TEST_F(DecodeSm90, Pages)
{
    attn_handle handle = create();
    for (const int64_t page : {16, 128}) {
        Described described = served();
        described.problem.page_size = page, described.problem.max_kv = 1024;
        attn_plan plan = nullptr;
        ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
        Tensors tensors(plan);
        fake_cuda_clear_launches();
        ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
        fake_cuda_tensor_map k;
        ASSERT_TRUE(fake_cuda_get_tensor_map(1, &k));
        const auto pages = static_cast<uint64_t>(tensors.view(ATTN_SLOT_K).shape[0]);
        const uint64_t extents[] = {128, static_cast<uint64_t>(page), 4, pages};
        EXPECT_TRUE(std::equal(extents, extents + 4, k.extents));
        EXPECT_EQ(k.box[1], static_cast<uint32_t>(std::min<int64_t>(page, 64)));
        attn_plan_destroy(plan);
    }
    attn_destroy(handle);
}

/// Calls whose tensors are no tiles go to the portable kernel.
TEST_F(DecodeSm90, OtherStrides)
{
    record_->parameters = 1; // those of the kernels that are launched
    attn_handle handle = create();
    attn_plan plan = nullptr;
    ASSERT_EQ(served().plan(handle, &plan), ATTN_OK) << last_error();
    const std::function<void(Tensors &)> changes[] = {
        [](Tensors &t) { // not aligned; a key less, so that it stays within its memory
            for (const attn_slot slot : {ATTN_SLOT_K, ATTN_SLOT_V}) t.view(slot).shape[1] = 999;
            t.view(ATTN_SLOT_K).byte_offset = 2;
        },
        [](Tensors &t) { t.view(ATTN_SLOT_V).strides[2] = 0; },
        [](Tensors &t) { t.view(ATTN_SLOT_Q).strides[2] = 124; }, // rows that are not aligned
        [](Tensors &t) {
            for (const attn_slot slot : {ATTN_SLOT_K, ATTN_SLOT_V}) t.view(slot).shape[1] = 0;
        },
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

TEST_F(DecodeSm90, EveryCallFails)
{
    const Sweep sweep = fail_every_call_of(served);
    EXPECT_EQ(sweep.faults.count("cuTensorMapEncodeTiled"), 1u);
    EXPECT_EQ(sweep.faults.count("cuLaunchKernelEx"), 1u);
}

TEST_F(DecodeSm90, ShapeOverride)
{
    attn_handle handle = create();
    attn_plan plan = nullptr;
    setenv("ATTN_GPU_DECODE_SHAPE", "stages=5,blocks=1", 1);
    ASSERT_EQ(served().plan(handle, &plan), ATTN_OK) << last_error();
    EXPECT_NE(describe(plan).find("\"stages\":5"), std::string::npos);
    attn_plan_destroy(plan);
    setenv("ATTN_GPU_DECODE_SHAPE", "stages=9", 1);
    EXPECT_TRUE(failed_with(served().plan(handle, &plan), ATTN_ERROR_INVALID,
                            {"ATTN_GPU_DECODE_SHAPE = stages=9: stages must be 2 to 8"}));
    setenv("ATTN_GPU_DECODE_SHAPE", "rows=64", 1);
    ASSERT_EQ(served().plan(handle, &plan), ATTN_OK) << last_error();
    EXPECT_NE(describe(plan).find("\"tile_rows\":64"), std::string::npos);
    attn_plan_destroy(plan);
    setenv("ATTN_GPU_DECODE_SHAPE", "rows=16", 1);
    Described many = served();
    many.problem.max_q = 5;
    EXPECT_TRUE(failed_with(many.plan(handle, &plan), ATTN_ERROR_INVALID,
                            {"ATTN_GPU_DECODE_SHAPE = rows=16: the plan has tiles of more than 16 rows"}));
    unsetenv("ATTN_GPU_DECODE_SHAPE");
    attn_destroy(handle);
}

} // namespace
} // namespace attn::cuda::test

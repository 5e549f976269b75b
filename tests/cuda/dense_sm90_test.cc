// Plans for the Hopper kernel of dense attention: shapes, refusals, launches, tensor maps. Kernels do not run.
#include "backends/cuda/dense_sm90/executor.h"
#include "backends/cuda/dense_sm90/variants.h"
#include "backends/cuda/sm90_model.h"
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
    described.problem.q_dtype = ATTN_BFLOAT16;
    described.problem.batch = 3, described.problem.heads_q = 8, described.problem.heads_k = 2;
    described.problem.dim_qk = 128, described.problem.max_q = 1000, described.problem.max_kv = 1500;
    described.dense.causal = ATTN_BOTTOM_RIGHT;
    return described;
}

/// Long rows of heads above 128 channels, which all see the same keys.
Described served_in_clusters(const char *name = "clusters")
{
    Described described = served(name);
    described.dense.causal = ATTN_ALIGN_NONE;
    described.problem.max_q = 2100, described.problem.dim_qk = 192, described.problem.dim_v = 128;
    return described;
}

class DenseSm90 : public Sm90Session {
protected:
    std::string refusal(Described described, int device_id = 0)
    {
        return refusal_by(sm90::refuse_forward, std::move(described), device_id);
    }
};

TEST_F(DenseSm90, EveryWishHasAShape)
{
    for (int64_t dim_qk = 8; dim_qk <= sm90::kLargestDim; dim_qk += 8)
        for (int64_t dim_v = 8; dim_v <= sm90::kLargestDim; dim_v += 8)
            for (const sm90::i32 features : {0, 1, 16, 63, 64, 128, 256, 1024, 319, 3199})
                for (const sm90::i32 mask :
                     {sm90::kMaskEnd, sm90::kMaskDiagonal, sm90::kMaskWindow, sm90::kMaskPosition}) {
                    const sm90::Shape s = sm90::shape_of({2, features, mask, dim_qk, dim_v});
                    ASSERT_EQ(s.fault(), nullptr) << dim_qk << " " << dim_v << " " << features;
                    EXPECT_GE(s.dim_qk, dim_qk);
                    EXPECT_GE(s.dim_v, dim_v);
                    const sm90::SharedLayout at = s.shared();
                    for (const sm90::i32 tile : {at.q, at.k, at.v, s.q_bytes(), s.k_bytes(), s.v_bytes()})
                        EXPECT_EQ(tile % 1024, 0) << "the pattern of the swizzle";
                    // Of what the block is launched with, warpgroups take no more than there is.
                    EXPECT_LE(s.producer_registers() + s.consumers * s.consumer_registers(),
                              (s.consumers + 1) * s.launch_registers());
                    EXPECT_LE(s.keys / 2 + s.keys / 4 + s.dim_v / 2, 176);
                }
    EXPECT_EQ(sm90::shape_of({2, 0, 0, 64, 64}).consumers, 3);
    EXPECT_EQ(sm90::shape_of({2, 0, sm90::kMaskPosition, 64, 64}).consumers, 2);
    EXPECT_EQ(sm90::shape_of({2, 0, sm90::kMaskDiagonal, 64, 64, true}).consumers, 2) << "smaller tiles";
    EXPECT_EQ(sm90::shape_of({2, 0, 0, 96, 96}).dim_qk, 96) << "no products of padding";
    EXPECT_EQ(sm90::shape_of({2, 0, 0, 96, 96}).dim_v, 128);
    EXPECT_EQ(sm90::shape_of({2, 0, 0, 128, 128}).query_buffers, 2);
    EXPECT_EQ(sm90::shape_of({2, 0, 0, 192, 128}).keys, 128);
    EXPECT_EQ(sm90::shape_of({2, 0, 0, 256, 256}).keys, 64);
    for (const sm90::i32 features : {sm90::kSigmoidWeights, sm90::kReluWeights, sm90::kBiasFloat16}) {
        EXPECT_EQ(sm90::shape_of({2, features, 0, 64, 64}).consumers, 2) << "registers of three are few";
        EXPECT_EQ(sm90::shape_of({2, features, 0, 64, 64}).keys, 128);
    }
    EXPECT_EQ(sm90::shape_of({2, sm90::kReluWeights, 0, 128, 128}).keys, 128);
    EXPECT_EQ(sm90::shape_of({2, sm90::kReluWeights | sm90::kEpilogue, 0, 128, 128}).keys, 96);
    EXPECT_EQ(sm90::shape_of({2, sm90::kBiasFloat32, 0, 128, 128}).keys, 96) << "addresses of a bias take registers";
}

struct CausalProblem {
    DenseProblem p;

    CausalProblem(int64_t sequences, int64_t heads, int64_t rows, int64_t keys, int64_t dim)
    {
        p.batch = sequences, p.heads_out = heads, p.max_q = rows, p.max_kv = keys, p.dim_qk = p.dim_v = dim;
        p.mask.causal = true, p.mask.align = ATTN_BOTTOM_RIGHT;
    }
    double forward(int64_t units) const { return sm90::forward_us(p, 2, units); }
    double split(int64_t units) const { return sm90::split_us(p, units); }
};

/// Within a tenth of what it was made from, in proportion to the work elsewhere.
TEST_F(DenseSm90, Model)
{
    for (const auto &[rows, measured] : {std::pair(1024, 133.9), std::pair(4096, 392.4), std::pair(16384, 1422.0)})
        EXPECT_NEAR(CausalProblem(16384 / rows, 16, rows, rows, 128).forward(132) / measured, 1, 0.1) << rows;
    const CausalProblem many(8, 16, 4096, 4096, 128), few(1, 4, 256, 65536, 128);
    EXPECT_NEAR(many.forward(66) / many.forward(132), 2, 0.01);
    EXPECT_LT(many.forward(132), many.split(132));
    EXPECT_GT(few.forward(132), 5 * few.split(132)) << "8 tiles on 132 SMs";
    CausalProblem window(8, 16, 4096, 4096, 128);
    window.p.mask.has_left = true, window.p.mask.left = 511;
    EXPECT_LT(window.forward(132), 0.4 * many.forward(132));
    window.p.mask.left = INT64_MAX; // as without
    EXPECT_EQ(window.forward(132), many.forward(132));
    window.p.mask.align = ATTN_BY_POSITION; // as in order
    EXPECT_EQ(window.forward(132), many.forward(132));
    EXPECT_GT(CausalProblem(1, 1, int64_t{1} << 40, int64_t{1} << 40, 64).forward(132), 1e15);
    // Small heads: which tiles are faster.
    EXPECT_TRUE(sm90::wish_of(CausalProblem(16, 32, 1024, 1024, 64).p).is_short);
    EXPECT_FALSE(sm90::wish_of(CausalProblem(8, 32, 2048, 2048, 64).p).is_short);
}

TEST_F(DenseSm90, FeaturesThatExclude)
{
    sm90::Shape s = sm90::shape_of({2, 0, 0, 128, 128});
    s.holds_q = s.hopes = 0;
    const auto fault = [&](sm90::i32 features) {
        s.features = features;
        return std::string(s.fault() ? s.fault() : "");
    };
    EXPECT_EQ(fault(sm90::kAllFeatures + 1), "no such options");
    EXPECT_EQ(fault(sm90::kSigmoidWeights | sm90::kReluWeights), "weights are of one kind");
    EXPECT_EQ(fault(sm90::kBiasFloat32 | sm90::kBiasBfloat16), "a bias has one type");
    EXPECT_NE(fault(sm90::kLowRank), "");
    s.rank = 16, s.query_buffers = 1;
    EXPECT_EQ(fault(sm90::kLowRank), "");
    EXPECT_NE(fault(0), "");
    s.rank = 0, s.query_buffers = 2;
    EXPECT_NE(fault(sm90::kBiasFirst | sm90::kSoftcap), "");
    EXPECT_NE(fault(sm90::kBiasFirst | sm90::kBiasFloat16), "");
    EXPECT_EQ(fault(sm90::kBiasFirst | sm90::kSoftcap | sm90::kBiasFloat16), "");
    s.hopes = 1;
    EXPECT_EQ(fault(0), "");
    EXPECT_NE(fault(sm90::kSoftcap), "");
    s.consumers = 3;
    EXPECT_NE(fault(0), "");
}

/// Large heads without options: Q in registers where rows see the same keys, hopes where they see many.
TEST_F(DenseSm90, HopesAndQueries)
{
    sm90::Wish wish = {2, 0, sm90::kMaskEnd, 128, 128};
    EXPECT_EQ(sm90::shape_of(wish).holds_q, 1);
    EXPECT_EQ(sm90::shape_of(wish).hopes, 1);
    wish.hopes = false;
    EXPECT_EQ(sm90::shape_of(wish).holds_q, 1);
    EXPECT_EQ(sm90::shape_of(wish).hopes, 0);
    EXPECT_EQ(sm90::shape_of({2, 0, sm90::kMaskDiagonal, 128, 128}).holds_q, 0);
    EXPECT_EQ(sm90::shape_of({1, 0, sm90::kMaskDiagonal, 104, 128}).hopes, 1);
    for (const sm90::Wish &other : std::initializer_list<sm90::Wish>{{2, sm90::kSoftcap, sm90::kMaskEnd, 128, 128},
                                                                     {2, 0, sm90::kMaskEnd, 96, 96},
                                                                     {2, 0, sm90::kMaskEnd, 192, 128},
                                                                     {2, 0, sm90::kMaskWindow, 128, 128},
                                                                     {2, 0, sm90::kMaskPosition, 128, 128}}) {
        EXPECT_EQ(sm90::shape_of(other).holds_q, 0);
        EXPECT_EQ(sm90::shape_of(other).hopes, 0);
    }
    for (const int64_t keys : {1023, 1024, 2047, 2048}) {
        CausalProblem problem(8, 16, keys, keys, 128);
        EXPECT_EQ(sm90::wish_of(problem.p).hopes, keys >= 2048);
        problem.p.mask.causal = false;
        EXPECT_EQ(sm90::wish_of(problem.p).hopes, keys >= 1024);
    }
}

TEST_F(DenseSm90, CommonKernelsAreApart)
{
    std::vector<kernel::Request> all = sm90::further_requests();
    for (const kernel::Request &request : sm90::default_requests()) all.push_back(request);
    for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(std::count(all.begin(), all.end(), all[i]), 1) << i;
}

TEST_F(DenseSm90, Refusals)
{
    EXPECT_EQ(refusal(served()), "");
    const struct {
        std::function<void(Described &)> change;
        const char *reason;
    } table[] = {
        {[](Described &d) { d.problem.q_dtype = ATTN_FLOAT32; }, "float16 or bfloat16 throughout"},
        {[](Described &d) { d.problem.out_dtype = ATTN_FLOAT32; }, "float16 or bfloat16 throughout"},
        {[](Described &d) { d.problem.flags = ATTN_STRICT_NONFINITE; }, "ATTN_STRICT_NONFINITE"},
        {[](Described &d) { d.problem.page_size = 16; }, "attn_problem.page_size"},
        {[](Described &d) { d.problem.scale = -1; }, "attn_problem.scale = -1"},
        {[](Described &d) { d.problem.dim_qk = 264; }, "attn_problem.dim_qk = 264 (a multiple of 8 up to 256)"},
        {[](Described &d) { d.problem.dim_v = 100; }, "attn_problem.dim_v = 100 (a multiple of 8"},
        {[](Described &d) { d.problem.dim_qk = 256, d.dense.softcap = 30; }, "attn_problem.dim_v = 256 with softcap"},
        {[](Described &d) { d.problem.max_q = 4; }, "attn_problem.max_q = 4 with 4 heads on a key head"},
        {[](Described &d) { d.problem.max_q = 16; }, "attn_problem.max_q = 16 with 4 heads on a key head"},
        {[](Described &d) { d.problem.batch = 1, d.problem.max_q = 100; }, "8 tiles of up to 1500 keys on 132 SMs ("},
        {[](Described &d) { d.problem.q_dtype = ATTN_FLOAT16, d.dense.activation = ATTN_RELU; },
         "with these dtypes and options"}, // a half ends at 65504, weights need not
        {[](Described &d) { d.problem.dim_qk = 256, d.dense.activation = ATTN_SIGMOID; },
         "attn_problem.dim_v = 256 with slot BIAS, sigmoid or ReLU (at most 128)"},
        {[](Described &d) { d.problem.dim_v = 136, d.bind(ATTN_SLOT_BIAS); },
         "attn_problem.dim_v = 136 with slot BIAS, sigmoid or ReLU (at most 128)"},
        {[](Described &d) {
             d.dense.bias_rank = 2, d.bind(ATTN_SLOT_BIAS_LOWRANK_Q), d.bind(ATTN_SLOT_BIAS_LOWRANK_K);
         },
         "attn_dense.bias_rank = 2 (a multiple of 8 up to 64)"},
        {[](Described &d) {
             d.dense.bias_rank = 72, d.bind(ATTN_SLOT_BIAS_LOWRANK_Q), d.bind(ATTN_SLOT_BIAS_LOWRANK_K);
         },
         "attn_dense.bias_rank = 72 (a multiple of 8 up to 64)"},
        {[](Described &d) { d.bind(ATTN_SLOT_ROW_ENTROPY); }, "slot ROW_ENTROPY"},
        {[](Described &d) { d.bind(ATTN_SLOT_COLUMN_MASS); }, "slot COLUMN_MASS"},
    };
    for (const auto &[change, reason] : table) {
        Described described = served();
        change(described);
        EXPECT_NE(refusal(described).find(reason), std::string::npos) << reason << ": " << refusal(described);
    }
    EXPECT_EQ(refusal(served(), 1), "needs compute capability 9.0, this is 8.0");
    fake_cuda_set_attribute(0, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 10);
    EXPECT_EQ(refusal(served()), "needs compute capability 9.0, this is 10.0");
}

/// Options become features; a plan without them gets none.
TEST_F(DenseSm90, Features)
{
    const struct {
        std::function<void(Described &)> change;
        int features, mask;
    } table[] = {
        {[](Described &) {}, 0, sm90::kMaskDiagonal},
        {[](Described &d) { d.dense.causal = ATTN_ALIGN_NONE; }, 0, sm90::kMaskEnd},
        {[](Described &d) { d.dense.flags = ATTN_WINDOW_LEFT, d.dense.window_left = 64; }, 0, sm90::kMaskWindow},
        {[](Described &d) { d.dense.causal = ATTN_BY_POSITION; }, 0, sm90::kMaskPosition},
        {[](Described &d) {
             d.dense.causal = ATTN_ALIGN_NONE, d.dense.align = ATTN_BY_POSITION;
             d.dense.flags = ATTN_WINDOW_LEFT, d.dense.window_left = 64, d.dense.sink_tokens = 4;
         },
         0, sm90::kMaskPosition},
        {[](Described &d) {
             d.dense.causal = ATTN_ALIGN_NONE, d.dense.align = ATTN_BY_POSITION, d.bind(ATTN_SLOT_ALIBI_SLOPES);
         },
         sm90::kAlibi, sm90::kMaskPosition}, // it measures positions
        {[](Described &d) { d.dense.softcap = 30; }, sm90::kSoftcap, sm90::kMaskDiagonal},
        {[](Described &d) { d.bind(ATTN_SLOT_ALIBI_SLOPES); }, sm90::kAlibi, sm90::kMaskDiagonal},
        {[](Described &d) { d.bind(ATTN_SLOT_Q_TEMPERATURE); }, sm90::kQueryTemperature, sm90::kMaskDiagonal},
        {[](Described &d) { d.bind(ATTN_SLOT_SINK_LOGITS); }, sm90::kEpilogue, sm90::kMaskDiagonal},
        {[](Described &d) { d.bind(ATTN_SLOT_GATE); }, sm90::kGate, sm90::kMaskDiagonal},
        {[](Described &d) { d.bind(ATTN_SLOT_LSE); }, 0, sm90::kMaskDiagonal},
        {[](Described &d) { d.dense.activation = ATTN_SIGMOID, d.dense.activation_bias = -3; }, sm90::kSigmoidWeights,
         sm90::kMaskDiagonal},
        {[](Described &d) { d.dense.activation = ATTN_RELU, d.bind(ATTN_SLOT_ROW_MAX); },
         sm90::kReluWeights | sm90::kEpilogue, sm90::kMaskDiagonal},
        {[](Described &d) { d.bind(ATTN_SLOT_BIAS); }, sm90::kBiasBfloat16, sm90::kMaskDiagonal},
        {[](Described &d) { d.bind(ATTN_SLOT_BIAS, 0, ATTN_FLOAT32); }, sm90::kBiasFloat32, sm90::kMaskDiagonal},
        {[](Described &d) { d.bind(ATTN_SLOT_BIAS, 0, ATTN_FLOAT16), d.dense.softcap = 30; },
         sm90::kBiasFloat16 | sm90::kSoftcap, sm90::kMaskDiagonal},
        {[](Described &d) { d.bind(ATTN_SLOT_BIAS), d.dense.softcap = 30, d.dense.bias_stage = ATTN_BIAS_PRE_SOFTCAP; },
         sm90::kBiasBfloat16 | sm90::kSoftcap | sm90::kBiasFirst, sm90::kMaskDiagonal},
        {[](Described &d) { d.bind(ATTN_SLOT_BIAS), d.dense.bias_stage = ATTN_BIAS_PRE_SOFTCAP; }, sm90::kBiasBfloat16,
         sm90::kMaskDiagonal}, // nothing that it could stand before
        {[](Described &d) {
             d.dense.bias_rank = 24, d.bind(ATTN_SLOT_BIAS_LOWRANK_Q), d.bind(ATTN_SLOT_BIAS_LOWRANK_K);
         },
         sm90::kLowRank, sm90::kMaskDiagonal},
    };
    attn_handle handle = create(gpu::Selection::standard);
    for (const auto &[change, features, mask] : table) {
        Described described = served();
        change(described);
        attn_plan plan = nullptr;
        ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
        const std::string text = describe(plan);
        EXPECT_NE(text.find("\"kernel\":\"cuda.dense.forward_sm90\""), std::string::npos) << text;
        EXPECT_NE(text.find("\"features\":" + std::to_string(features) + ","), std::string::npos) << text;
        EXPECT_NE(text.find("\"mask_kind\":" + std::to_string(mask) + ","), std::string::npos) << text;
        attn_plan_destroy(plan);
    }
    attn_destroy(handle);
}

/// On request only; what it does not serve, and why, is in the description.
TEST_F(DenseSm90, Chosen)
{
    const auto description = [&](gpu::Selection selection, Described described) {
        attn_handle handle = create(selection);
        attn_plan plan = nullptr;
        EXPECT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
        std::string text = describe(plan);
        attn_plan_destroy(plan);
        attn_destroy(handle);
        return text;
    };
    const auto has = [](const std::string &text, const char *part) { return text.find(part) != std::string::npos; };
    std::string text = description(gpu::Selection::standard, served());
    EXPECT_TRUE(has(text, "\"kernel\":\"cuda.dense.forward_sm90\"")) << text;
    EXPECT_TRUE(
        has(text, "\"kernel\":\"cuda.dense.decode_sm90\",\"reason\":\"does not compute attn_problem.max_q = 1000"))
        << text;
    EXPECT_TRUE(has(text, "\"for_other_strides\":\"gpu.dense.forward")) << text;
    text = description(gpu::Selection::portable, served());
    EXPECT_TRUE(has(text, "\"kernel\":\"gpu.dense.forward")) << text;
    EXPECT_TRUE(has(text, "\"kernel\":\"cuda.dense.forward_sm90\",\"reason\":\"is not portable")) << text;
    Described paged = served();
    paged.problem.page_size = 16;
    text = description(gpu::Selection::standard, paged);
    EXPECT_TRUE(has(text, "\"reason\":\"does not compute attn_problem.page_size\"")) << text;
}

TEST_F(DenseSm90, LaunchAndMaps)
{
    attn_handle handle = create(gpu::Selection::standard);
    attn_plan plan = nullptr;
    ASSERT_EQ(served().plan(handle, &plan), ATTN_OK) << last_error();
    Tensors tensors(plan);
    ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
    // Causal, so tiles take unequally long: a counter says who takes which.
    ASSERT_EQ(fake_cuda_launch_count(), 2);
    fake_cuda_launch launch;
    ASSERT_TRUE(fake_cuda_get_launch(0, &launch));
    EXPECT_STREQ(launch.kernel, "cuMemsetD32Async");
    ASSERT_TRUE(fake_cuda_get_launch(1, &launch));
    EXPECT_STREQ(launch.kernel, "attn_dense_forward_sm90");
    EXPECT_EQ(launch.grid[0], 132u) << "3 * 8 heads * 8 tiles of 128 rows, on as many SMs as there are";
    EXPECT_EQ(launch.block[0], 384u);
    EXPECT_TRUE(launch.programmatic) << "it waits for the kernel before it itself";
    fake_cuda_tensor_map out, v, k, q;
    ASSERT_TRUE(fake_cuda_get_tensor_map(0, &out) && fake_cuda_get_tensor_map(1, &v) &&
                fake_cuda_get_tensor_map(2, &k) && fake_cuda_get_tensor_map(3, &q));
    const struct {
        const fake_cuda_tensor_map &map;
        attn_slot slot;
        uint64_t rows, heads;
        uint32_t tile_rows;
    } table[] = {{q, ATTN_SLOT_Q, 1000, 8, 128},
                 {k, ATTN_SLOT_K, 1500, 2, 128},
                 {v, ATTN_SLOT_V, 1500, 2, 128},
                 {out, ATTN_SLOT_OUT, 1000, 8, 64}};
    for (const auto &[map, slot, rows, heads, tile_rows] : table) {
        SCOPED_TRACE(slot);
        EXPECT_EQ(map.address, tensors.view(slot).data);
        EXPECT_EQ(map.type, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
        EXPECT_EQ(map.swizzle, CU_TENSOR_MAP_SWIZZLE_128B);
        ASSERT_EQ(map.rank, 4);
        const uint64_t extents[] = {128, rows, heads, 3}, strides[] = {heads * 256, 256, rows * heads * 256};
        EXPECT_TRUE(std::equal(extents, extents + 4, map.extents));
        EXPECT_TRUE(std::equal(strides, strides + 3, map.strides));
        const uint32_t box[] = {64, tile_rows, 1, 1};
        EXPECT_TRUE(std::equal(box, box + 4, map.box));
    }
    // Few tiles: as many blocks, and nothing to count.
    fake_cuda_clear_launches();
    for (const attn_slot slot : {ATTN_SLOT_Q, ATTN_SLOT_OUT}) tensors.view(slot).shape[1] = 120;
    ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
    ASSERT_EQ(fake_cuda_launch_count(), 1);
    ASSERT_TRUE(fake_cuda_get_launch(0, &launch));
    EXPECT_EQ(launch.grid[0], 24u);
    attn_plan_destroy(plan);
    attn_destroy(handle);
}

/// The factors of a low-rank bias are copied with Q and K; heads may share that of the keys.
TEST_F(DenseSm90, LowRankMaps)
{
    for (const bool shared : {false, true}) {
        Described described = served();
        described.dense.bias_rank = 24;
        described.bind(ATTN_SLOT_BIAS_LOWRANK_Q), described.bind(ATTN_SLOT_BIAS_LOWRANK_K);
        attn_handle handle = create(gpu::Selection::standard);
        attn_plan plan = nullptr;
        ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
        Tensors tensors(plan);
        if (shared) tensors.view(ATTN_SLOT_BIAS_LOWRANK_K).strides[2] = 0;
        ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
        fake_cuda_tensor_map k, q;
        ASSERT_TRUE(fake_cuda_get_tensor_map(0, &k) && fake_cuda_get_tensor_map(1, &q));
        EXPECT_EQ(q.address, tensors.view(ATTN_SLOT_BIAS_LOWRANK_Q).data);
        EXPECT_EQ(k.address, tensors.view(ATTN_SLOT_BIAS_LOWRANK_K).data);
        const uint64_t of_q[] = {24, 1000, 8, 3}, of_k[] = {24, 1500, shared ? 1U : 8U, 3};
        EXPECT_TRUE(std::equal(of_q, of_q + 4, q.extents));
        EXPECT_TRUE(std::equal(of_k, of_k + 4, k.extents));
        EXPECT_EQ(q.box[1], 128u);
        EXPECT_EQ(k.box[0], 64u);
        attn_plan_destroy(plan);
        attn_destroy(handle);
        fake_cuda_clear_launches();
    }
}

/// Long rows that all see the same keys: two blocks of threads copy them together, each half of a block of keys.
TEST_F(DenseSm90, Clusters)
{
    EXPECT_EQ(sm90::shape_of({2, 0, 0, 256, 256, false, true}).cluster, 2);
    EXPECT_EQ(sm90::shape_of({2, 0, 0, 192, 128, false, true}).cluster, 2);
    EXPECT_EQ(sm90::shape_of({2, 0, 0, 128, 128, false, true}).cluster, 2);
    EXPECT_EQ(sm90::shape_of({2, 0, 0, 96, 96, false, true}).cluster, 1);
    EXPECT_EQ(sm90::shape_of({2, sm90::kSoftcap, 0, 128, 128, false, true}).cluster, 1);
    for (const int64_t dim : {128, 192})
        for (const int64_t rows : {2047, 2048, 4095, 4096}) {
            CausalProblem problem(8, 16, rows, rows, dim);
            problem.p.mask.causal = false;
            EXPECT_EQ(sm90::wish_of(problem.p).is_long, rows >= (dim == 128 ? 4096 : 2048)) << dim << " " << rows;
        }
    Described described = served_in_clusters();
    EXPECT_EQ(refusal(described), "");
    attn_handle handle = create(gpu::Selection::standard);
    attn_plan plan = nullptr;
    ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
    EXPECT_NE(describe(plan).find("\"cluster\":2,"), std::string::npos) << describe(plan);
    const Tensors tensors(plan);
    ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
    fake_cuda_launch launch;
    ASSERT_TRUE(fake_cuda_get_launch(0, &launch));
    EXPECT_STREQ(launch.kernel, "attn_dense_forward_sm90");
    EXPECT_EQ(launch.cluster, 2u);
    EXPECT_EQ(launch.grid[0], 128u) << "the GPU runs so many blocks in clusters at once";
    fake_cuda_tensor_map v, k;
    ASSERT_TRUE(fake_cuda_get_tensor_map(1, &v) && fake_cuda_get_tensor_map(2, &k));
    EXPECT_EQ(k.box[1], 64u);
    EXPECT_EQ(v.box[1], 64u);
    attn_plan_destroy(plan);
    // Lengths from the device: tiles of a cluster might see different keys.
    described.bind(ATTN_SLOT_SEQLENS_KV);
    ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
    EXPECT_NE(describe(plan).find("\"cluster\":1,"), std::string::npos) << describe(plan);
    attn_plan_destroy(plan);
    setenv("ATTN_GPU_SM90_SHAPE", "cluster=2", 1);
    EXPECT_EQ(described.plan(handle, &plan), ATTN_ERROR_INVALID);
    unsetenv("ATTN_GPU_SM90_SHAPE");
    EXPECT_STREQ(last_error(), "ATTN_GPU_SM90_SHAPE: cluster = 2, where tiles see different keys");
    attn_destroy(handle);
}

TEST_F(DenseSm90, PackedSequences)
{
    Described described = served();
    described.bind(ATTN_SLOT_CU_SEQLENS_Q), described.bind(ATTN_SLOT_CU_SEQLENS_KV);
    described.problem.total_q = 1800, described.problem.total_kv = 2500;
    attn_handle handle = create(gpu::Selection::standard);
    attn_plan plan = nullptr;
    ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
    const Tensors tensors(plan);
    ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
    fake_cuda_tensor_map q, k;
    ASSERT_TRUE(fake_cuda_get_tensor_map(2, &k) && fake_cuda_get_tensor_map(3, &q));
    const uint64_t q_extents[] = {128, 1800, 8, 1}, k_extents[] = {128, 2500, 2, 1};
    EXPECT_TRUE(std::equal(q_extents, q_extents + 4, q.extents));
    EXPECT_TRUE(std::equal(k_extents, k_extents + 4, k.extents));
    attn_plan_destroy(plan);
    attn_destroy(handle);
}

/// Calls whose tensors are no tiles go to the portable kernel.
TEST_F(DenseSm90, OtherStrides)
{
    record_->parameters = 1; // those of the kernels that are launched
    attn_handle handle = create(gpu::Selection::standard);
    attn_plan plan = nullptr;
    ASSERT_EQ(served().plan(handle, &plan), ATTN_OK) << last_error();
    const std::function<void(Tensors &)> changes[] = {
        [](Tensors &t) { t.view(ATTN_SLOT_K).byte_offset = 2; },   // not aligned
        [](Tensors &t) { t.view(ATTN_SLOT_V).strides[2] = 0; },    // heads of V that are one
        [](Tensors &t) { t.view(ATTN_SLOT_Q).strides[1] = 1025; }, // rows that are not aligned
        [](Tensors &t) { t.view(ATTN_SLOT_OUT).byte_offset = 8; }, // written 16 bytes at a time
        [](Tensors &t) {                                           // nothing to copy
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
    Tensors none(plan);
    for (const attn_slot slot : {ATTN_SLOT_Q, ATTN_SLOT_OUT}) none.view(slot).shape[1] = 0;
    fake_cuda_clear_launches();
    EXPECT_EQ(none.execute(plan, nullptr), ATTN_OK) << last_error();
    EXPECT_EQ(fake_cuda_launch_count(), 0);
    attn_plan_destroy(plan);
    attn_destroy(handle);
}

/// Encodes four maps, clears a counter and launches; no memory of the host, no call that a capture forbids.
TEST_F(DenseSm90, ExecuteOnlyLaunches)
{
    attn_handle handle = create(gpu::Selection::standard);
    attn_plan plan = nullptr;
    ASSERT_EQ(served().plan(handle, &plan), ATTN_OK) << last_error();
    const Tensors tensors(plan);
    void *stream = fake_cuda_create_stream(fake_cuda_primary_context(0));
    ASSERT_EQ(tensors.execute(plan, stream), ATTN_OK) << last_error();
    expect_only_launches(plan, tensors, stream, {"cuMemsetD32Async", "cuTensorMapEncodeTiled"});
    EXPECT_EQ(fake_cuda_calls("cuTensorMapEncodeTiled"), 4);
    EXPECT_EQ(fake_cuda_calls("cuMemsetD32Async"), 1);
    EXPECT_EQ(fake_cuda_calls("cuLaunchKernelEx"), 1);
    attn_plan_destroy(plan);
    attn_destroy(handle);
}

/// Where all tiles see as many keys there is no counter; where lengths or positions come from the device there is.
TEST_F(DenseSm90, Counters)
{
    const std::function<void(Described &)> changes[] = {
        [](Described &) {},
        [](Described &d) { d.bind(ATTN_SLOT_SEQLENS_KV); },
        [](Described &d) { d.dense.causal = ATTN_BY_POSITION; },
        [](Described &d) {
            d.dense.causal = ATTN_BY_POSITION;
            d.bind(ATTN_SLOT_POSITIONS_Q, 0, ATTN_INT64), d.bind(ATTN_SLOT_POSITIONS_KV, 0, ATTN_INT64);
        },
    };
    for (const auto &change : changes) {
        Described described = served();
        described.dense.causal = ATTN_ALIGN_NONE;
        change(described);
        attn_handle handle = create(gpu::Selection::standard);
        attn_plan plan = nullptr;
        ASSERT_EQ(described.plan(handle, &plan), ATTN_OK) << last_error();
        const Tensors tensors(plan);
        fake_cuda_clear_launches();
        ASSERT_EQ(tensors.execute(plan, nullptr), ATTN_OK) << last_error();
        EXPECT_EQ(fake_cuda_launch_count(), &change == changes ? 1 : 2);
        attn_plan_destroy(plan);
        attn_destroy(handle);
    }
}

TEST_F(DenseSm90, EveryCallFails)
{
    const Sweep sweep = fail_every_call_of(served);
    EXPECT_EQ(sweep.faults.count("cuTensorMapEncodeTiled"), 1u);
    EXPECT_EQ(sweep.faults.count("cuMemsetD32Async"), 1u);
    EXPECT_EQ(fail_every_call_of(served_in_clusters).faults.count("cuOccupancyMaxActiveClusters"), 1u);
}

TEST_F(DenseSm90, ShapeOverride)
{
    attn_handle handle = create(gpu::Selection::standard);
    attn_plan plan = nullptr;
    setenv("ATTN_GPU_SM90_SHAPE", "keys=96,turns=0", 1);
    ASSERT_EQ(served().plan(handle, &plan), ATTN_OK) << last_error();
    EXPECT_NE(describe(plan).find("\"key_block\":96"), std::string::npos);
    attn_plan_destroy(plan);
    setenv("ATTN_GPU_SM90_SHAPE", "keys=100", 1);
    EXPECT_TRUE(failed_with(served().plan(handle, &plan), ATTN_ERROR_INVALID,
                            {"ATTN_GPU_SM90_SHAPE = keys=100: keys must be 64, 80, 96 or 128"}));
    setenv("ATTN_GPU_SM90_SHAPE", "rows=64", 1);
    EXPECT_TRUE(failed_with(served().plan(handle, &plan), ATTN_ERROR_INVALID, {"must be a field of a shape"}));
    unsetenv("ATTN_GPU_SM90_SHAPE");
    attn_destroy(handle);
}

} // namespace
} // namespace attn::cuda::test

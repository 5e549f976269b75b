// Outputs may not overlap inputs, each other or themselves; views that interleave without sharing a byte may.

#include "abi_fixture.h"

namespace {

using caller::Dense;
using caller::Execution;

constexpr attn_status kInvalid = ATTN_ERROR_INVALID;

class Overlap : public ::testing::Test {
protected:
    caller::Handle handle_;
    Dense desc_;
};

TEST_F(Overlap, OutputsWithInputs)
{
    desc_.bind(ATTN_SLOT_SEQLENS_KV);
    const caller::Plan plan(handle_, desc_);
    int32_t lengths[8] = {6, 6};
    const attn_tensor lengths_view = attn_tensor_1d(lengths, ATTN_INT32, 2);
    const struct {
        const char *name;
        void (*change)(Execution &e, int32_t *lengths);
        caller::Parts parts;
    } table[] = {
        {"OUT is V", [](Execution &e, int32_t *) { e.out.data = e.v_data.data(); }, {"OUT.data = ", "overlap", "V"}},
        {"OUT is Q", [](Execution &e, int32_t *) { e.out.data = e.q_data.data(); }, {"OUT.data = ", "overlap Q"}},
        {"OUT begins in K", [](Execution &e, int32_t *) { e.out.data = &e.k_data.back(); }, {"OUT.data = ", "K"}},
        {"OUT ends in Q",
         [](Execution &e, int32_t *) { e.out.data = e.q_data.data() - Execution::B * 4 * 4 * 4 + 1; },
         {"OUT.data = ", "overlap Q"}},
        {"LSE in K", [](Execution &e, int32_t *) { e.lse.data = e.k_data.data() + 5; }, {"LSE.data = ", "overlap K"}},
        {"LSE is the lengths", [](Execution &e, int32_t *all) { e.lse.data = all; }, {"LSE.data = ", "SEQLENS_KV"}},
        {"by byte_offset",
         [](Execution &e, int32_t *) {
             e.out.data = nullptr, e.out.data = e.q_data.data() - 8, e.out.byte_offset = 32;
         },
         {"OUT.data = ", "overlap Q"}},
        {"by a negative stride",
         [](Execution &e, int32_t *) {
             e.out.data = e.v_data.data() + e.v_data.size(); // one past V, but rows run backwards
             e.out.strides[1] = -16;
         },
         {"OUT.data = ", "overlap V"}},
    };
    for (const auto &row : table) {
        SCOPED_TRACE(row.name);
        Execution e(plan.workspace());
        e.add(ATTN_SLOT_SEQLENS_KV, lengths_view);
        row.change(e, lengths);
        const auto q = e.q_data, k = e.k_data, v = e.v_data;
        EXPECT_TRUE(e.refused(plan, kInvalid, row.parts));
        EXPECT_TRUE(q == e.q_data && k == e.k_data && v == e.v_data);
    }
}

TEST_F(Overlap, OutputsWithEachOther)
{
    const caller::Plan plan(handle_, desc_);
    Execution e(plan.workspace());
    e.lse.data = e.out_memory.floats() + 127;
    EXPECT_TRUE(e.refused(plan, kInvalid, {"OUT.data = ", "must not overlap LSE"}));
    e.lse.data = e.out.data;
    EXPECT_TRUE(e.refused(plan, kInvalid, {"OUT.data = ", "must not overlap LSE"}));
}

TEST_F(Overlap, OutputsWithThemselves)
{
    const caller::Plan plan(handle_, desc_);
    const struct {
        const char *name;
        void (*change)(Execution &e);
        const char *view;
    } table[] = {
        {"batch stride 0", [](Execution &e) { e.out.strides[0] = 0; }, "OUT.strides"},
        {"channel stride 0", [](Execution &e) { e.out.strides[3] = 0; }, "OUT.strides"},
        {"rows one short", [](Execution &e) { e.out.strides[1] = 15; }, "OUT.strides"},
        {"heads share a channel", [](Execution &e) { e.out.strides[2] = 3; }, "OUT.strides"},
        {"rows backwards, one short", [](Execution &e) { e.out.strides[1] = -15; }, "OUT.strides"},
        {"LSE heads 0", [](Execution &e) { e.lse.strides[1] = 0; }, "LSE.strides"},
        {"LSE rows over heads", [](Execution &e) { e.lse.strides[2] = 4; }, "LSE.strides"},
    };
    for (const auto &row : table) {
        SCOPED_TRACE(row.name);
        Execution e(plan.workspace());
        row.change(e);
        EXPECT_TRUE(e.refused(plan, kInvalid, {row.view, "overlaps itself"}));
    }
}

TEST_F(Overlap, InputsMayShareAndRepeat)
{
    desc_.problem.dim_v = 8;
    const caller::Plan plan(handle_, desc_);
    caller::Guarded out(Execution::B * 4 * 4 * 8 * sizeof(float));
    Execution e(plan.workspace());
    e.v = e.k;                                                         // V is K
    for (attn_tensor *view : {&e.q, &e.k, &e.v}) view->strides[0] = 0; // one sequence for the whole batch
    e.out = attn_tensor_4d(out.data(), ATTN_FLOAT32, 2, 4, 4, 8);
    ASSERT_TRUE(e.served(plan));
    EXPECT_EQ(memcmp(out.floats(), out.floats() + 4 * 4 * 8, 4 * 4 * 8 * sizeof(float)), 0);
    EXPECT_TRUE(out.guards_untouched());
}

TEST_F(Overlap, AxisOfOneMayHaveAnyStride)
{
    desc_.problem.batch = 1;
    desc_.bind(ATTN_SLOT_SEQLENS_KV);
    const caller::Plan plan(handle_, desc_);
    Execution e(plan.workspace());
    const int32_t length = 6;
    attn_tensor lengths = attn_tensor_1d(&length, ATTN_INT32, 1);
    lengths.strides[0] = INT64_MAX;
    e.add(ATTN_SLOT_SEQLENS_KV, lengths);
    for (attn_tensor *view : {&e.q, &e.k, &e.v, &e.out, &e.lse}) view->shape[0] = 1, view->strides[0] = 0;
    e.lse.strides[0] = INT64_MIN, e.k.strides[0] = INT64_MAX;
    ASSERT_TRUE(e.served(plan));
    std::vector<double> wanted = caller::reference(e);
    wanted.resize(wanted.size() / 2); // the first sequence
    EXPECT_TRUE(caller::is_near(e.out_memory.floats(), wanted));
}

TEST_F(Overlap, OutputBackwardsAndTransposed)
{
    const caller::Plan plan(handle_, desc_);
    Execution e(plan.workspace());
    e.out = attn_tensor_swap_axes(attn_tensor_4d(e.out_memory.data(), ATTN_FLOAT32, 2, 4, 4, 4), 1, 2); // BHSD
    e.out.byte_offset = 3 * 4 * sizeof(float), e.out.strides[1] = -4; // last row first
    ASSERT_TRUE(e.served(plan));
    const std::vector<double> wanted = caller::reference(e);
    for (int64_t b = 0; b < 2; ++b)
        for (int64_t i = 0; i < 4; ++i)
            for (int64_t h = 0; h < 4; ++h)
                for (int64_t c = 0; c < 4; ++c)
                    EXPECT_NEAR(e.out_memory.floats()[b * 64 + h * 16 + (3 - i) * 4 + c],
                                wanted[((b * 4 + i) * 4 + h) * 4 + c], 1e-5);
}

/// Q, K, V and OUT as the four rows of each token of one buffer.
class PackedBuffer : public Overlap {
protected:
    static constexpr int64_t B = 2, T = 4, H = 4, D = 8, kToken = 4 * H * D;

    PackedBuffer()
    {
        desc_.problem.heads_k = H, desc_.problem.dim_v = D, desc_.problem.max_kv = T;
        desc_.binds.clear();
        for (size_t i = 0; i < buffer_.bytes() / sizeof(float); ++i) buffer_.floats()[i] = caller::filler(i);
        copy_.assign(buffer_.floats(), buffer_.floats() + B * T * kToken);
    }
    attn_tensor part(int64_t which, int64_t shift = 0)
    {
        attn_tensor view = attn_tensor_4d(buffer_.floats() + which * H * D + shift, ATTN_FLOAT32, B, T, H, D);
        view.strides[0] = T * kToken, view.strides[1] = kToken;
        return view;
    }
    attn_status run(attn_plan plan, const attn_tensor &out, size_t workspace_bytes)
    {
        const attn_tensor q = part(0), k = part(1), v = part(2);
        const attn_arg args[] = {
            {ATTN_SLOT_Q, 0, &q}, {ATTN_SLOT_K, 0, &k}, {ATTN_SLOT_V, 0, &v}, {ATTN_SLOT_OUT, 0, &out}};
        std::vector<char> workspace(workspace_bytes);
        return attn_execute(plan, args, 4, workspace.data(), workspace.size(), nullptr);
    }
    bool changed_only(int64_t which) const
    {
        for (int64_t i = 0; i < B * T * kToken; ++i)
            if ((i % kToken) / (H * D) != which && copy_[static_cast<size_t>(i)] != floats()[i]) return false;
        return true;
    }
    const float *floats() const { return const_cast<caller::Guarded &>(buffer_).floats(); }

    caller::Guarded buffer_{B * T * kToken * sizeof(float)};
    std::vector<float> copy_;
};

TEST_F(PackedBuffer, InterleavedOutputIsServed)
{
    const caller::Plan plan(handle_, desc_);
    ASSERT_TRUE(caller::succeeds(run(plan, part(3), plan.workspace())));
    EXPECT_TRUE(changed_only(3));
    EXPECT_TRUE(buffer_.guards_untouched());
    EXPECT_NE(memcmp(floats(), copy_.data(), copy_.size() * sizeof(float)), 0);
}

TEST_F(PackedBuffer, InterleavedRowsOfAPackedBatchAreServed)
{
    desc_.bind(ATTN_SLOT_CU_SEQLENS_Q), desc_.bind(ATTN_SLOT_CU_SEQLENS_KV);
    const caller::Plan plan(handle_, desc_);
    const int32_t cu[] = {0, 4, 8};
    const attn_tensor cu_view = attn_tensor_1d(cu, ATTN_INT32, 3);
    std::vector<attn_tensor> views;
    for (int64_t which = 0; which < 4; ++which) {
        views.push_back(attn_tensor_3d(buffer_.floats() + which * H * D, ATTN_FLOAT32, B * T, H, D));
        views.back().strides[0] = kToken;
    }
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &views[0]},           {ATTN_SLOT_K, 0, &views[1]},
                             {ATTN_SLOT_V, 0, &views[2]},           {ATTN_SLOT_OUT, 0, &views[3]},
                             {ATTN_SLOT_CU_SEQLENS_Q, 0, &cu_view}, {ATTN_SLOT_CU_SEQLENS_KV, 0, &cu_view}};
    std::vector<char> workspace(plan.workspace());
    ASSERT_TRUE(caller::succeeds(attn_execute(plan, args, 6, workspace.data(), workspace.size(), nullptr)));
    EXPECT_TRUE(changed_only(3));
    EXPECT_TRUE(buffer_.guards_untouched());
}

TEST_F(PackedBuffer, OneSharedElementIsRefused)
{
    const caller::Plan plan(handle_, desc_);
    const size_t workspace = plan.workspace();
    EXPECT_TRUE(caller::fails(run(plan, part(2), workspace), kInvalid, {"OUT.data", "overlap V"}));
    EXPECT_TRUE(caller::fails(run(plan, part(3, -1), workspace), kInvalid, {"OUT.data", "overlap V"}));
    // Its last channel is the first of Q of the next token.
    EXPECT_TRUE(caller::fails(run(plan, part(3, 1), workspace), kInvalid, {"OUT.data", "overlap Q"}));
    EXPECT_EQ(memcmp(floats(), copy_.data(), copy_.size() * sizeof(float)), 0);
}

TEST_F(Overlap, LseBesideTheChannelsOfOut)
{
    const caller::Plan plan(handle_, desc_);
    Execution e(plan.workspace());
    caller::Guarded both(Execution::B * 4 * 4 * 5 * sizeof(float));
    e.out.data = both.floats(), e.lse.data = both.floats() + 4;
    e.out.strides[0] = 80, e.out.strides[1] = 20, e.out.strides[2] = 5;
    e.lse.strides[0] = 80, e.lse.strides[1] = 5, e.lse.strides[2] = 20;
    ASSERT_TRUE(e.served(plan));
    EXPECT_TRUE(both.guards_untouched());
    const std::vector<double> wanted = caller::reference(e);
    for (size_t row = 0; row < 32; ++row)
        for (size_t c = 0; c < 4; ++c) EXPECT_NEAR(both.floats()[5 * row + c], wanted[4 * row + c], 1e-5);
    e.lse.data = both.floats() + 3; // the last channel
    EXPECT_TRUE(caller::fails(e.run(plan), kInvalid, {"OUT.data", "overlap LSE"}));
}

} // namespace

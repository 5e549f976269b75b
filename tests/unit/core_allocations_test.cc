// attn_execute() allocates nothing: neither the calling thread nor the pool, on success or on failure.
#include "core_allocations.h"
#include "core_call.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

namespace attn::test {
namespace {

class Allocations : public testing::TestWithParam<int32_t> {
protected:
    void SetUp() override
    {
        if (!can_count_allocations()) {
            std::printf("absent: counting of allocations\n");
            GTEST_SKIP() << "absent: counting of allocations";
        }
        handle_ = make_handle(GetParam());
        ASSERT_TRUE(handle_);
    }

    attn_handle handle() const { return handle_.get(); }

    /// Executes, twice, so that neither the first nor a later one may allocate.
    static void expect_none(Call &call, attn_status expected) { expect_none(call, expected, call.workspace.size()); }
    static void expect_none(Call &call, attn_status expected, size_t bytes)
    {
        for (int round = 0; round < 2; ++round) {
            attn_status status;
            int64_t count;
            {
                const AllocationScope scope;
                status = call.execute(bytes);
                count = scope.count();
            }
            EXPECT_EQ(status, expected) << attn_last_error();
            EXPECT_EQ(count, 0) << "round " << round << ": " << attn_last_error();
        }
    }

private:
    Handle handle_;
};

TEST_P(Allocations, AreCounted)
{
    int64_t after_new, after_malloc, after_aligned, after_realloc;
    {
        const AllocationScope scope;
        auto number = std::make_unique<volatile int>(1);
        *number = 2;
        after_new = scope.count();
        void *volatile memory = std::malloc(100);
        after_malloc = scope.count();
        memory = std::realloc(memory, 200);
        after_realloc = scope.count();
        std::free(memory);
        memory = std::aligned_alloc(64, 128);
        after_aligned = scope.count();
        std::free(memory);
    }
    EXPECT_EQ(after_new, 1);
    EXPECT_EQ(after_malloc, 2);
    EXPECT_EQ(after_realloc, 3);
    EXPECT_EQ(after_aligned, 5); // with one free
}

TEST_P(Allocations, NoneInDense)
{
    Call call({.batch = 2, .queries = 70, .keys = 90, .heads = 4, .dim = 64});
    call.dense.causal = ATTN_BOTTOM_RIGHT;
    call.plan(handle());
    expect_none(call, ATTN_OK);
}

TEST_P(Allocations, NoneWithSoftcapAndWindow)
{
    Call call({.batch = 2, .queries = 40, .keys = 50, .heads = 4, .dim = 32});
    call.dense.align = ATTN_TOP_LEFT;
    call.dense.flags = ATTN_WINDOW_LEFT | ATTN_WINDOW_RIGHT;
    call.dense.window_left = 5, call.dense.window_right = 3, call.dense.sink_tokens = 2;
    call.dense.softcap = 30;
    call.plan(handle());
    expect_none(call, ATTN_OK);
}

TEST_P(Allocations, NoneWithSplitKeys)
{
    Call call({.batch = 1, .queries = 1, .keys = 8192, .heads = 2, .dim = 64});
    call.plan(handle());
    expect_none(call, ATTN_OK);
}

TEST_P(Allocations, NoneWithColumnMass)
{
    for (const int64_t queries : {1, 100}) {
        Call call({.batch = 2, .queries = queries, .keys = 3000, .heads = 2, .dim = 64});
        call.give(ATTN_SLOT_COLUMN_MASS, 2, 2, 3000);
        call.plan(handle());
        expect_none(call, ATTN_OK);
    }
}

TEST_P(Allocations, NoneInPackedSequences)
{
    Call call({.batch = 3, .queries = 20, .keys = 30, .heads = 4, .dim = 16});
    call.take(ATTN_SLOT_CU_SEQLENS_Q, {0, 20, 20, 33});
    call.take(ATTN_SLOT_CU_SEQLENS_KV, {0, 30, 45, 60});
    call.plan(handle(), 33, 60);
    expect_none(call, ATTN_OK);
    static_cast<int32_t *>(call.tensor(ATTN_SLOT_CU_SEQLENS_Q).data)[2] = 19;
    expect_none(call, ATTN_ERROR_DATA);
}

TEST_P(Allocations, NoneInPages)
{
    Call call({.batch = 2, .queries = 1, .keys = 64, .heads = 4, .dim = 16});
    call.problem.page_size = 16;
    call.take(ATTN_SLOT_BLOCK_TABLE, {4, 2, 0, 1, 3, 5, 5, 6}, 2);
    call.take(ATTN_SLOT_SEQLENS_KV, {64, 17});
    call.plan(handle(), 0, 0, 7);
    expect_none(call, ATTN_OK);
    static_cast<int32_t *>(call.tensor(ATTN_SLOT_BLOCK_TABLE).data)[1] = 7;
    expect_none(call, ATTN_ERROR_DATA);
    static_cast<int32_t *>(call.tensor(ATTN_SLOT_BLOCK_TABLE).data)[1] = 6;
    static_cast<int32_t *>(call.tensor(ATTN_SLOT_SEQLENS_KV).data)[0] = 65;
    expect_none(call, ATTN_ERROR_DATA);
}

TEST_P(Allocations, NoneOnWrongArguments)
{
    Call call({.batch = 2, .queries = 8, .keys = 8, .heads = 2, .dim = 16});
    call.plan(handle());
    expect_none(call, ATTN_OK);
    expect_none(call, ATTN_ERROR_WORKSPACE, call.workspace.size() / 2);
    call.arg(ATTN_SLOT_K).slot = ATTN_SLOT_GRAD | ATTN_SLOT_K; // of no use here
    expect_none(call, ATTN_ERROR_INVALID);
    call.arg(ATTN_SLOT_GRAD | ATTN_SLOT_K).slot = 0x7fff; // nor anywhere
    expect_none(call, ATTN_ERROR_INVALID);
    call.arg(0x7fff).slot = ATTN_SLOT_V;
    expect_none(call, ATTN_ERROR_INVALID);
    call.args[1].slot = ATTN_SLOT_K;
    call.tensor(ATTN_SLOT_Q).shape[3] = 17;
    expect_none(call, ATTN_ERROR_INVALID);
    call.tensor(ATTN_SLOT_Q).shape[3] = 16;
    call.tensor(ATTN_SLOT_Q).dtype = 0x123456;
    expect_none(call, ATTN_ERROR_INVALID);
    call.tensor(ATTN_SLOT_Q).dtype = ATTN_FLOAT32;
    call.tensor(ATTN_SLOT_OUT).data = call.tensor(ATTN_SLOT_Q).data;
    expect_none(call, ATTN_ERROR_INVALID);
}

INSTANTIATE_TEST_SUITE_P(Workers, Allocations, testing::Values(1, 3),
                         [](const testing::TestParamInfo<int32_t> &info) { return std::to_string(info.param); });

} // namespace
} // namespace attn::test

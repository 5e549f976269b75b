// Strides that no element is reached by may be anything: they are dropped before anything is computed with them.
#include "backends/cpu/lengths.h"
#include "backends/cpu/views.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace attn::cpu {
namespace {

constexpr int64_t kWild[] = {INT64_MAX, INT64_MIN, INT64_MAX / 4 + 1, int64_t{1} << 61, -1};

TEST(Views, AxesOfOnePlaceHaveNoStep)
{
    float memory[6] = {};
    for (const int64_t stride : kWild) {
        attn_tensor view = attn_tensor_3d(memory, ATTN_FLOAT32, 1, 2, 3);
        view.strides[0] = stride;
        const Bytes bytes(view);
        EXPECT_EQ(bytes.step[0], 0);
        EXPECT_EQ(bytes.step[1], 12);
        EXPECT_EQ(bytes.step[2], 4);
        EXPECT_EQ(bytes.channel_step, 1);
    }
}

TEST(Views, ViewsOfNothingHaveNoSteps)
{
    for (int empty = 0; empty < 3; ++empty)
        for (const int64_t stride : kWild) {
            attn_tensor view = attn_tensor_3d(nullptr, ATTN_FLOAT32, 4, 2, 3);
            view.shape[empty] = 0;
            for (int64_t &step : view.strides) step = stride;
            const Bytes bytes(view);
            for (int axis = 0; axis < 3; ++axis) {
                EXPECT_EQ(step_of(view, axis), 0);
                EXPECT_EQ(bytes.step[axis], 0);
            }
        }
}

TEST(Views, ViewsOfNothingHaveNoAddress)
{
    float memory[6] = {};
    attn_tensor view = attn_tensor_3d(memory, ATTN_FLOAT32, 1, 2, 3);
    view.byte_offset = 4;
    EXPECT_EQ(static_cast<void *>(first_element(view)), memory + 1);
    view.shape[1] = 0;
    for (const size_t offset : {size_t{0}, size_t{4}, SIZE_MAX, SIZE_MAX - 100}) { // an address beyond all memory
        view.byte_offset = offset;
        EXPECT_EQ(first_element(view), nullptr);
        EXPECT_EQ(Bytes(view).data, nullptr);
        EXPECT_EQ(Bytes(view).at(64), nullptr);
    }
    attn_tensor integers = attn_tensor_1d(memory, ATTN_INT32, 0);
    integers.byte_offset = SIZE_MAX;
    EXPECT_FALSE(IntegerView(integers));
}

TEST(Views, IntegersOfNothingHaveNoSteps)
{
    for (const attn_dtype dtype : {ATTN_INT32, ATTN_INT64})
        for (const int64_t stride : kWild) {
            attn_tensor table = attn_tensor_2d(nullptr, dtype, 3, 0);
            table.strides[0] = table.strides[1] = stride;
            EXPECT_EQ(bytes_of_step(table, 0), 0);
            EXPECT_EQ(bytes_of_step(table, 1), 0);
        }
    const int64_t values[] = {7, 8, 9};
    const IntegerView backwards([&] {
        attn_tensor view = attn_tensor_1d(values + 2, ATTN_INT64, 3);
        view.strides[0] = -1;
        return view;
    }());
    EXPECT_EQ(backwards[0], 9);
    EXPECT_EQ(backwards[2], 7);
}

} // namespace
} // namespace attn::cpu

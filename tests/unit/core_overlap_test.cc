// src/overlap against brute force: every byte of small random views is marked.
#include "core_random.h"

#include "overlap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace attn::test {
namespace {

constexpr int64_t kArena = 1 << 16;
char arena[kArena];

attn_tensor make_view(int64_t offset, std::vector<int64_t> shape, std::vector<int64_t> strides)
{
    attn_tensor view = {};
    view.data = arena;
    view.byte_offset = static_cast<size_t>(offset);
    view.ndim = static_cast<int32_t>(shape.size());
    view.dtype = ATTN_FLOAT32;
    std::copy(shape.begin(), shape.end(), view.shape);
    std::copy(strides.begin(), strides.end(), view.strides);
    return view;
}

/// Row-major over `shape`.
attn_tensor make_dense(int64_t offset, std::vector<int64_t> shape)
{
    std::vector<int64_t> strides(shape.size(), 1);
    for (size_t axis = shape.size() - 1; axis > 0; --axis) strides[axis - 1] = strides[axis] * shape[axis];
    return make_view(offset, shape, strides);
}

/// First bytes of all elements, relative to the arena, one for each tuple of indices.
std::vector<int64_t> addresses(const attn_tensor &view, int64_t bytes)
{
    std::vector<int64_t> all = {static_cast<int64_t>(view.byte_offset)};
    for (int axis = 0; axis < view.ndim; ++axis) {
        std::vector<int64_t> next;
        for (const int64_t base : all)
            for (int64_t i = 0; i < view.shape[axis]; ++i) next.push_back(base + i * view.strides[axis] * bytes);
        all = std::move(next);
    }
    return all;
}

std::set<int64_t> marked(const attn_tensor &view, int64_t bytes)
{
    std::set<int64_t> all;
    for (const int64_t address : addresses(view, bytes))
        for (int64_t i = 0; i < bytes; ++i) all.insert(address + i);
    return all;
}

bool share_a_byte(const attn_tensor &a, int64_t a_bytes, const attn_tensor &b, int64_t b_bytes)
{
    const std::set<int64_t> of_a = marked(a, a_bytes), of_b = marked(b, b_bytes);
    return std::any_of(of_a.begin(), of_a.end(), [&](int64_t byte) { return of_b.count(byte) != 0; });
}

bool are_distinct(const attn_tensor &view)
{
    const std::vector<int64_t> all = addresses(view, 4);
    return std::set<int64_t>(all.begin(), all.end()).size() == all.size();
}

std::string text(const attn_tensor &view)
{
    std::ostringstream result;
    result << "offset " << view.byte_offset << ", shape * stride";
    for (int axis = 0; axis < view.ndim; ++axis) result << " " << view.shape[axis] << "*" << view.strides[axis];
    return result.str();
}

/// Small strides that often nest, sometimes do not, and are now and then 0, negative or shared with `other`.
attn_tensor random_view(Random &random, const attn_tensor *other)
{
    const int64_t axes = random.integer(0, 4);
    std::vector<int64_t> shape, strides;
    int64_t reach = 1;
    for (int64_t axis = 0; axis < axes; ++axis) {
        shape.push_back(random.one_in(20) ? 0 : random.integer(1, 4));
        int64_t stride = random.one_in(2) ? reach : random.integer(0, 24);
        if (other && other->ndim > 0 && random.one_in(2)) stride = other->strides[random.integer(0, other->ndim - 1)];
        strides.push_back(random.one_in(4) ? -stride : stride);
        reach = std::max(reach, std::abs(stride) * std::max<int64_t>(shape.back(), 1));
    }
    for (int64_t axis = axes - 1; axis > 0; --axis) {
        const size_t i = static_cast<size_t>(axis), j = static_cast<size_t>(random.integer(0, axis));
        std::swap(shape[i], shape[j]), std::swap(strides[i], strides[j]);
    }
    return make_view(kArena / 2 + random.integer(-60, 60), shape, strides);
}

TEST(Overlap, DisjointMeansNoSharedByte)
{
    Random random(1);
    int claimed = 0, disjoint = 0;
    for (int round = 0; round < 20000; ++round) {
        const attn_tensor a = random_view(random, nullptr), b = random_view(random, &a);
        const int64_t a_bytes = int64_t{1} << random.integer(0, 3), b_bytes = int64_t{1} << random.integer(0, 3);
        const bool shared = share_a_byte(a, a_bytes, b, b_bytes);
        const bool claim = are_disjoint(a, a_bytes, b, b_bytes);
        claimed += claim, disjoint += !shared;
        ASSERT_FALSE(claim && shared) << a_bytes << " bytes: " << text(a) << "; " << b_bytes << " bytes: " << text(b);
    }
    // It may be cautious, but not useless: separate ranges alone are most of the disjoint pairs.
    EXPECT_GT(claimed, disjoint / 2);
}

TEST(Overlap, DistinctMeansDistinct)
{
    Random random(2);
    int claimed = 0, distinct = 0;
    for (int round = 0; round < 20000; ++round) {
        const attn_tensor view = random_view(random, nullptr);
        const bool truth = are_distinct(view), claim = has_distinct_elements(view);
        claimed += claim, distinct += truth;
        ASSERT_FALSE(claim && !truth) << text(view);
    }
    EXPECT_GT(claimed, distinct / 2);
}

TEST(Overlap, SpanIsExact)
{
    Random random(3);
    for (int round = 0; round < 5000; ++round) {
        const attn_tensor view = random_view(random, nullptr);
        const int64_t bytes = int64_t{1} << random.integer(0, 3);
        const std::vector<int64_t> all = addresses(view, bytes);
        if (all.empty()) continue;
        int64_t first, last;
        ASSERT_TRUE(view_span(view, bytes, &first, &last)) << text(view);
        const int64_t base = static_cast<int64_t>(view.byte_offset);
        EXPECT_EQ(base + first, *std::min_element(all.begin(), all.end())) << text(view);
        EXPECT_EQ(base + last, *std::max_element(all.begin(), all.end()) + bytes) << text(view);
    }
}

TEST(Overlap, SpanRefusesWhatLeavesTheAddressSpace)
{
    int64_t first, last;
    EXPECT_FALSE(view_span(make_view(0, {2}, {INT64_MAX}), 4, &first, &last));
    EXPECT_FALSE(view_span(make_view(0, {2}, {INT64_MIN}), 1, &first, &last));
    EXPECT_FALSE(
        view_span(make_view(0, {int64_t{1} << 47, int64_t{1} << 47}, {INT64_MAX, INT64_MAX}), 8, &first, &last));
    EXPECT_FALSE(view_span(make_view(0, {2}, {int64_t{1} << 61}), 4, &first, &last));
    // Below address 0: the arena lies nowhere near 2^62.
    EXPECT_FALSE(view_span(make_view(0, {2}, {-(int64_t{1} << 60)}), 4, &first, &last));
    EXPECT_FALSE(view_span(make_view(-8, {1}, {1}), 4, &first, &last));
    // What cannot be spanned is never called disjoint.
    EXPECT_FALSE(are_disjoint(make_view(0, {2}, {INT64_MAX}), 4, make_view(1024, {1}, {1}), 4));
}

TEST(Overlap, PartsOfPackedQkvAreDisjoint)
{
    constexpr int64_t kTokens = 5, kHeads = 3, kDim = 4;
    const auto part = [&](int64_t p) { // [token, 3, head, channel]
        return make_view(p * kHeads * kDim * 4, {kTokens, kHeads, kDim}, {3 * kHeads * kDim, kDim, 1});
    };
    for (int64_t a = 0; a < 3; ++a)
        for (int64_t b = 0; b < 3; ++b) EXPECT_EQ(are_disjoint(part(a), 4, part(b), 4), a != b) << a << " " << b;
    // The same with [token, head, 3, channel], and as views [batch, token, head, channel] and [batch, head, token].
    const auto inner = [&](int64_t p) {
        return make_view(p * kDim * 4, {kTokens, kHeads, kDim}, {3 * kHeads * kDim, 3 * kDim, 1});
    };
    const auto permuted = [&](int64_t p) {
        return make_view(p * kDim * 4, {kDim, 1, kHeads, kTokens}, {1, 1000, 3 * kDim, 3 * kHeads * kDim});
    };
    for (int64_t a = 0; a < 3; ++a)
        for (int64_t b = 0; b < 3; ++b) {
            EXPECT_EQ(are_disjoint(inner(a), 4, inner(b), 4), a != b) << a << " " << b;
            EXPECT_EQ(are_disjoint(inner(a), 4, permuted(b), 4), a != b) << a << " " << b;
        }
}

TEST(Overlap, ColumnsOfUnevenWidthAreDisjoint)
{
    // Grouped heads in one projection: 4 heads of Q, then one of K, then one of V.
    constexpr int64_t kDim = 8, kRow = 6 * kDim;
    const attn_tensor q = make_view(0, {7, 4, kDim}, {kRow, kDim, 1});
    const attn_tensor k = make_view(4 * kDim * 4, {7, 1, kDim}, {kRow, kDim, 1});
    const attn_tensor v = make_view(5 * kDim * 4, {7, 1, kDim}, {kRow, kDim, 1});
    EXPECT_TRUE(are_disjoint(q, 4, k, 4) && are_disjoint(k, 4, v, 4) && are_disjoint(v, 4, q, 4));
    const attn_tensor wide = make_view(3 * kDim * 4, {7, 2, kDim}, {kRow, kDim, 1});
    EXPECT_FALSE(are_disjoint(q, 4, wide, 4));
    EXPECT_FALSE(are_disjoint(wide, 4, k, 4));
    // A backwards view of the rows changes nothing.
    attn_tensor reversed = k;
    reversed.byte_offset += 6 * kRow * 4, reversed.strides[0] = -kRow;
    EXPECT_TRUE(are_disjoint(q, 4, reversed, 4) && are_disjoint(reversed, 4, q, 4));
    EXPECT_FALSE(are_disjoint(reversed, 4, k, 4));
}

TEST(Overlap, NeighboursTouchWithoutOverlap)
{
    const attn_tensor a = make_dense(64, {2, 4});
    EXPECT_TRUE(are_disjoint(a, 4, make_dense(96, {2, 4}), 4));
    EXPECT_TRUE(are_disjoint(make_dense(96, {2, 4}), 4, a, 4));
    EXPECT_FALSE(are_disjoint(a, 4, make_dense(95, {8}), 1));
    EXPECT_TRUE(are_disjoint(a, 4, make_dense(96, {8}), 1));
    EXPECT_FALSE(are_disjoint(a, 4, a, 4));
    EXPECT_TRUE(are_disjoint(a, 4, make_dense(64, {0, 4}), 4)); // empty
    EXPECT_FALSE(are_disjoint(a, 4, make_view(68, {5}, {0}), 4));
}

TEST(Overlap, PermutationsSlicesAndReversalsAreDistinct)
{
    std::vector<int> order = {0, 1, 2, 3};
    const attn_tensor dense = make_dense(0, {3, 4, 2, 5});
    do {
        attn_tensor view = dense;
        for (size_t axis = 0; axis < 4; ++axis) {
            view.shape[axis] = dense.shape[order[axis]];
            view.strides[axis] = dense.strides[order[axis]] * (axis % 2 ? -1 : 1);
        }
        EXPECT_TRUE(has_distinct_elements(view)) << text(view);
        view.shape[1] = 1; // a slice, and the stride of a single element is free
        view.strides[1] = 0;
        EXPECT_TRUE(has_distinct_elements(view)) << text(view);
    } while (std::next_permutation(order.begin(), order.end()));
    EXPECT_TRUE(has_distinct_elements(make_view(0, {}, {})));
    EXPECT_TRUE(has_distinct_elements(make_view(0, {0, 3}, {0, 0})));
    EXPECT_FALSE(has_distinct_elements(make_view(0, {2, 3}, {0, 1})));
    EXPECT_FALSE(has_distinct_elements(make_view(0, {2, 3}, {2, 1})));
    EXPECT_FALSE(has_distinct_elements(make_view(0, {3, 3}, {1, -1})));
}

} // namespace
} // namespace attn::test

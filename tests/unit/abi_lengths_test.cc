// What length tensors and page tables hold: a wrong value is ATTN_ERROR_DATA, its message says where it is, and
// nothing has been written. What a call does not need is not read.

#include "abi_fixture.h"

#include <algorithm>
#include <cstring>

namespace {

using caller::Dense;
using caller::Execution;
using caller::Parts;

constexpr attn_status kData = ATTN_ERROR_DATA;

/// A length tensor in int32 or int64.
class Integers {
public:
    Integers(std::vector<int64_t> values, attn_dtype dtype) : wide_(std::move(values)), dtype_(dtype)
    {
        for (const int64_t value : wide_) narrow_.push_back(static_cast<int32_t>(value));
        const int64_t count = static_cast<int64_t>(wide_.size());
        view = attn_tensor_1d(data(), dtype, count);
    }
    const void *data() const { return dtype_ == ATTN_INT64 ? static_cast<const void *>(wide_.data()) : narrow_.data(); }
    attn_tensor view;

private:
    std::vector<int64_t> wide_;
    std::vector<int32_t> narrow_;
    attn_dtype dtype_;
};

struct Case {
    const char *name;
    std::vector<int64_t> values;
    Parts parts; ///< Of the message; empty: the call is served.
};

class Lengths : public ::testing::Test {
protected:
    /// Runs each case in both dtypes; `execute` adds the tensors and returns the outcome.
    template <class Execute>
    void check(attn_slot slot, const std::vector<Case> &table, void (*change)(Dense &d), Execute execute)
    {
        for (const attn_dtype dtype : dtypes_) {
            Dense desc;
            desc.bind(slot, dtype);
            change(desc);
            const caller::Plan plan(handle_, desc);
            for (const Case &row : table) {
                SCOPED_TRACE(std::string(row.name) + (dtype == ATTN_INT64 ? ", int64" : ", int32"));
                const Integers integers(row.values, dtype);
                Execution e(plan.workspace());
                e.add(slot, integers.view);
                execute(e);
                if (row.parts.empty())
                    EXPECT_TRUE(e.served(plan));
                else
                    EXPECT_TRUE(e.refused(plan, kData, row.parts));
            }
        }
    }

    caller::Handle handle_;
    std::vector<attn_dtype> dtypes_ = {ATTN_INT32, ATTN_INT64};
};

/// Q and OUT packed: 7 rows of at most 8.
void pack_q(Execution &e)
{
    e.q = attn_tensor_3d(e.q_data.data(), ATTN_FLOAT32, 7, 4, 8);
    e.out = attn_tensor_3d(e.out_memory.data(), ATTN_FLOAT32, 7, 4, 4);
    e.lse = attn_tensor_2d(e.lse_memory.data(), ATTN_FLOAT32, 4, 7);
}

void pack_kv(Execution &e)
{
    e.k = attn_tensor_3d(e.k_data.data(), ATTN_FLOAT32, 11, 2, 8);
    e.v = attn_tensor_3d(e.v_data.data(), ATTN_FLOAT32, 11, 2, 4);
}

TEST_F(Lengths, CumulativeQ)
{
    const std::vector<Case> table = {
        {"proper", {0, 3, 7}, {}},
        {"gap at both ends", {1, 3, 6}, {}},
        {"empty sequences", {7, 7, 7}, {}},
        {"below 0", {-1, 3, 7}, {"CU_SEQLENS_Q[0] = -1", ">= 0"}},
        {"falls", {0, 4, 3}, {"CU_SEQLENS_Q[2] = 3", "must not be less", "4"}},
        {"falls to below 0", {0, -2, 4}, {"CU_SEQLENS_Q[1] = -2", "must not be less"}},
        {"beyond the rows", {0, 4, 8}, {"CU_SEQLENS_Q[2] = 8", "at most the 7 rows"}},
        {"first beyond", {9, 9, 9}, {"CU_SEQLENS_Q[0] = 9", "at most the 7 rows"}},
        {"huge", {0, 3, INT32_MAX}, {"CU_SEQLENS_Q[2] = 2147483647", "at most the 7 rows"}},
        {"longer than max_q", {0, 5, 7}, {"CU_SEQLENS_Q[1] - CU_SEQLENS_Q[0] = 5", "bounds a sequence to 4"}},
        {"second longer", {0, 2, 7}, {"CU_SEQLENS_Q[2] - CU_SEQLENS_Q[1] = 5", "to 4"}},
    };
    check(
        ATTN_SLOT_CU_SEQLENS_Q, table, [](Dense &) {}, pack_q);
}

TEST_F(Lengths, CumulativeKv)
{
    const std::vector<Case> table = {
        {"proper", {0, 5, 11}, {}},
        {"falls", {6, 5, 11}, {"CU_SEQLENS_KV[1] = 5", "must not be less", "6"}},
        {"below 0", {INT32_MIN, 0, 6}, {"CU_SEQLENS_KV[0] = -2147483648", ">= 0"}},
        {"beyond the rows", {0, 6, 12}, {"CU_SEQLENS_KV[2] = 12", "at most the 11 rows"}},
        {"longer than max_kv", {0, 7, 11}, {"CU_SEQLENS_KV[1] - CU_SEQLENS_KV[0] = 7", "to 6"}},
    };
    check(
        ATTN_SLOT_CU_SEQLENS_KV, table, [](Dense &) {}, pack_kv);
}

TEST_F(Lengths, CumulativeOfNoSequenceEndsWithinTheRows)
{
    const std::vector<Case> table = {{"proper", {7}, {}}, {"beyond", {8}, {"CU_SEQLENS_Q[0] = 8", "7 rows"}}};
    check(
        ATTN_SLOT_CU_SEQLENS_Q, table, [](Dense &) {},
        [](Execution &e) {
            pack_q(e);
            e.k.shape[0] = e.v.shape[0] = 0;
        });
}

TEST_F(Lengths, CumulativeExtents)
{
    Dense desc;
    desc.bind(ATTN_SLOT_CU_SEQLENS_Q);
    const caller::Plan plan(handle_, desc);
    const int32_t cu[] = {0, 1, 2, 3};
    const struct {
        int64_t extent;
        Parts parts;
    } table[] = {{0, {"CU_SEQLENS_Q.shape[0] = 0", "batch + 1"}},
                 {2, {"CU_SEQLENS_Q.shape[0] = 2", "must be 3", "the batch is 2 by K"}},
                 {4, {"CU_SEQLENS_Q.shape[0] = 4", "batch + 1", "at most 3"}}};
    for (const auto &row : table) {
        const attn_tensor view = attn_tensor_1d(cu, ATTN_INT32, row.extent);
        Execution e(plan.workspace());
        pack_q(e);
        e.add(ATTN_SLOT_CU_SEQLENS_Q, view);
        EXPECT_TRUE(e.refused(plan, ATTN_ERROR_INVALID, row.parts));
    }
    const attn_tensor wide = attn_tensor_1d(cu, ATTN_INT64, 3);
    Execution e(plan.workspace());
    pack_q(e);
    e.add(ATTN_SLOT_CU_SEQLENS_Q, wide);
    EXPECT_TRUE(e.refused(plan, ATTN_ERROR_INVALID, {"CU_SEQLENS_Q.dtype = int64", "must be int32"}));
}

TEST_F(Lengths, Used)
{
    check(
        ATTN_SLOT_SEQLENS_Q,
        {{"proper", {4, 1}, {}},
         {"none", {0, 0}, {}},
         {"below 0", {4, -1}, {"SEQLENS_Q[1] = -1", "0 .. 4"}},
         {"beyond", {5, 4}, {"SEQLENS_Q[0] = 5", "0 .. 4"}}},
        [](Dense &) {}, [](Execution &) {});
    check(
        ATTN_SLOT_SEQLENS_KV,
        {{"proper", {6, 0}, {}},
         {"below 0", {INT32_MIN, 1}, {"SEQLENS_KV[0] = -2147483648", "0 .. 6"}},
         {"beyond", {6, 7}, {"SEQLENS_KV[1] = 7", "0 .. 6"}}},
        [](Dense &) {}, [](Execution &) {});
    // The view may be shorter than the plan.
    check(
        ATTN_SLOT_SEQLENS_KV, {{"proper", {3, 3}, {}}, {"beyond", {3, 4}, {"SEQLENS_KV[1] = 4", "0 .. 3"}}},
        [](Dense &) {}, [](Execution &e) { e.k.shape[1] = e.v.shape[1] = 3; });
}

TEST_F(Lengths, UsedOfPackedRows)
{
    const int32_t cu[] = {0, 3, 7};
    const attn_tensor view = attn_tensor_1d(cu, ATTN_INT32, 3);
    check(
        ATTN_SLOT_SEQLENS_Q, {{"proper", {3, 4}, {}}, {"into the next", {4, 4}, {"SEQLENS_Q[0] = 4", "0 .. 3"}}},
        [](Dense &d) { d.bind(ATTN_SLOT_CU_SEQLENS_Q); },
        [&](Execution &e) { pack_q(e), e.add(ATTN_SLOT_CU_SEQLENS_Q, view); });
    check(
        ATTN_SLOT_SEQLENS_KV, {{"proper", {0, 4}, {}}, {"into the next", {3, 5}, {"SEQLENS_KV[1] = 5", "0 .. 4"}}},
        [](Dense &d) { d.bind(ATTN_SLOT_CU_SEQLENS_KV); },
        [&](Execution &e) { pack_kv(e), e.add(ATTN_SLOT_CU_SEQLENS_KV, view); });
}

TEST_F(Lengths, WideValuesAreNotCut)
{
    constexpr int64_t kWide = int64_t{1} << 32; // 0 in its low half
    dtypes_ = {ATTN_INT64};
    check(
        ATTN_SLOT_CU_SEQLENS_Q,
        {{"cumulative", {0, 3, kWide + 7}, {"CU_SEQLENS_Q[2] = 4294967303"}},
         {"largest", {0, 3, INT64_MAX}, {"CU_SEQLENS_Q[2] = 9223372036854775807", "7 rows"}},
         {"lowest", {INT64_MIN, 3, 7}, {"CU_SEQLENS_Q[0] = -9223372036854775808", ">= 0"}}},
        [](Dense &) {}, pack_q);
    check(
        ATTN_SLOT_SEQLENS_KV, {{"used", {kWide, 1}, {"SEQLENS_KV[0] = 4294967296", "0 .. 6"}}}, [](Dense &) {},
        [](Execution &) {});
}

TEST_F(Lengths, RowsBeyondAreNotWritten)
{
    Dense desc;
    desc.bind(ATTN_SLOT_SEQLENS_Q);
    const caller::Plan plan(handle_, desc);
    Execution e(plan.workspace());
    const int32_t lengths[] = {3, 1};
    const attn_tensor view = attn_tensor_1d(lengths, ATTN_INT32, 2);
    e.add(ATTN_SLOT_SEQLENS_Q, view);
    ASSERT_TRUE(e.served(plan));
    const std::vector<double> wanted = caller::reference(e);
    float poison;
    memset(&poison, caller::Guarded::kPoison, sizeof poison);
    for (int64_t b = 0; b < 2; ++b)
        for (int64_t i = 0; i < 4; ++i)
            for (int64_t c = 0; c < 16; ++c) {
                const size_t at = static_cast<size_t>((b * 4 + i) * 16 + c);
                if (i < lengths[b])
                    EXPECT_NEAR(e.out_memory.floats()[at], wanted[at], 1e-5);
                else
                    EXPECT_EQ(memcmp(&e.out_memory.floats()[at], &poison, sizeof poison), 0);
            }
    for (int64_t row = 0; row < 8; ++row)
        for (int64_t i = 0; i < 4; ++i)
            EXPECT_EQ(memcmp(&e.lse_memory.floats()[row * 4 + i], &poison, sizeof poison) == 0, i >= lengths[row / 4]);
}

/// K and V in pages of 2 rows; the pools have 5 pages of K and 4 of V unless a test says otherwise.
class Pages : public Lengths {
protected:
    static void page(Dense &d) { d.problem.page_size = 2; }
    static void pools(Execution &e)
    {
        e.k = attn_tensor_4d(e.k_data.data(), ATTN_FLOAT32, 5, 2, 2, 8);
        e.v = attn_tensor_4d(e.v_data.data(), ATTN_FLOAT32, 4, 2, 2, 4);
    }
    static attn_tensor table_view(const Integers &integers, int64_t columns)
    {
        attn_tensor view = integers.view;
        view.ndim = 2;
        view.shape[0] = 2, view.shape[1] = columns;
        view.strides[0] = columns, view.strides[1] = 1;
        return view;
    }
    /// A table of 2 x 3 pages; with `lengths`, SEQLENS_KV is bound.
    void check_table(const std::vector<Case> &table, std::vector<int64_t> lengths = {})
    {
        for (const attn_dtype dtype : dtypes_) {
            Dense desc;
            page(desc);
            desc.bind(ATTN_SLOT_BLOCK_TABLE, dtype);
            if (!lengths.empty()) desc.bind(ATTN_SLOT_SEQLENS_KV);
            const caller::Plan plan(handle_, desc);
            for (const Case &row : table) {
                SCOPED_TRACE(std::string(row.name) + (dtype == ATTN_INT64 ? ", int64" : ", int32"));
                const Integers pages(row.values, dtype), used(lengths, ATTN_INT32);
                const attn_tensor view = table_view(pages, 3);
                Execution e(plan.workspace());
                pools(e);
                e.add(ATTN_SLOT_BLOCK_TABLE, view);
                if (!lengths.empty()) e.add(ATTN_SLOT_SEQLENS_KV, used.view);
                if (row.parts.empty())
                    EXPECT_TRUE(e.served(plan));
                else
                    EXPECT_TRUE(e.refused(plan, kData, row.parts));
            }
        }
    }
};

TEST_F(Pages, Indices)
{
    check_table({
        {"proper", {0, 1, 2, 3, 0, 0}, {}},
        {"negative", {0, -1, 2, 3, 0, 0}, {"BLOCK_TABLE", "page 1 of sequence 0 = -1", "0 .. 3"}},
        {"of K but not of V", {0, 1, 2, 3, 4, 0}, {"BLOCK_TABLE", "page 1 of sequence 1 = 4", "0 .. 3"}},
        {"last", {0, 1, 2, 3, 0, INT32_MAX}, {"page 2 of sequence 1 = 2147483647", "0 .. 3"}},
        {"lowest", {INT32_MIN, 1, 2, 3, 0, 0}, {"page 0 of sequence 0 = -2147483648"}},
    });
}

TEST_F(Pages, WideIndicesAreNotCut)
{
    dtypes_ = {ATTN_INT64};
    check_table({{"page", {0, 1, 2, 3, 0, int64_t{1} << 32}, {"page 2 of sequence 1 = 4294967296", "0 .. 3"}}});
}

TEST_F(Pages, OnlyNeededEntriesAreRead)
{
    check_table(
        {
            {"garbage beyond", {3, -7, 99, 0, 2, INT32_MIN}, {}},
            {"in the second needed", {3, -7, 99, 0, 4, 1}, {"page 1 of sequence 1 = 4", "0 .. 3"}},
            {"in the first needed", {-7, 0, 0, 0, 2, 1}, {"page 0 of sequence 0 = -7"}},
        },
        {2, 3});
    check_table({{"nothing needed", {-1, -1, -1, -1, -1, -1}, {}}}, {0, 0});
}

/// COLUMN_MASS has no pages: a row by the number of the key, as long as the longest sequence or longer.
TEST_F(Pages, ColumnMassHasAPlaceForEveryKey)
{
    Dense desc;
    page(desc);
    desc.bind(ATTN_SLOT_SEQLENS_KV), desc.bind(ATTN_SLOT_COLUMN_MASS);
    const caller::Plan plan(handle_, desc);
    const Integers pages({0, 1, 2, 3, 0, 0}, ATTN_INT32), used({5, 2}, ATTN_INT32);
    const attn_tensor table = table_view(pages, 3);
    for (const int64_t keys : {4, 5, 6}) {
        SCOPED_TRACE(keys);
        caller::Guarded memory(sizeof(float) * 2 * 4 * static_cast<size_t>(keys));
        const attn_tensor mass = attn_tensor_3d(memory.data(), ATTN_FLOAT32, 2, 4, keys);
        Execution e(plan.workspace());
        pools(e);
        e.add(ATTN_SLOT_BLOCK_TABLE, table), e.add(ATTN_SLOT_SEQLENS_KV, used.view);
        e.add(ATTN_SLOT_COLUMN_MASS, mass);
        if (keys < 5) {
            EXPECT_TRUE(e.refused(plan, ATTN_ERROR_INVALID, {"COLUMN_MASS.shape[2] = 4", "longest key sequence, 5"}));
            EXPECT_TRUE(memory.untouched());
            continue;
        }
        EXPECT_TRUE(e.served(plan));
        EXPECT_TRUE(memory.guards_untouched());
        for (int64_t row = 0; row < 8; ++row) {
            float sum = 0; // 4 queries, all of whose weight goes to the keys in use
            const int64_t length = row < 4 ? 5 : 2;
            for (int64_t key = 0; key < length; ++key) sum += memory.floats()[row * keys + key];
            EXPECT_NEAR(sum, 4, 1e-5) << "row " << row;
            unsigned char beyond[sizeof(float)];
            for (int64_t key = length; key < keys; ++key) {
                std::memcpy(beyond, memory.floats() + row * keys + key, sizeof beyond);
                EXPECT_EQ(beyond[0], caller::Guarded::kPoison) << "key " << key << " of row " << row;
            }
        }
    }
}

TEST_F(Pages, LengthBeyondTheTable)
{
    check_table({{"beyond max_kv", {0, 0, 0, 0, 0, 0}, {"SEQLENS_KV[1] = 7", "0 .. 6"}}}, {6, 7});
    check_table({{"below 0", {0, 0, 0, 0, 0, 0}, {"SEQLENS_KV[0] = -1", "0 .. 6"}}}, {-1, 0});
}

TEST_F(Pages, FewAndManyColumns)
{
    Dense desc, used;
    page(desc), page(used);
    used.bind(ATTN_SLOT_SEQLENS_KV);
    const caller::Plan plain(handle_, desc), lengths(handle_, used);
    const int32_t five[] = {5, 2};
    const attn_tensor lengths_view = attn_tensor_1d(five, ATTN_INT32, 2);
    const Integers pages(std::vector<int64_t>(8, 1), ATTN_INT32);
    for (const int64_t columns : {0, 2, 4}) {
        SCOPED_TRACE(columns);
        const attn_tensor view = table_view(pages, columns);
        Execution e(plain.workspace()), f(lengths.workspace());
        pools(e), pools(f);
        e.add(ATTN_SLOT_BLOCK_TABLE, view), f.add(ATTN_SLOT_BLOCK_TABLE, view);
        f.add(ATTN_SLOT_SEQLENS_KV, lengths_view);
        if (columns == 4) {
            EXPECT_TRUE(e.refused(plain, kData, {"BLOCK_TABLE", "sequence 0 has 4 pages of 2 rows", "max_kv = 6"}));
            EXPECT_TRUE(f.served(lengths));
        } else {
            EXPECT_TRUE(e.served(plain));
            const std::string most = "0 .. " + std::to_string(2 * columns);
            EXPECT_TRUE(f.refused(lengths, kData, {"SEQLENS_KV[0] = 5", most.c_str()}));
        }
    }
}

TEST_F(Pages, EmptyPool)
{
    Dense desc;
    page(desc);
    const caller::Plan plan(handle_, desc);
    const Integers pages({0, 0}, ATTN_INT32);
    const attn_tensor view = table_view(pages, 1);
    Execution e(plan.workspace());
    pools(e);
    e.v.shape[0] = 0, e.v.data = nullptr;
    e.add(ATTN_SLOT_BLOCK_TABLE, view);
    EXPECT_TRUE(e.refused(plan, kData, {"BLOCK_TABLE", "page 0 of sequence 0 = 0"}));
}

TEST_F(Pages, FlatTable)
{
    const int32_t entries[] = {0, 1, 2, 3, -1};
    const attn_tensor table = attn_tensor_1d(entries, ATTN_INT32, 5);
    const std::vector<Case> rows = {
        {"proper", {0, 3, 4}, {}},
        {"one shared by none", {1, 2, 4}, {}},
        {"none", {5, 5, 5}, {}},
        {"below 0", {-1, 3, 4}, {"BLOCK_TABLE_PTR[0] = -1", ">= 0"}},
        {"falls", {2, 1, 4}, {"BLOCK_TABLE_PTR[1] = 1", "must not be less"}},
        {"beyond the table", {0, 3, 6}, {"BLOCK_TABLE_PTR[2] = 6", "at most the 5 rows"}},
        {"too long", {0, 0, 4}, {"BLOCK_TABLE", "sequence 1 has 4 pages of 2 rows", "max_kv = 6"}},
        {"bad page", {0, 3, 5}, {"page 1 of sequence 1 = -1", "0 .. 3"}},
    };
    check(ATTN_SLOT_BLOCK_TABLE_PTR, rows, page, [&](Execution &e) {
        pools(e);
        e.add(ATTN_SLOT_BLOCK_TABLE, table);
    });
}

} // namespace

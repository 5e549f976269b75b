// What a plan says of itself: its tensors, its workspace, its description.

#include "abi_fixture.h"

#include <cctype>
#include <clocale>

namespace {

using caller::Dense;
using caller::fails;
using caller::succeeds;
using caller::zeroed;

constexpr attn_status kInvalid = ATTN_ERROR_INVALID, kCapacity = ATTN_ERROR_CAPACITY;

class Plans : public ::testing::Test {
protected:
    caller::Handle handle_;
    Dense desc_;
};

struct Listed {
    attn_slot slot;
    attn_dtype dtype;
    uint32_t flags;
    std::vector<int64_t> bounds;
};

void expect_slots(attn_plan plan, const std::vector<Listed> &wanted)
{
    size_t position = 0;
    attn_bind bind;
    attn_tensor bounds;
    for (; attn_plan_slot(plan, position, &bind, &bounds) == ATTN_OK; ++position) {
        ASSERT_LT(position, 32u);
        const Listed *found = nullptr;
        for (const Listed &entry : wanted)
            if (entry.slot == bind.slot) found = &entry;
        ASSERT_NE(found, nullptr) << "slot " << bind.slot;
        SCOPED_TRACE(bind.slot);
        EXPECT_EQ(bind.index, 0u);
        EXPECT_EQ(bind.dtype, found->dtype);
        EXPECT_EQ(bind.flags, found->flags);
        for (const int32_t block : bind.block) EXPECT_EQ(block, 0);
        EXPECT_EQ(bounds.data, nullptr);
        EXPECT_EQ(bounds.dtype, found->dtype);
        EXPECT_EQ(bounds.device, ATTN_DEVICE_CPU);
        ASSERT_EQ(bounds.ndim, static_cast<int32_t>(found->bounds.size()));
        for (int32_t axis = 0; axis < bounds.ndim; ++axis)
            EXPECT_EQ(bounds.shape[axis], found->bounds[static_cast<size_t>(axis)]) << axis;
        attn_bind alone;
        EXPECT_EQ(attn_plan_slot(plan, position, &alone, nullptr), ATTN_OK);
        EXPECT_EQ(alone.slot, bind.slot);
    }
    EXPECT_EQ(position, wanted.size());
    for (const size_t end : {position, position + 1, SIZE_MAX}) {
        memset(&bind, 0x5a, sizeof bind), memset(&bounds, 0x5a, sizeof bounds);
        const attn_bind bind_before = bind;
        const attn_tensor bounds_before = bounds;
        const std::string value = "position = " + std::to_string(end);
        const std::string count = "takes " + std::to_string(position);
        EXPECT_TRUE(fails(attn_plan_slot(plan, end, &bind, &bounds), kCapacity, {value.c_str(), count.c_str()}));
        EXPECT_EQ(memcmp(&bind, &bind_before, sizeof bind), 0);
        EXPECT_EQ(memcmp(&bounds, &bounds_before, sizeof bounds), 0);
    }
}

TEST_F(Plans, SlotsOfABatch)
{
    desc_.problem.out_dtype = ATTN_BFLOAT16, desc_.problem.k_dtype = ATTN_FLOAT16;
    desc_.bind(ATTN_SLOT_K, ATTN_FLOAT16, ATTN_BIND_ALIGNED);
    desc_.bind(ATTN_SLOT_SEQLENS_Q), desc_.bind(ATTN_SLOT_SEQLENS_KV, ATTN_INT64);
    const caller::Plan plan(handle_, desc_);
    expect_slots(plan, {{ATTN_SLOT_Q, ATTN_FLOAT32, 0, {2, 4, 4, 8}},
                        {ATTN_SLOT_K, ATTN_FLOAT16, ATTN_BIND_ALIGNED, {2, 6, 2, 8}},
                        {ATTN_SLOT_V, ATTN_FLOAT16, 0, {2, 6, 2, 4}},
                        {ATTN_SLOT_OUT, ATTN_BFLOAT16, 0, {2, 4, 4, 4}},
                        {ATTN_SLOT_LSE, ATTN_FLOAT32, 0, {2, 4, 4}},
                        {ATTN_SLOT_SEQLENS_Q, ATTN_INT32, 0, {2}},
                        {ATTN_SLOT_SEQLENS_KV, ATTN_INT64, 0, {2}}});
}

TEST_F(Plans, SlotsOfPackedRows)
{
    desc_.bind(ATTN_SLOT_CU_SEQLENS_Q), desc_.bind(ATTN_SLOT_CU_SEQLENS_KV);
    desc_.problem.total_q = 7;
    const caller::Plan plan(handle_, desc_);
    expect_slots(plan, {{ATTN_SLOT_Q, ATTN_FLOAT32, 0, {7, 4, 8}},
                        {ATTN_SLOT_K, ATTN_FLOAT32, 0, {12, 2, 8}},
                        {ATTN_SLOT_V, ATTN_FLOAT32, 0, {12, 2, 4}},
                        {ATTN_SLOT_OUT, ATTN_FLOAT32, 0, {7, 4, 4}},
                        {ATTN_SLOT_LSE, ATTN_FLOAT32, 0, {4, 7}},
                        {ATTN_SLOT_CU_SEQLENS_Q, ATTN_INT32, 0, {3}},
                        {ATTN_SLOT_CU_SEQLENS_KV, ATTN_INT32, 0, {3}}});
}

TEST_F(Plans, SlotsOfPagesAndPositions)
{
    desc_.binds.clear();
    desc_.problem.page_size = 2, desc_.dense.causal = ATTN_BY_POSITION;
    {
        const caller::Plan plan(handle_, desc_);
        expect_slots(plan, {{ATTN_SLOT_Q, ATTN_FLOAT32, 0, {2, 4, 4, 8}},
                            {ATTN_SLOT_K, ATTN_FLOAT32, 0, {-1, 2, 2, 8}},
                            {ATTN_SLOT_V, ATTN_FLOAT32, 0, {-1, 2, 2, 4}},
                            {ATTN_SLOT_OUT, ATTN_FLOAT32, 0, {2, 4, 4, 4}},
                            {ATTN_SLOT_BLOCK_TABLE, ATTN_INT32, 0, {2, -1}},
                            {ATTN_SLOT_POSITIONS_Q, ATTN_INT32, 0, {2, 4}},
                            {ATTN_SLOT_POSITIONS_KV, ATTN_INT32, 0, {-1, 2}}});
    }
    desc_.dense.causal = 0;
    desc_.bind(ATTN_SLOT_BLOCK_TABLE_PTR);
    const caller::Plan flat(handle_, desc_);
    expect_slots(flat, {{ATTN_SLOT_Q, ATTN_FLOAT32, 0, {2, 4, 4, 8}},
                        {ATTN_SLOT_K, ATTN_FLOAT32, 0, {-1, 2, 2, 8}},
                        {ATTN_SLOT_V, ATTN_FLOAT32, 0, {-1, 2, 2, 4}},
                        {ATTN_SLOT_OUT, ATTN_FLOAT32, 0, {2, 4, 4, 4}},
                        {ATTN_SLOT_BLOCK_TABLE, ATTN_INT32, 0, {-1}},
                        {ATTN_SLOT_BLOCK_TABLE_PTR, ATTN_INT32, 0, {3}}});
}

/// Whether `text` is one JSON value: a reader that accepts what the grammar of RFC 8259 does, escapes by their letter.
class JsonReader {
public:
    explicit JsonReader(const std::string &text) : at_(text.c_str()) {}
    bool accepts() { return value() && *at_ == '\0'; }

private:
    bool take(char c) { return *at_ == c ? (++at_, true) : false; }
    bool value()
    {
        if (*at_ == '{') return members('}', true);
        if (*at_ == '[') return members(']', false);
        if (*at_ == '"') return string();
        for (const char *word : {"true", "false", "null"})
            if (strncmp(at_, word, strlen(word)) == 0) return at_ += strlen(word), true;
        return number();
    }
    bool members(char close, bool keys)
    {
        ++at_;
        if (take(close)) return true;
        do {
            if (keys && (!string() || !take(':'))) return false;
            if (!value()) return false;
        } while (take(','));
        return take(close);
    }
    bool string()
    {
        if (!take('"')) return false;
        for (; *at_ != '"'; ++at_) {
            if (static_cast<unsigned char>(*at_) < 0x20) return false;
            if (*at_ == '\\' && (!*++at_ || !strchr("\"\\/bfnrtu", *at_))) return false;
        }
        return take('"');
    }
    bool digits()
    {
        if (!isdigit(static_cast<unsigned char>(*at_))) return false;
        while (isdigit(static_cast<unsigned char>(*at_))) ++at_;
        return true;
    }
    bool number()
    {
        take('-');
        if (*at_ == '0' && isdigit(static_cast<unsigned char>(at_[1]))) return false;
        if (!digits() || (take('.') && !digits())) return false;
        if (take('e') || take('E')) {
            if (!take('+')) take('-');
            return digits();
        }
        return true;
    }

    const char *at_;
};

TEST_F(Plans, DescribeCapacity)
{
    const caller::Plan plan(handle_, desc_);
    size_t needed = 0;
    ASSERT_TRUE(succeeds(attn_plan_describe(plan, nullptr, 0, &needed)));
    ASSERT_GT(needed, 2u);
    std::string buffer(needed + 16, '#');
    size_t again = 0;
    ASSERT_TRUE(succeeds(attn_plan_describe(plan, buffer.data(), needed, &again)));
    EXPECT_EQ(again, needed);
    EXPECT_EQ(strlen(buffer.c_str()) + 1, needed);
    EXPECT_EQ(buffer.substr(needed), std::string(16, '#'));
    const std::string text = buffer.c_str();
    ASSERT_TRUE(succeeds(attn_plan_describe(plan, buffer.data(), buffer.size(), nullptr)));
    EXPECT_STREQ(buffer.c_str(), text.c_str());

    const std::string wants = "needs " + std::to_string(needed);
    for (const size_t capacity : {size_t{1}, needed - 1}) {
        std::string small(needed, '#');
        const std::string value = "capacity = " + std::to_string(capacity);
        EXPECT_TRUE(fails(attn_plan_describe(plan, small.data(), capacity, nullptr), kCapacity,
                          {value.c_str(), wants.c_str()}));
        EXPECT_EQ(small, std::string(needed, '#'));
    }
    EXPECT_TRUE(fails(attn_plan_describe(plan, nullptr, 0, nullptr), kCapacity, {"capacity = 0", wants.c_str()}));
}

TEST_F(Plans, DescribeThatFailsLeavesNeeded)
{
    const caller::Plan plan(handle_, desc_);
    size_t needed = 77;
    char small[4] = "###";
    EXPECT_TRUE(fails(attn_plan_describe(plan, small, sizeof small, &needed), kCapacity, {"capacity = 4"}));
    EXPECT_STREQ(small, "###");
    EXPECT_EQ(needed, 77u) << "a function that fails leaves its outputs untouched";
}

TEST_F(Plans, DescribeIsJson)
{
    ASSERT_FALSE(JsonReader("{\"a\":[1,2,],\"b\":0}").accepts()); // the reader can say no
    ASSERT_FALSE(JsonReader("{\"a\":1,5}").accepts());
    desc_.dense.causal = ATTN_BOTTOM_RIGHT, desc_.dense.flags = ATTN_WINDOW_LEFT, desc_.dense.window_left = 2;
    desc_.dense.softcap = 1.5, desc_.problem.scale = 0.3;
    const std::string old = setlocale(LC_ALL, nullptr);
    for (const char *locale : {"C", "de_DE.UTF-8", "fr_FR.UTF-8", "pl_PL.UTF-8"}) {
        if (!setlocale(LC_ALL, locale)) continue; // a locale with a decimal comma must not show
        const caller::Plan plan(handle_, desc_);
        std::string text(1 << 16, '\0');
        ASSERT_TRUE(succeeds(attn_plan_describe(plan, text.data(), text.size(), nullptr)));
        text.resize(strlen(text.c_str()));
        EXPECT_TRUE(JsonReader(text).accepts()) << text;
        for (const char *part : {"\"kernel\":\"cpu.dense.forward", "\"flops\":", "\"bytes\":", "\"workspace_bytes\":",
                                 "\"tensors\":[", "\"refusals\":[", "\"softcap\":1.5", "\"window_left\":2",
                                 "\"causal\":\"bottom_right\"", "\"slot\":\"LSE\""})
            EXPECT_NE(text.find(part), std::string::npos) << part << " is not in " << text;
    }
    setlocale(LC_ALL, old.c_str());
}

class Workspace : public Plans {
protected:
    static size_t bytes_for(attn_plan plan, attn_sizes sizes)
    {
        size_t bytes = 0;
        EXPECT_TRUE(succeeds(attn_plan_workspace_for(plan, &sizes, &bytes)));
        return bytes;
    }
};

TEST_F(Workspace, ForRefused)
{
    desc_.bind(ATTN_SLOT_CU_SEQLENS_Q), desc_.bind(ATTN_SLOT_CU_SEQLENS_KV);
    const caller::Plan plan(handle_, desc_);
    const struct {
        const char *name;
        int64_t attn_sizes::*member;
        int64_t bound;
    } fields[] = {{"attn_sizes.batch", &attn_sizes::batch, 2},
                  {"attn_sizes.max_q", &attn_sizes::max_q, 4},
                  {"attn_sizes.max_kv", &attn_sizes::max_kv, 6},
                  {"attn_sizes.total_q", &attn_sizes::total_q, 8},
                  {"attn_sizes.total_kv", &attn_sizes::total_kv, 12}};
    for (const auto &field : fields) {
        const std::string bound = "0 .. " + std::to_string(field.bound);
        for (const int64_t value : {int64_t{-1}, INT64_MIN, field.bound + 1, INT64_MAX}) {
            attn_sizes sizes = zeroed<attn_sizes>();
            sizes.*field.member = value;
            size_t bytes = 77;
            const std::string place = std::string(field.name) + " = " + std::to_string(value);
            EXPECT_TRUE(fails(attn_plan_workspace_for(plan, &sizes, &bytes), kInvalid, {place.c_str(), bound.c_str()}));
            EXPECT_EQ(bytes, 77u);
        }
        attn_sizes sizes = zeroed<attn_sizes>();
        sizes.*field.member = field.bound;
        EXPECT_EQ(bytes_for(plan, sizes), plan.workspace());
    }
    EXPECT_EQ(bytes_for(plan, zeroed<attn_sizes>()), plan.workspace()) << "0 is the bound";
}

TEST_F(Workspace, TotalsOfABatchAreRefused)
{
    const caller::Plan plan(handle_, desc_);
    attn_sizes sizes = zeroed<attn_sizes>();
    size_t bytes = 77;
    sizes.total_q = 1; // Q is not packed: the longest sequence may still be max_q
    EXPECT_TRUE(fails(attn_plan_workspace_for(plan, &sizes, &bytes), kInvalid, {"attn_sizes.total_q = 1"}));
    sizes.total_q = 0, sizes.total_kv = 1;
    EXPECT_TRUE(fails(attn_plan_workspace_for(plan, &sizes, &bytes), kInvalid, {"attn_sizes.total_kv = 1"}));
    EXPECT_EQ(bytes, 77u);
}

TEST_F(Workspace, GrowsWithTheSizesAndSuffices)
{
    for (const uint64_t flags : {uint64_t{0}, static_cast<uint64_t>(ATTN_BATCH_INVARIANT)}) {
        Dense desc;
        desc.problem.flags = flags;
        desc.problem.batch = 3, desc.problem.max_q = 300, desc.problem.max_kv = 5000;
        const caller::Plan plan(handle_, desc);
        size_t largest = 0;
        for (const int64_t batch : {1, 2, 3})
            for (const int64_t max_q : {1, 7, 300}) {
                size_t previous = 0;
                for (const int64_t max_kv : {1, 100, 1000, 2500, 5000}) {
                    attn_sizes sizes = zeroed<attn_sizes>();
                    sizes.batch = batch, sizes.max_q = max_q, sizes.max_kv = max_kv;
                    const size_t bytes = bytes_for(plan, sizes);
                    EXPECT_LE(previous, bytes);
                    previous = bytes;
                    largest = std::max(largest, bytes);
                    for (int64_t attn_sizes::*member : {&attn_sizes::batch, &attn_sizes::max_q, &attn_sizes::max_kv}) {
                        attn_sizes bound = sizes;
                        bound.*member = 0;
                        EXPECT_GE(bytes_for(plan, bound), bytes);
                    }
                    if (max_q > 7) continue;
                    const std::vector<float> q(static_cast<size_t>(batch * max_q * 32)),
                        k(static_cast<size_t>(batch * max_kv * 16)), v(static_cast<size_t>(batch * max_kv * 8));
                    caller::Guarded out(static_cast<size_t>(batch * max_q * 16) * 4),
                        lse(static_cast<size_t>(batch * max_q * 4) * 4), workspace(bytes);
                    const attn_tensor views[] = {attn_tensor_4d(q.data(), ATTN_FLOAT32, batch, max_q, 4, 8),
                                                 attn_tensor_4d(k.data(), ATTN_FLOAT32, batch, max_kv, 2, 8),
                                                 attn_tensor_4d(v.data(), ATTN_FLOAT32, batch, max_kv, 2, 4),
                                                 attn_tensor_4d(out.data(), ATTN_FLOAT32, batch, max_q, 4, 4),
                                                 attn_tensor_3d(lse.data(), ATTN_FLOAT32, batch, 4, max_q)};
                    std::vector<attn_arg> args;
                    for (int slot = 0; slot < 5; ++slot) args.push_back({ATTN_SLOT_Q + slot, 0, &views[slot]});
                    ASSERT_TRUE(succeeds(attn_execute(plan, args.data(), 5, workspace.data(), bytes, nullptr)));
                    EXPECT_TRUE(out.guards_untouched() && lse.guards_untouched() && workspace.guards_untouched());
                }
            }
        EXPECT_EQ(largest, plan.workspace());
    }
}

TEST_F(Workspace, AlignmentMayBeLeftOut)
{
    const caller::Plan plan(handle_, desc_);
    size_t bytes = 0, again = 0, alignment = 0;
    EXPECT_EQ(attn_plan_workspace(plan, &bytes, nullptr), ATTN_OK);
    EXPECT_EQ(attn_plan_workspace(plan, &again, &alignment), ATTN_OK);
    EXPECT_EQ(bytes, again);
    EXPECT_EQ(alignment & (alignment - 1), 0u);
}

} // namespace

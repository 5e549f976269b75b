// Saved states, conversion, and what is refused of them.
#include "linear_call.h"

#include <gtest/gtest.h>

#include <cstring>

namespace linear {
namespace {

using Bytes = std::vector<unsigned char>;

Bytes saved(Call &call, std::int64_t tokens)
{
    const attn_tensor view = call.at(ATTN_SLOT_STATE_IN).view();
    std::size_t needed = 0, written = 0;
    EXPECT_EQ(attn_state_save(&call.linear, &view, tokens, nullptr, 0, &needed), ATTN_OK) << attn_last_error();
    Bytes bytes(needed);
    EXPECT_EQ(attn_state_save(&call.linear, &view, tokens, bytes.data(), needed - 1, nullptr), ATTN_ERROR_CAPACITY);
    EXPECT_EQ(attn_state_save(&call.linear, &view, tokens, bytes.data(), needed, &written), ATTN_OK);
    EXPECT_EQ(written, needed);
    return bytes;
}

TEST(LinearState, ComesBackToTheLastBit)
{
    for (const attn_dtype dtype : {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16})
        for (const bool value_major : {false, true})
            for (const char *layout : {"bshd", "gaps", "strided"})
                for (const char *method : {"linear", "kda", "based"}) {
                    Spec s;
                    s.method = method, s.state = dtype, s.value_major = value_major, s.state_layout = layout;
                    s.seed = session().seed, s.dim_v = 5;
                    Call from(s), to(s);
                    const Bytes bytes = saved(from, 1234);
                    to.at(ATTN_SLOT_STATE_IN).poison();
                    const attn_tensor view = to.at(ATTN_SLOT_STATE_IN).view();
                    std::int64_t tokens = 0;
                    ASSERT_EQ(attn_state_load(&to.linear, bytes.data(), bytes.size(), &view, &tokens), ATTN_OK)
                        << attn_last_error();
                    EXPECT_EQ(tokens, 1234);
                    EXPECT_EQ(from.at(ATTN_SLOT_STATE_IN).bytes(), to.at(ATTN_SLOT_STATE_IN).bytes()) << s.text();
                    attn_state_info info = {};
                    info.size = sizeof info;
                    ASSERT_EQ(attn_state_inspect(bytes.data(), bytes.size(), &info), ATTN_OK) << attn_last_error();
                    EXPECT_EQ(info.dtype, dtype);
                    EXPECT_EQ(info.layout, value_major ? ATTN_STATE_VK : ATTN_STATE_KV);
                    EXPECT_EQ(info.rows, from.rows);
                    EXPECT_EQ(info.columns, from.columns);
                    EXPECT_EQ(info.states, s.batch);
                    EXPECT_EQ(info.heads, s.heads_v);
                    EXPECT_EQ(info.update, from.m.update);
                    EXPECT_EQ(info.tokens, 1234);
                    EXPECT_EQ(bytes.size(), 96 + std::size_t(s.batch * s.heads_v * from.rows * from.columns) *
                                                     conformance::element_size(dtype));
                }
}

TEST(LinearState, ConvertsLayoutAndDtype)
{
    Spec s;
    s.method = "kda", s.dim_v = 12;
    Call key_major(s);
    s.value_major = true, s.state = ATTN_BFLOAT16;
    Call value_major(s), copied(s);
    const Bytes bytes = saved(key_major, 0);
    attn_tensor to = value_major.at(ATTN_SLOT_STATE_IN).view(), copy = copied.at(ATTN_SLOT_STATE_IN).view();
    const attn_tensor from = key_major.at(ATTN_SLOT_STATE_IN).view();
    ASSERT_EQ(attn_state_load(&value_major.linear, bytes.data(), bytes.size(), &to, nullptr), ATTN_OK)
        << attn_last_error();
    ASSERT_EQ(attn_state_copy(&from, ATTN_STATE_KV, &copy, ATTN_STATE_VK), ATTN_OK) << attn_last_error();
    for (std::int64_t b = 0; b < s.batch; ++b)
        for (std::int64_t h = 0; h < s.heads_v; ++h)
            for (std::int64_t r = 0; r < key_major.rows; ++r)
                for (std::int64_t c = 0; c < key_major.columns; ++c) {
                    const double x =
                        conformance::round_to(ATTN_BFLOAT16, key_major.at(ATTN_SLOT_STATE_IN).get({b, h, r, c}));
                    ASSERT_EQ(value_major.at(ATTN_SLOT_STATE_IN).get({b, h, c, r}), x);
                    ASSERT_EQ(copied.at(ATTN_SLOT_STATE_IN).get({b, h, c, r}), x);
                }
}

/// Save after a prefill, load elsewhere, go on: the bits of a run that was never interrupted. Fork and roll back
/// likewise.
TEST(LinearState, ContinuingIsOneRun)
{
    for (const auto &backend : conformance::backends())
        for (const Method &m : methods()) {
            if (m.flags & ATTN_LINEAR_BIDIRECTIONAL) continue;
            Spec s;
            s.method = m.name, s.seed = session().seed, s.tokens = 60, s.in_place = true;
            Call whole(s), resumed(s);
            conformance::PlanPointer plan, other;
            ASSERT_EQ(whole.plan(backend->handle(1), plan), ATTN_OK) << attn_last_error();
            ASSERT_EQ(whole.execute(plan.get(), 0, 41), ATTN_OK) << attn_last_error();
            const Bytes bytes = saved(whole, 41);
            ASSERT_EQ(whole.execute(plan.get(), 41, 19), ATTN_OK) << attn_last_error();
            ASSERT_EQ(resumed.plan(backend->handle(2), other), ATTN_OK) << attn_last_error();
            const attn_tensor state = resumed.at(ATTN_SLOT_STATE_IN).view();
            ASSERT_EQ(attn_state_load(&resumed.linear, bytes.data(), bytes.size(), &state, nullptr), ATTN_OK)
                << attn_last_error();
            ASSERT_EQ(resumed.execute(other.get(), 41, 19), ATTN_OK) << attn_last_error();
            EXPECT_EQ(whole.at(ATTN_SLOT_STATE_IN).bytes(), resumed.at(ATTN_SLOT_STATE_IN).bytes()) << s.text();
            for (std::int64_t t = 41; t < 60; ++t)
                ASSERT_EQ(whole.at(ATTN_SLOT_OUT).get({1, t, 1, 3}), resumed.at(ATTN_SLOT_OUT).get({1, t, 1, 3}));
        }
}

TEST(LinearState, RefusesWhatItCannotTrust)
{
    Spec s;
    s.method = "kda";
    Call call(s);
    const Bytes bytes = saved(call, 5);
    const attn_tensor view = call.at(ATTN_SLOT_STATE_IN).view();
    const auto expect = [&](const Bytes &data, const attn_linear *desc, const attn_tensor &to, attn_status status,
                            const char *part) {
        const auto before = call.at(ATTN_SLOT_STATE_IN).bytes();
        EXPECT_EQ(attn_state_load(desc, data.data(), data.size(), &to, nullptr), status) << part;
        EXPECT_NE(std::string(attn_last_error()).find(part), std::string::npos) << attn_last_error();
        EXPECT_EQ(call.at(ATTN_SLOT_STATE_IN).bytes(), before) << part;
    };
    for (std::size_t at = 0; at < bytes.size(); at += at < 96 ? 1 : 37) {
        Bytes changed = bytes;
        changed[at] ^= 0x10;
        EXPECT_EQ(attn_state_load(&call.linear, changed.data(), changed.size(), &view, nullptr), ATTN_ERROR_DATA) << at;
    }
    for (const std::size_t length : {std::size_t{0}, std::size_t{95}, std::size_t{96}, bytes.size() - 1})
        expect(Bytes(bytes.begin(), bytes.begin() + std::ptrdiff_t(length)), &call.linear, view,
               length ? ATTN_ERROR_DATA : ATTN_ERROR_INVALID, length ? "bytes" : "buffer");
    Bytes later = bytes;
    later[8] = 2;
    expect(later, &call.linear, view, ATTN_ERROR_DATA, "version 2");
    Spec other = s;
    other.method = "deltanet";
    Call deltanet(other);
    expect(bytes, &deltanet.linear, view, ATTN_ERROR_DATA, "decay = 3 as saved");
    attn_tensor narrow = view;
    narrow.shape[3] = 7;
    expect(bytes, &call.linear, narrow, ATTN_ERROR_INVALID, "state.shape[3] = 7: must be 8");
    attn_tensor overlapping = view;
    overlapping.strides[0] = 1;
    expect(bytes, &call.linear, overlapping, ATTN_ERROR_INVALID, "overlap");
    attn_tensor none = view;
    none.data = nullptr, none.byte_offset = 0;
    expect(bytes, &call.linear, none, ATTN_ERROR_INVALID, "state.data = NULL");
    EXPECT_EQ(attn_state_copy(&view, ATTN_STATE_KV, &view, ATTN_STATE_KV), ATTN_ERROR_INVALID);
    EXPECT_EQ(attn_state_copy(&view, 2, &view, ATTN_STATE_KV), ATTN_ERROR_INVALID);
    EXPECT_EQ(attn_state_save(&call.linear, &view, -1, nullptr, 0, nullptr), ATTN_ERROR_INVALID);
}

} // namespace
} // namespace linear

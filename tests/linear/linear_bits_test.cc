// Properties of linear plans that hold to the last bit, and those that hold within the bounds of the table.
#include "linear_call.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

namespace linear {
namespace {

using conformance::Index;

std::vector<Method> causal_methods()
{
    std::vector<Method> list;
    for (const Method &m : methods())
        if (!(m.flags & ATTN_LINEAR_BIDIRECTIONAL)) list.push_back(m);
    return list;
}

Spec spec_of(const Method &m)
{
    Spec s;
    s.method = m.name, s.seed = session().seed, s.tokens = 70, s.dim_qk = 16, s.dim_v = 32;
    s.heads_q = s.heads_k = 2, s.heads_v = 4;
    if (m.map == ATTN_FEATURE_TAYLOR2) s.dim_qk = 6;
    return s;
}

conformance::PlanPointer plan_of(Call &call, attn_handle handle)
{
    conformance::PlanPointer plan;
    EXPECT_EQ(call.plan(handle, plan), ATTN_OK) << attn_last_error();
    return plan;
}

std::vector<double> outputs(const Call &call, std::int64_t tokens)
{
    std::vector<double> list;
    for (std::size_t b = 0; b < call.sequences.size(); ++b)
        for (std::int64_t t = 0; t < tokens; ++t)
            for (std::int64_t h = 0; h < call.heads_out; ++h)
                for (std::int64_t c = 0; c < call.s.dim_v; ++c)
                    list.push_back(call.at(ATTN_SLOT_OUT).get(call.token_index(ATTN_SLOT_OUT, b, t, h, c)));
    return list;
}

/// Of all tokens, however long the sequences.
std::vector<double> outputs(const Call &call)
{
    std::vector<double> list;
    for (std::size_t b = 0; b < call.sequences.size(); ++b)
        for (std::int64_t t = 0; t < call.sequences[b].length; ++t)
            for (std::int64_t h = 0; h < call.heads_out; ++h)
                for (std::int64_t c = 0; c < call.s.dim_v; ++c)
                    list.push_back(call.at(ATTN_SLOT_OUT).get(call.token_index(ATTN_SLOT_OUT, b, t, h, c)));
    return list;
}

std::vector<double> state_after(const Call &call, attn_slot slot, std::int64_t token = -1)
{
    std::vector<double> list;
    for (std::size_t b = 0; b < call.sequences.size(); ++b)
        for (std::int64_t h = 0; h < call.s.heads_v; ++h)
            for (std::int64_t r = 0; r < call.rows; ++r)
                for (std::int64_t c = 0; c < call.columns; ++c)
                    list.push_back(call.at(slot).get(token >= 0 ? call.token_state_index(b, token, h, r, c)
                                                                : call.state_index(call.sequences[b].state, h, r, c)));
    return list;
}

/// Sets everything that comes with tokens from `first` on; NaN, or what `change` makes of it.
template <class Change>
void spoil(Call &call, std::int64_t first, Change change)
{
    for (auto &[key, tensor] : call.tensors) {
        const attn_slot slot = key.first;
        const bool by_token = slot <= ATTN_SLOT_V || (slot >= ATTN_SLOT_BETA && slot <= ATTN_SLOT_WRITE) ||
                              slot == ATTN_SLOT_DPLR_B || slot == ATTN_SLOT_DPLR_C ||
                              (slot == ATTN_SLOT_DECAY && call.m.decay >= ATTN_DECAY_TOKEN);
        if (!by_token) continue;
        const std::vector<std::int64_t> &shape = tensor.shape();
        for (std::int64_t b = 0; b < shape[0]; ++b)
            for (std::int64_t t = first; t < shape[1]; ++t)
                for (std::int64_t h = 0; h < shape[2]; ++h)
                    for (std::int64_t c = 0; c < (shape.size() > 3 ? shape[3] : 1); ++c) {
                        const Index at = {b, t, h, c};
                        tensor.set(at, change(slot, tensor.get(at)));
                    }
    }
}

TEST(LinearBits, TheFutureNeverChangesThePast)
{
    for (const auto &backend : conformance::backends())
        for (const Method &m : causal_methods())
            for (const std::int64_t chunk : {16, 0}) {
                if (session().subset && chunk != 0) continue;
                for (const double gate : {0.05, 3.0})
                    for (const std::int64_t first : {5, 36, 69}) {
                        Spec s = spec_of(m);
                        s.chunk = chunk, s.gate_size = gate;
                        Call call(s), not_a_number(s), strong(s);
                        const conformance::PlanPointer plan = plan_of(call, backend->handle(2));
                        ASSERT_EQ(call.execute(plan.get()), ATTN_OK) << attn_last_error();
                        spoil(not_a_number, first, [](attn_slot, double) { return NAN; });
                        ASSERT_EQ(not_a_number.execute(plan.get()), ATTN_OK) << attn_last_error();
                        EXPECT_EQ(outputs(call, first), outputs(not_a_number, first)) << backend->name() << s.text();
                        // Other decays end chunks elsewhere.
                        spoil(strong, first, [](attn_slot slot, double x) {
                            return slot == ATTN_SLOT_DECAY ? x * 30 - 1 : 2 * x + 1;
                        });
                        ASSERT_EQ(strong.execute(plan.get()), ATTN_OK) << attn_last_error();
                        EXPECT_EQ(outputs(call, first), outputs(strong, first)) << backend->name() << s.text();
                        if (session().subset) break;
                    }
            }
}

/// One prefill, prefill in pieces and step by step: all within the bounds of one run.
TEST(LinearBits, PiecesAreOneRun)
{
    std::vector<std::vector<std::int64_t>> splits = {{9, 0, 61}, {8, 8, 8, 46}, {33, 37}, {64, 6}, {70}, {1, 69}};
    if (session().subset)
        splits.resize(2);
    else
        splits.emplace_back(70, 1);
    for (const auto &backend : conformance::backends())
        for (const Method &m : causal_methods())
            for (const auto &split : splits) {
                Spec s = spec_of(m);
                s.in_place = true;
                Call call(s), before(s);
                const conformance::PlanPointer plan = plan_of(call, backend->handle(1));
                std::int64_t first = 0;
                for (const std::int64_t count : split) {
                    ASSERT_EQ(call.execute(plan.get(), first, count), ATTN_OK) << attn_last_error();
                    first += count;
                }
                before.tensors[{ATTN_SLOT_OUT, 0}] = call.at(ATTN_SLOT_OUT);
                before.tensors[{ATTN_SLOT_STATE_OUT, 0}] = call.at(ATTN_SLOT_STATE_IN);
                EXPECT_EQ(before.compare().failure, "") << backend->name() << s.text() << " pieces " << split.size();
            }
}

/// Rows of tokens as a step takes them: what the state is after some of them does not depend on those that follow.
TEST(LinearBits, RejectedTokensLeaveNoTrace)
{
    for (const auto &backend : conformance::backends())
        for (const Method &m : causal_methods())
            for (const bool value_major : {false, true}) {
                Spec s = spec_of(m);
                s.tokens = 8, s.value_major = value_major;
                const std::int64_t accepted = 3;
                // The draft: all 8, the state before kept. Then the accepted ones again.
                Call draft(s), replay(s);
                const conformance::PlanPointer plan = plan_of(draft, backend->handle(1));
                ASSERT_EQ(draft.execute(plan.get()), ATTN_OK) << attn_last_error();
                ASSERT_EQ(replay.execute(plan.get(), 0, accepted), ATTN_OK) << attn_last_error();
                EXPECT_EQ(outputs(draft, accepted), outputs(replay, accepted)) << backend->name() << s.text();
                // One state per token: that after the accepted ones, and the last.
                s.per_token = true;
                Call kept(s);
                const conformance::PlanPointer keeping = plan_of(kept, backend->handle(1));
                ASSERT_EQ(kept.execute(keeping.get()), ATTN_OK) << attn_last_error();
                EXPECT_EQ(state_after(kept, ATTN_SLOT_STATE_OUT, accepted - 1),
                          state_after(replay, ATTN_SLOT_STATE_OUT))
                    << backend->name() << s.text();
                EXPECT_EQ(state_after(kept, ATTN_SLOT_STATE_OUT, 7), state_after(draft, ATTN_SLOT_STATE_OUT));
                EXPECT_EQ(outputs(kept, 8), outputs(draft, 8));
                // One at a time.
                s.per_token = false, s.in_place = true;
                Call single(s);
                const conformance::PlanPointer step = plan_of(single, backend->handle(1));
                for (std::int64_t t = 0; t < accepted; ++t)
                    ASSERT_EQ(single.execute(step.get(), t, 1), ATTN_OK) << attn_last_error();
                EXPECT_EQ(state_after(single, ATTN_SLOT_STATE_IN), state_after(replay, ATTN_SLOT_STATE_OUT))
                    << backend->name() << s.text();
            }
}

/// Neither the workers nor the place of the state change a bit.
TEST(LinearBits, NeitherWorkersNorPlaceMatter)
{
    for (const auto &backend : conformance::backends())
        for (const Method &m : methods())
            for (const std::int64_t tokens : {4, 70}) {
                Spec s = spec_of(m);
                s.tokens = tokens, s.batch = 1, s.dim_v = 80, s.heads_q = s.heads_k = s.heads_v = 1;
                Call one(s);
                ASSERT_EQ(one.execute(plan_of(one, backend->handle(1)).get()), ATTN_OK) << attn_last_error();
                Call many(s);
                ASSERT_EQ(many.execute(plan_of(many, backend->handle(4)).get()), ATTN_OK) << attn_last_error();
                EXPECT_EQ(outputs(one, tokens), outputs(many, tokens)) << backend->name() << s.text();
                EXPECT_EQ(state_after(one, ATTN_SLOT_STATE_OUT), state_after(many, ATTN_SLOT_STATE_OUT));
                s.in_place = true;
                Call here(s);
                ASSERT_EQ(here.execute(plan_of(here, backend->handle(3)).get()), ATTN_OK) << attn_last_error();
                EXPECT_EQ(outputs(one, tokens), outputs(here, tokens)) << backend->name() << s.text();
                EXPECT_EQ(state_after(one, ATTN_SLOT_STATE_OUT), state_after(here, ATTN_SLOT_STATE_IN));
            }
}

/// Methods whose long sequences go in segments where states are few.
std::vector<Method> segmented_methods()
{
    std::vector<Method> list;
    for (const Method &m : causal_methods())
        if (m.update == ATTN_UPDATE_ADD) list.push_back(m);
    return list;
}

/// The bounds of the table are those of sums of some hundred floats: the roundings of n times as many wander off by
/// sqrt(n) times as much.
void expect_long_sums(const Errors &errors, const Spec &s)
{
    const double wander = std::sqrt(double(s.tokens) / 256);
    EXPECT_GT(errors.out, 0) << "nothing was compared: " << errors.failure;
    EXPECT_LE(errors.row, wander) << s.text();
    EXPECT_LE(errors.out, wander * 2e-6) << s.text();
    EXPECT_LE(errors.state, wander * 1e-5) << s.text();
    EXPECT_EQ(errors.failure.find("written"), std::string::npos) << errors.failure;
}

/// Segments: the bits of one worker by any number of them, in place too; all within the bounds of long sums.
TEST(LinearBits, SegmentsAreOneRun)
{
    for (const auto &backend : conformance::backends())
        for (const Method &m : segmented_methods())
            for (const bool pool : {false, true}) {
                Spec s = spec_of(m);
                s.tokens = 2100, s.batch = 1, s.pool = s.value_major = pool;
                s.heads_q = 2, s.heads_k = s.heads_v = 1, s.dim_qk = 5, s.dim_v = pool ? 32 : 9;
                Call one(s);
                expect_long_sums(one.run(backend->handle(1)), s);
                for (const std::int64_t workers : {2, 5}) {
                    s.in_place = workers == 5;
                    Call many(s);
                    ASSERT_EQ(many.execute(plan_of(many, backend->handle(workers)).get()), ATTN_OK)
                        << attn_last_error();
                    EXPECT_EQ(outputs(one), outputs(many)) << backend->name() << s.text();
                    EXPECT_EQ(state_after(one, ATTN_SLOT_STATE_OUT),
                              state_after(many, s.in_place ? ATTN_SLOT_STATE_IN : ATTN_SLOT_STATE_OUT))
                        << backend->name() << s.text();
                }
                if (session().subset) break;
            }
}

/// Several waves of segments, strong decays, and the future.
TEST(LinearBits, LongSegments)
{
    for (const auto &backend : conformance::backends())
        for (const char *name : {"gla", "retnet", "rwkv6", "linear"})
            for (const double gate : {0.002, 20.0}) {
                if (session().subset && gate > 1) continue;
                Spec s = spec_of(method(name));
                s.tokens = session().subset ? 3000 : 18000, s.gate_size = gate;
                s.batch = s.heads_q = s.heads_k = s.heads_v = 1, s.dim_qk = 4, s.dim_v = 3;
                Call call(s), spoilt(s);
                expect_long_sums(call.run(backend->handle(3)), s);
                spoil(spoilt, 2500, [](attn_slot, double) { return NAN; });
                ASSERT_EQ(spoilt.execute(plan_of(spoilt, backend->handle(2)).get()), ATTN_OK) << attn_last_error();
                EXPECT_EQ(outputs(call, 2500), outputs(spoilt, 2500)) << backend->name() << s.text();
            }
}

/// A sequence has the same bits alone and beside others, packed or not.
TEST(LinearBits, SequencesDoNotMeet)
{
    for (const auto &backend : conformance::backends())
        for (const Method &m : causal_methods()) {
            Spec s = spec_of(m);
            s.batch = 3;
            Call all(s);
            ASSERT_EQ(all.execute(plan_of(all, backend->handle(2)).get()), ATTN_OK) << attn_last_error();
            Call spoilt(s);
            for (const attn_slot slot : {ATTN_SLOT_Q, ATTN_SLOT_K, ATTN_SLOT_V})
                for (std::int64_t t = 0; t < s.tokens; ++t)
                    for (std::int64_t c = 0; c < 4; ++c) spoilt.at(slot).set({1, t, 0, c}, NAN);
            ASSERT_EQ(spoilt.execute(plan_of(spoilt, backend->handle(2)).get()), ATTN_OK) << attn_last_error();
            for (const std::int64_t b : {0, 2})
                for (std::int64_t t = 0; t < s.tokens; ++t) {
                    const Index at = {b, t, 1, 0};
                    ASSERT_EQ(all.at(ATTN_SLOT_OUT).get(at), spoilt.at(ATTN_SLOT_OUT).get(at)) << s.text();
                }
        }
}

} // namespace
} // namespace linear

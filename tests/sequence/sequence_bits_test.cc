// Properties of conv and scan plans that hold to the last bit.
#include "sequence_call.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sequence {
namespace {

/// One of each kind and form.
std::vector<Spec> forms()
{
    std::vector<Spec> list;
    Spec s;
    s.seed = session().seed, s.tokens = 70, s.channels = 37;
    for (const std::int64_t width : {1, 4, 8}) {
        s.width = width, s.silu = width == 4, s.bias = width == 8, s.residual = width == 4;
        s.state_in = s.state_out = width > 1;
        list.push_back(s);
    }
    s = Spec();
    s.conv = false, s.seed = session().seed, s.tokens = 70, s.channels = 37;
    for (const bool factor : {false, true})
        for (const int weight : {0, 1, 2}) {
            s.factor = factor, s.write = weight == 1, s.lerp = weight == 2;
            list.push_back(s);
        }
    return list;
}

conformance::PlanPointer plan_of(const Call &call, attn_handle handle)
{
    conformance::PlanPointer plan;
    EXPECT_EQ(call.plan(handle, plan), ATTN_OK) << attn_last_error();
    return plan;
}

void execute(Call &call, attn_handle handle)
{
    ASSERT_EQ(call.execute(plan_of(call, handle).get()), ATTN_OK) << attn_last_error();
}

/// Sets the rows of a sequence from a token on to NaN.
void spoil(Call &call, std::size_t b, std::int64_t first)
{
    for (const attn_slot slot : {ATTN_SLOT_X, ATTN_SLOT_DECAY, ATTN_SLOT_WRITE, ATTN_SLOT_RESIDUAL}) {
        if (!call.has(slot)) continue;
        for (std::int64_t t = first; t < call.sequences[b].length; ++t)
            for (std::int64_t h = 0; h < call.s.heads; ++h)
                for (std::int64_t c = 0; c < call.at(slot).shape().back(); ++c)
                    call.at(slot).set(call.token_index(b, t, h, c), NAN);
    }
}

TEST(SequenceBits, TheFutureNeverChangesThePast)
{
    for (const auto &backend : conformance::backends())
        for (Spec s : forms())
            for (const std::int64_t tokens : {70, 1100}) {
                s.tokens = tokens, s.batch = 1;
                for (const std::int64_t first : {tokens - 1, tokens / 2, std::int64_t{1}}) {
                    Call call(s), spoilt(s);
                    execute(call, backend->handle(2));
                    spoil(spoilt, 0, first);
                    execute(spoilt, backend->handle(2));
                    EXPECT_EQ(call.outputs(first), spoilt.outputs(first)) << backend->name() << s.text();
                    if (session().subset) break;
                }
            }
}

/// One call, several, and token by token: the same bits, within a segment of a scan.
TEST(SequenceBits, PiecesAreOneRun)
{
    const std::vector<std::vector<std::int64_t>> splits = {
        {33, 37}, {1, 69}, std::vector<std::int64_t>(70, 1), {2, 0, 3, 65}, {8, 8, 8, 46}};
    for (const auto &backend : conformance::backends())
        for (Spec s : forms()) {
            if (s.conv && s.width == 1) continue; // has no state
            s.in_place = true;
            Call whole(s);
            execute(whole, backend->handle(1));
            for (const auto &split : splits) {
                Call pieces(s);
                const conformance::PlanPointer plan = plan_of(pieces, backend->handle(2));
                std::int64_t first = 0;
                for (const std::int64_t count : split) {
                    ASSERT_EQ(pieces.execute(plan.get(), first, count), ATTN_OK) << attn_last_error();
                    first += count;
                }
                EXPECT_EQ(whole.outputs(70), pieces.outputs(70)) << backend->name() << s.text();
                EXPECT_EQ(whole.states(ATTN_SLOT_STATE_IN), pieces.states(ATTN_SLOT_STATE_IN)) << s.text();
            }
        }
}

/// Across segments a scan in pieces is within the bounds of one run.
TEST(SequenceBits, LongPiecesAreOneRun)
{
    for (Spec s : forms()) {
        if (s.conv) continue;
        s.tokens = 1500, s.channels = 3, s.in_place = true;
        Call call(s);
        Call judged(s);
        const conformance::PlanPointer plan = plan_of(call, conformance::backends().front()->handle(2));
        for (std::int64_t first = 0; first < s.tokens; first += 300)
            ASSERT_EQ(call.execute(plan.get(), first, 300), ATTN_OK) << attn_last_error();
        Spec apart = s;
        apart.in_place = false;
        Call whole(apart);
        whole.at(ATTN_SLOT_OUT) = call.at(ATTN_SLOT_OUT);
        whole.at(ATTN_SLOT_STATE_OUT) = call.at(ATTN_SLOT_STATE_IN);
        EXPECT_EQ(whole.compare(), "") << s.text();
    }
}

/// Neither the workers nor the place of the state change a bit.
TEST(SequenceBits, NeitherWorkersNorPlaceMatter)
{
    for (const auto &backend : conformance::backends())
        for (Spec s : forms())
            for (const std::int64_t tokens : {4, 513, 3000}) {
                s.tokens = tokens, s.batch = s.heads = 1;
                Call one(s);
                execute(one, backend->handle(1));
                for (const std::int64_t workers : {2, 5}) {
                    Call many(s);
                    execute(many, backend->handle(workers));
                    EXPECT_EQ(one.outputs(tokens), many.outputs(tokens)) << backend->name() << s.text();
                    if (!s.state_out) continue;
                    EXPECT_EQ(one.states(ATTN_SLOT_STATE_OUT), many.states(ATTN_SLOT_STATE_OUT)) << s.text();
                }
                if (!s.state_out) continue;
                s.in_place = true;
                Call here(s);
                execute(here, backend->handle(3));
                EXPECT_EQ(one.outputs(tokens), here.outputs(tokens)) << backend->name() << s.text();
                EXPECT_EQ(one.states(ATTN_SLOT_STATE_OUT), here.states(ATTN_SLOT_STATE_IN)) << s.text();
                s.in_place = false;
            }
}

/// The last output of a scan is its state.
TEST(SequenceBits, TheLastOutputIsTheState)
{
    for (const auto &backend : conformance::backends())
        for (Spec s : forms()) {
            if (s.conv) continue;
            for (const std::int64_t tokens : {1, 1030}) {
                s.tokens = tokens;
                Call call(s);
                execute(call, backend->handle(2));
                for (std::size_t b = 0; b < call.sequences.size(); ++b)
                    EXPECT_EQ(call.at(ATTN_SLOT_OUT).get(call.token_index(b, tokens - 1, 1, 5)),
                              call.at(ATTN_SLOT_STATE_OUT).get(call.state_index(b, 0, 1, 5)));
            }
        }
}

/// A sequence has the same bits alone and beside others.
TEST(SequenceBits, SequencesDoNotMeet)
{
    for (const auto &backend : conformance::backends())
        for (Spec s : forms())
            for (const bool packed : {false, true}) {
                s.batch = 4, s.packed = packed;
                Call call(s), spoilt(s);
                execute(call, backend->handle(2));
                spoil(spoilt, 1, 0);
                execute(spoilt, backend->handle(2));
                for (std::size_t b = 0; b < call.sequences.size(); ++b)
                    for (std::int64_t t = 0; b != 1 && t < call.sequences[b].length; ++t) {
                        const conformance::Index at = call.token_index(b, t, 1, 36);
                        ASSERT_EQ(call.at(ATTN_SLOT_OUT).get(at), spoilt.at(ATTN_SLOT_OUT).get(at)) << s.text();
                    }
            }
}

} // namespace
} // namespace sequence

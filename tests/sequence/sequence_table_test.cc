// Random cases of every option against the equations, on all instruction sets.
#include "sequence_call.h"

#include <gtest/gtest.h>

#include <cstdio>

namespace sequence {
namespace {

void run(const Spec &s)
{
    for (const auto &backend : conformance::backends()) {
        Call call(s);
        EXPECT_EQ(call.run(backend->handle(s.workers)), "") << backend->name() << ": " << s.text();
    }
}

void run_random(bool conv)
{
    const int cases = session().subset ? 60 : 400;
    conformance::Random random(session().seed, conv ? 13 : 14);
    for (int i = 0; i < cases && !testing::Test::HasFailure(); ++i) run(random_spec(conv, random));
    std::printf("%d cases\n", cases);
}

TEST(SequenceTable, Convolutions)
{
    run_random(true);
}

TEST(SequenceTable, Scans)
{
    run_random(false);
}

/// Sequences of several segments, and of several waves of them, by one worker and by more than there are strips.
TEST(SequenceTable, LongScans)
{
    for (const std::int64_t tokens : {511, 512, 513, 1024, 1025, 4000, 70000})
        for (const std::int32_t workers : {1, 3})
            for (const bool lerp : {false, true}) {
                Spec s;
                s.conv = false, s.seed = session().seed, s.tokens = tokens, s.workers = workers, s.lerp = lerp;
                s.batch = s.heads = 1, s.channels = tokens > 4000 ? 2 : 19;
                s.gate_size = 0.01;
                if (session().subset && tokens > 4000) continue;
                run(s);
            }
}

/// The table would notice: an input changed behind the oracle's back fails it.
TEST(SequenceTable, NoticesAnError)
{
    for (const bool conv : {true, false})
        for (const attn_slot slot : {ATTN_SLOT_X, ATTN_SLOT_STATE_IN, ATTN_SLOT_OUT, ATTN_SLOT_STATE_OUT}) {
            Spec s;
            s.conv = conv, s.seed = session().seed, s.tokens = 3;
            Call call(s);
            ASSERT_EQ(call.run(conformance::backends().front()->handle(1)), "");
            const bool state = slot == ATTN_SLOT_STATE_IN || slot == ATTN_SLOT_STATE_OUT;
            const conformance::Index place = state ? call.state_index(0, 0, 0, 0) : call.token_index(0, 0, 0, 0);
            call.at(slot).set(place, call.at(slot).get(place) * 1.001 + 0.001);
            EXPECT_NE(call.compare(), "") << (conv ? "conv" : "scan") << " slot " << slot;
        }
}

} // namespace
} // namespace sequence

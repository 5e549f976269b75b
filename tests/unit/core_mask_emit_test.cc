// Emitted text of mask programs, compiled for the host: it says of every pair what the program does.

#include "core_mask_programs.h"
#include "core_random.h"
#include "mask/emit.h"
#include "mask_texts.h"

#include "mask_texts_emitted.h" // of mask_texts.cc

#include <gtest/gtest.h>

namespace {

using attn::emit_source;
using attn::mask::Value;
using mask_test::read;

/// A pair of a sequence, as kernels give it to emitted text.
struct Pair {
    const attn::MaskSequence &s;
    attn::mask::i64 h, i, j, tq, tk;

    attn::mask::i64 of(Value value, int pair) const
    {
        switch (value) {
        case Value::row_index:
            return i;
        case Value::row_level:
            return i + tk - tq;
        case Value::row_position:
            return s.positions_q[i];
        case Value::row_id:
            return s.ids_q[pair][i];
        case Value::head:
            return h;
        case Value::key_index:
            return j;
        case Value::key_position:
            return s.positions_kv[j];
        case Value::key_id:
            return s.ids_kv[pair][j];
        default:
            ADD_FAILURE() << "asked for a value that no row or key has";
            return 0;
        }
    }
};

TEST(MaskText, SaysWhatTheProgramDoes)
{
    static_assert(std::size(kEmitted<Pair>) == mask_test::kMaskTextCount);
    conformance::Random random(attn::test::test_seed(), 3);
    for (int n = 0; n < mask_test::kMaskTextCount; ++n) {
        SCOPED_TRACE(mask_test::kMaskTexts[n]);
        const conformance::MaskProgram definition = conformance::parse_mask(mask_test::kMaskTexts[n]);
        const attn::MaskProgram program = read(definition);
        for (int round = 0; round < 8; ++round) {
            const mask_test::Sequence s(mask_test::draw_sequence(random, 70), program);
            for (int64_t h = 0; h < mask_test::kHeadsOut; ++h)
                for (int64_t i = 0; i < s.view.tq; ++i)
                    for (int64_t j = 0; j < s.view.tk; ++j)
                        ASSERT_EQ(kEmitted<Pair>[n](program, {s.view, h, i, j, s.view.tq, s.view.tk}),
                                  in_program(definition, s.oracle, ATTN_ALIGN_NONE, h, i, j))
                            << "head " << h << ", query " << i << " of " << s.view.tq << ", key " << j << " of "
                            << s.view.tk;
        }
    }
}

TEST(MaskText, IsOfTheStructureAlone)
{
    const auto text = [](const char *program, attn_align diagonal = ATTN_ALIGN_NONE) {
        return emit_source(read(program, diagonal));
    };
    EXPECT_EQ(text("prefix(3)"), text("prefix(400)+0.5"));
    EXPECT_EQ(text("prefix(3)"), text("prefix{1|1,2,3,4|0,1,0,1}"));
    EXPECT_EQ(text("band:br{2|17,0,0,inf} prefix(2) or"), text("band:br(1,2) prefix{1|1,2,3,4} or"));
    EXPECT_EQ(text("id_eq/7 id_q/9(1) and"), text("id_eq/1 id_q/3(2) and"));
    EXPECT_EQ(text("causal", ATTN_TOP_LEFT), text("causal:tl"));
    EXPECT_NE(text("causal:tl"), text("causal:br"));
    EXPECT_NE(text("causal:tl"), text("causal:tl not"));
    EXPECT_NE(text("id_eq id_eq/1 and"), text("id_eq id_eq and"));
    EXPECT_NE(text("prefix(1) prefix(1) or"), text("prefix(1) prefix(1) and"));
}

} // namespace

// The readings of mask programs on the host: what a pair is, by the definition of the conformance tests, and what a
// tile may be.

#include "core_mask_programs.h"
#include "core_random.h"

#include "tests/conformance/table_masks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace {

using attn::classify;
using attn::MaskProgram;
using attn::MaskTile;
using attn::visible;
using attn::mask::Coverage;
using attn::mask::Range;
using attn::test::test_seed;
using mask_test::read;
using mask_test::Sequence;

Range range_of(const int64_t *values, Range places)
{
    const auto [least, most] = std::minmax_element(values + places.least, values + places.most + 1);
    return {*least, *most};
}

/// Rows and keys of a sequence as a tile.
struct Tile {
    std::vector<Range> ids_q, ids_kv;
    MaskTile view;

    Tile(const MaskProgram &program, const Sequence &s, Range heads, Range rows, Range keys)
    {
        for (size_t pair = 0; pair < program.pairs.size(); ++pair) {
            ids_q.push_back(range_of(s.ids_q[pair], rows));
            ids_kv.push_back(range_of(s.ids_kv[pair], keys));
        }
        view.tq = s.view.tq, view.tk = s.view.tk;
        view.heads = heads, view.rows = rows, view.keys = keys;
        view.positions_q = range_of(s.view.positions_q, rows), view.positions_kv = range_of(s.view.positions_kv, keys);
        view.ids_q = ids_q.data(), view.ids_kv = ids_kv.data();
    }
};

/// What a tile is, pair by pair.
Coverage look(const MaskProgram &program, const Sequence &s, const MaskTile &tile)
{
    bool some = false, all = true;
    for (int64_t h = tile.heads.least; h <= tile.heads.most; ++h)
        for (int64_t i = tile.rows.least; i <= tile.rows.most; ++i)
            for (int64_t j = tile.keys.least; j <= tile.keys.most; ++j) {
                const bool sees = visible(program, s.view, h, i, j);
                some |= sees, all &= sees;
            }
    return all ? Coverage::full : some ? Coverage::partial : Coverage::skip;
}

constexpr const char *kAligns[] = {"none", "top_left", "bottom_right", "by_position"};

TEST(MaskProgram, PairsAreAsDefined)
{
    conformance::Random random(test_seed(), 1);
    int64_t pairs = 0, seen = 0;
    for (int round = 0; round < 600; ++round) {
        const int64_t align = random.integer(0, 3);
        const std::string text = random_mask(mask_test::case_of(kAligns[align]), random);
        SCOPED_TRACE(text);
        const conformance::MaskProgram definition = conformance::parse_mask(text);
        const MaskProgram program = read(definition, static_cast<attn_align>(align));
        ASSERT_FALSE(testing::Test::HasFailure());
        const Sequence s(mask_test::draw_sequence(random, 60), program);
        for (int64_t h = 0; h < mask_test::kHeadsOut; ++h)
            for (int64_t i = 0; i < s.view.tq; ++i)
                for (int64_t j = 0; j < s.view.tk; ++j) {
                    const bool sees = visible(program, s.view, h, i, j);
                    const bool defined = in_program(definition, s.oracle, static_cast<attn_align>(align), h, i, j);
                    ASSERT_EQ(sees, defined) << "head " << h << ", query " << i << " of " << s.view.tq << ", key " << j
                                             << " of " << s.view.tk;
                    ++pairs, seen += sees;
                }
    }
    EXPECT_GT(seen, pairs / 10);
    EXPECT_LT(seen, pairs * 9 / 10);
}

TEST(MaskProgram, TilesAreWhatTheyAreSaidToBe)
{
    conformance::Random random(test_seed(), 2);
    int64_t decided = 0, decidable = 0;
    for (int round = 0; round < 3000; ++round) {
        const int64_t align = random.integer(0, 3);
        const std::string text = random_mask(mask_test::case_of(kAligns[align]), random);
        SCOPED_TRACE(text);
        const MaskProgram program = read(text, static_cast<attn_align>(align));
        const Sequence s(mask_test::draw_sequence(random, 90), program);
        const auto part = [&](int64_t count) -> Range {
            const int64_t first = random.integer(0, count - 1);
            return {first, random.integer(first, std::min(count - 1, first + 12))};
        };
        const int64_t h = random.integer(0, mask_test::kHeadsOut - 1);
        const Tile tile(program, s, {h, random.integer(h, mask_test::kHeadsOut - 1)}, part(s.view.tq), part(s.view.tk));
        const Coverage said = classify(program, tile.view), is = look(program, s, tile.view);
        if (said != Coverage::partial) {
            ASSERT_EQ(said, is);
        }
        decidable += is != Coverage::partial, decided += said != Coverage::partial;
    }
    EXPECT_GT(decided, decidable * 3 / 4) << "of " << decidable << " tiles that are all or nothing";
}

/// Tiles of 4 by 4 of 16 queries and keys, row by row: '.' skip, '+' partial, '#' full.
std::string picture(const std::string &text, attn_align diagonal = ATTN_ALIGN_NONE)
{
    const MaskProgram program = read(text, diagonal);
    conformance::Sequence definition;
    definition.tq = definition.tk = 16;
    definition.ids_q.resize(2), definition.ids_kv.resize(2);
    for (int64_t i = 0; i < 16; ++i) {
        definition.positions_q.push_back(10 * i), definition.positions_kv.push_back(10 * i);
        definition.ids_q[0].push_back(i / 8), definition.ids_kv[0].push_back(i / 8);
        definition.ids_q[1].push_back(i / 4), definition.ids_kv[1].push_back(i / 4);
    }
    const Sequence s(definition, program);
    std::string rows;
    for (int64_t i = 0; i < 16; i += 4) {
        if (i) rows += ' ';
        for (int64_t j = 0; j < 16; j += 4) {
            const Tile tile(program, s, {0, mask_test::kHeadsOut - 1}, {i, i + 3}, {j, j + 3});
            rows += ".+#"[static_cast<int>(classify(program, tile.view))];
        }
    }
    return rows;
}

TEST(MaskProgram, TilesOfEveryAtom)
{
    EXPECT_EQ(picture("causal", ATTN_TOP_LEFT), "+... #+.. ##+. ###+");
    EXPECT_EQ(picture("causal:pos"), "+... #+.. ##+. ###+");
    EXPECT_EQ(picture("causal not", ATTN_TOP_LEFT), "+### .+## ..+# ...+");
    EXPECT_EQ(picture("band:br(3,0)"), "+... ++.. .++. ..++");
    EXPECT_EQ(picture("band:pos(70,inf)"), "#### #### +### .+##");
    EXPECT_EQ(picture("prefix(6)"), "#+.. #+.. #+.. #+..");
    EXPECT_EQ(picture("first_rows(6)"), "#### ++++ .... ....");
    EXPECT_EQ(picture("last_rows(6)"), ".... .... ++++ ####");
    EXPECT_EQ(picture("vertical(2,1,4)"), ".#.# .#.# .#.# .#.#");
    EXPECT_EQ(picture("vertical(2,0,0)"), "++++ ++++ ++++ ++++");
    EXPECT_EQ(picture("pow2:tl(4)"), "#... ##.. ###. .###");
    EXPECT_EQ(picture("id_eq"), "##.. ##.. ..## ..##");
    EXPECT_EQ(picture("id_ge/1"), "#... ##.. ###. ####");
    EXPECT_EQ(picture("id_gt/1"), ".... #... ##.. ###.");
    EXPECT_EQ(picture("id_q(1) id_kv/1(2) and"), ".... .... ..#. ..#.");
    EXPECT_EQ(picture("heads(0,4)"), "#### #### #### ####");
    EXPECT_EQ(picture("heads(1,4)"), "++++ ++++ ++++ ++++");
    EXPECT_EQ(picture("heads{1|0}"), ".... .... .... ....");
    EXPECT_EQ(picture("id_eq causal:tl and"), "+... #+.. ..+. ..#+");
    EXPECT_EQ(picture("causal:tl prefix(4) or"), "#... #+.. ##+. ###+");
    EXPECT_EQ(picture("causal:tl prefix(8) or"), "##.. ##.. ##+. ###+");
}

TEST(MaskProgram, ParametersThatGrow)
{
    const MaskProgram program = read("prefix(3)+0.25 heads(0,1) and band:tl{1|0.5,-1|0.5,0.3} heads(1,4) and or");
    const auto keys = [&](int64_t h, int64_t i, int64_t tk) {
        attn::MaskSequence s;
        s.tq = tk, s.tk = tk;
        std::string row;
        for (int64_t j = 0; j < tk; ++j) row += visible(program, s, h, i, j) ? '#' : '.';
        return row;
    };
    EXPECT_EQ(keys(0, 0, 7), "####..."); // 3 + floor(1.75)
    EXPECT_EQ(keys(0, 0, 8), "#####...");
    EXPECT_EQ(keys(1, 5, 6), "..####");      // floor(0.5 + 3) before the diagonal, none after
    EXPECT_EQ(keys(2, 9, 10), ".......###"); // floor(-1 + 3)
}

TEST(MaskProgram, LimitsAtTheEndsOfIntegers)
{
    constexpr int64_t kMost = INT64_MAX, kLeast = INT64_MIN;
    const auto sees = [](const std::string &text, int64_t position_q, int64_t position_kv) {
        const MaskProgram program = read(text);
        attn::MaskSequence s;
        s.tq = s.tk = 1;
        s.positions_q = &position_q, s.positions_kv = &position_kv;
        const int64_t *ids_q[] = {&position_q}, *ids_kv[] = {&position_kv};
        s.ids_q = ids_q, s.ids_kv = ids_kv;
        return visible(program, s, 0, 0, 0);
    };
    EXPECT_TRUE(sees("band:pos(inf,inf)", kMost, kLeast));
    EXPECT_TRUE(sees("band:pos(inf,0)", kMost, kLeast));
    EXPECT_TRUE(sees("band:pos(0,inf)", kLeast, kMost));
    EXPECT_FALSE(sees("band:pos(1000,0)", kMost, kLeast));
    EXPECT_FALSE(sees("band:pos(0,1000)", kLeast, kMost));
    EXPECT_TRUE(sees("band:pos(1000,0)", kLeast + 3, kLeast));
    EXPECT_TRUE(sees("causal:pos", kMost, kMost));
    EXPECT_FALSE(sees("pow2:pos", kLeast, kMost));
    EXPECT_TRUE(sees("id_eq", kLeast, kLeast));
    EXPECT_FALSE(sees("id_gt", kLeast, kLeast));
    EXPECT_TRUE(sees("id_gt", kMost, kMost - 1));
    EXPECT_TRUE(sees("id_ge", kMost, kLeast));
    EXPECT_TRUE(sees("prefix(inf)+-0.5", 0, 0));
    EXPECT_FALSE(sees("prefix{1|-1e300}", 0, 0));
    EXPECT_TRUE(sees("prefix{1|1e300}", 0, 0));
    EXPECT_TRUE(sees("last_rows(inf) first_rows(inf) and", 0, 0));
}

TEST(MaskProgram, KnowsWhatItReads)
{
    const MaskProgram program = read("id_eq/7 id_q/3(5) or causal:pos or id_kv/9(5) or");
    ASSERT_EQ(program.pairs.size(), 3u);
    EXPECT_EQ(program.pairs[0].index, 3u);
    EXPECT_TRUE(program.pairs[0].q && !program.pairs[0].kv);
    EXPECT_EQ(program.pairs[1].index, 7u);
    EXPECT_TRUE(program.pairs[1].q && program.pairs[1].kv);
    EXPECT_EQ(program.pairs[2].index, 9u);
    EXPECT_TRUE(!program.pairs[2].q && program.pairs[2].kv);
    EXPECT_TRUE(program.by_position && !program.by_diagonal && !program.by_head);
    EXPECT_EQ(program.depth, 2);
    EXPECT_TRUE(read("causal", ATTN_TOP_LEFT).by_diagonal);
    EXPECT_FALSE(read("causal:tl", ATTN_TOP_LEFT).by_diagonal);
    EXPECT_TRUE(read("causal", ATTN_BY_POSITION).by_position);
    EXPECT_TRUE(read("heads(0,1)").by_head);
    EXPECT_TRUE(read("prefix{1|1,2}").by_head);
    EXPECT_FALSE(read("prefix{1|1}").by_head);
}

TEST(MaskProgram, TheDeepestStack)
{
    std::string text, operators;
    for (int n = 0; n < 128; ++n) {
        text += "prefix(" + std::to_string(n == 70 ? 9 : 0) + ") ";
        if (n) operators += "or ";
    }
    const MaskProgram program = read(text + operators);
    EXPECT_EQ(program.depth, 128);
    attn::MaskSequence s;
    s.tq = s.tk = 20;
    EXPECT_TRUE(visible(program, s, 0, 0, 8));
    EXPECT_FALSE(visible(program, s, 0, 0, 9));
}

} // namespace

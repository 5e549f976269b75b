// The oracle's masks, drawn: one line per query, x where the key is visible.
#include "oracle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace conformance {
namespace {

Sequence lengths(std::int64_t tq, std::int64_t tk)
{
    Sequence s;
    s.tq = tq, s.tk = tk;
    return s;
}

std::string draw(const Options &o, const Sequence &s, std::int64_t h = 0)
{
    std::string picture;
    for (std::int64_t i = 0; i < s.tq; ++i) {
        for (std::int64_t j = 0; j < s.tk; ++j) picture += visible(o, s, h, i, j) ? 'x' : '.';
        picture += i + 1 < s.tq ? " " : "";
    }
    return picture;
}

attn_term term(int op, std::initializer_list<std::int64_t> p = {}, int flags = 0, std::uint32_t axis = 0)
{
    attn_term t{};
    t.op = static_cast<std::uint16_t>(op), t.flags = static_cast<std::uint16_t>(flags), t.axis = axis;
    std::copy(p.begin(), p.end(), t.p);
    return t;
}

Options program(std::vector<attn_term> terms, attn_align align = ATTN_TOP_LEFT, std::vector<std::int64_t> grid = {})
{
    Options o;
    o.align = align;
    o.mask = MaskProgram{std::move(terms), {}, std::move(grid), {}};
    return o;
}

TEST(OracleMask, Causal)
{
    Options o;
    EXPECT_EQ(draw(o, lengths(2, 3)), "xxx xxx");
    o.causal = ATTN_TOP_LEFT;
    EXPECT_EQ(draw(o, lengths(3, 4)), "x... xx.. xxx.");
    EXPECT_EQ(draw(o, lengths(3, 2)), "x. xx xx");
    o.causal = ATTN_BOTTOM_RIGHT;
    EXPECT_EQ(draw(o, lengths(3, 4)), "xx.. xxx. xxxx");
    EXPECT_EQ(draw(o, lengths(3, 2)), ".. x. xx");
    o.causal = ATTN_BY_POSITION;
    Sequence s = lengths(2, 4);
    s.positions_q = {5, 2}, s.positions_kv = {3, 9, 5, 2};
    EXPECT_EQ(draw(o, s), "x.xx ...x");
}

TEST(OracleMask, WindowAndSinkTokens)
{
    Options o;
    o.align = ATTN_TOP_LEFT, o.window_left = 1, o.window_right = 0;
    EXPECT_EQ(draw(o, lengths(4, 4)), "x... xx.. .xx. ..xx");
    o.window_right = 1;
    EXPECT_EQ(draw(o, lengths(4, 4)), "xx.. xxx. .xxx ..xx");
    o.window_right.reset();
    EXPECT_EQ(draw(o, lengths(4, 4)), "xxxx xxxx .xxx ..xx");
    o.window_left.reset(), o.window_right = 0;
    EXPECT_EQ(draw(o, lengths(2, 4)), "x... xx..");
    o.window_left = 0, o.sink_tokens = 2; // sink tokens also of the future, unless causal
    EXPECT_EQ(draw(o, lengths(4, 4)), "xx.. xx.. xxx. xx.x");
    o.causal = ATTN_TOP_LEFT;
    EXPECT_EQ(draw(o, lengths(4, 4)), "x... xx.. xxx. xx.x");
    o.causal = ATTN_TOP_LEFT, o.align = ATTN_BOTTOM_RIGHT, o.sink_tokens = 0, o.window_left = 2;
    EXPECT_EQ(draw(o, lengths(2, 4)), "x... .x.."); // the window around key i + 2, causal around key i
}

TEST(OracleMask, Atoms)
{
    const Sequence s = lengths(4, 6);
    EXPECT_EQ(draw(program({term(ATTN_MASK_CAUSAL)}, ATTN_BOTTOM_RIGHT), s), "xxx... xxxx.. xxxxx. xxxxxx");
    EXPECT_EQ(draw(program({term(ATTN_MASK_BAND, {1, 0})}), s), "x..... xx.... .xx... ..xx..");
    EXPECT_EQ(draw(program({term(ATTN_MASK_BAND, {1, 0}, ATTN_BOTTOM_RIGHT)}), s), ".xx... ..xx.. ...xx. ....xx");
    EXPECT_EQ(draw(program({term(ATTN_MASK_PREFIX, {2})}), s), "xx.... xx.... xx.... xx....");
    EXPECT_EQ(draw(program({term(ATTN_MASK_FIRST_ROWS, {1})}), s), "xxxxxx ...... ...... ......");
    EXPECT_EQ(draw(program({term(ATTN_MASK_LAST_ROWS, {1})}), s), "...... ...... ...... xxxxxx");
    EXPECT_EQ(draw(program({term(ATTN_MASK_VERTICAL, {3, 1})}), lengths(1, 6)), "..x..x");
    EXPECT_EQ(draw(program({term(ATTN_MASK_VERTICAL, {2, 0, 2})}), lengths(1, 6)), "xx..xx");
    EXPECT_EQ(draw(program({term(ATTN_MASK_POW2, {1})}, ATTN_BOTTOM_RIGHT), lengths(1, 10)), ".x...x.xxx");
    EXPECT_EQ(draw(program({term(ATTN_MASK_HEADS, {1, 3})}), lengths(1, 2)), "..");
    EXPECT_EQ(draw(program({term(ATTN_MASK_HEADS, {1, 3})}), lengths(1, 2), 2), "xx");
}

TEST(OracleMask, OperatorsArePostfix)
{
    const attn_term causal = term(ATTN_MASK_CAUSAL), prefix = term(ATTN_MASK_PREFIX, {2});
    const attn_term last = term(ATTN_MASK_LAST_ROWS, {1});
    EXPECT_EQ(draw(program({causal, prefix, term(ATTN_OP_OR)}), lengths(3, 3)), "xx. xx. xxx");
    EXPECT_EQ(draw(program({causal, prefix, term(ATTN_OP_AND)}), lengths(3, 3)), "x.. xx. xx.");
    EXPECT_EQ(
        draw(program({causal, prefix, term(ATTN_OP_NOT), term(ATTN_OP_AND), last, term(ATTN_OP_OR)}), lengths(4, 3)),
        "... ... ..x xxx");
}

TEST(OracleMask, IdsTensorsAndTables)
{
    Sequence s = lengths(3, 4);
    s.ids_q = {{0, 1, 2}}, s.ids_kv = {{0, 1, 1, 2}};
    EXPECT_EQ(draw(program({term(ATTN_MASK_ID_EQ)}), s), "x... .xx. ...x");
    EXPECT_EQ(draw(program({term(ATTN_MASK_ID_GE)}), s), "x... xxx. xxxx");
    EXPECT_EQ(draw(program({term(ATTN_MASK_ID_GT)}), s), ".... x... xxx.");
    EXPECT_EQ(draw(program({term(ATTN_MASK_ID_Q, {1})}), s), ".... xxxx ....");
    EXPECT_EQ(draw(program({term(ATTN_MASK_ID_KV, {1})}), s), ".xx. .xx. .xx.");
    s.masks = {{1, 0, 0, 1, 1, 1}}; // two columns wide: the earlier keys are all in the set
    EXPECT_EQ(draw(program({term(ATTN_MASK_TENSOR)}), s), "xxx. xx.x xxxx");

    Options o = program({term(ATTN_MASK_BAND)});
    s = lengths(3, 4), s.heads_q = 2;
    o.mask->terms[0].table = 1;
    o.mask->tables.push_back({{1, 0, INFINITY, 0}, {}, 2, 2});
    EXPECT_EQ(draw(o, s, 0), "x... xx.. .xx.");
    EXPECT_EQ(draw(o, s, 1), "x... xx.. xxx.");
    o = program({term(ATTN_MASK_PREFIX, {1})});
    o.mask->terms[0].f = 0.5; // 1 + floor(0.5 tk)
    EXPECT_EQ(draw(o, lengths(1, 5)), "xxx..");
}

TEST(OracleMask, NeighborhoodsShiftOrCutAtBorders)
{
    const auto window = [](std::initializer_list<std::int64_t> p, int flags = 0) {
        return program({term(ATTN_MASK_GRID_WINDOW, p, flags)}, ATTN_TOP_LEFT, {6});
    };
    const Sequence s = lengths(6, 6);
    EXPECT_EQ(draw(window({3, 1, 1}), s), "xxx... xxx... .xxx.. ..xxx. ...xxx ...xxx");
    EXPECT_EQ(draw(window({3, 1, 1}, ATTN_TERM_TRUNCATE), s), "xx.... xxx... .xxx.. ..xxx. ...xxx ....xx");
    EXPECT_EQ(draw(window({2, 1, 1}), s), "xx.... xx.... .xx... ..xx.. ...xx. ....xx");
    EXPECT_EQ(draw(window({3, 1, 1}, ATTN_TERM_AXIS_CAUSAL), s), "x..... xx.... xxx... .xxx.. ..xxx. ...xxx");
    EXPECT_EQ(draw(window({2, 2, 1}), s), "x.x... .x.x.. x.x... .x.x.. ..x.x. ...x.x");
    EXPECT_EQ(draw(window({3, 1, 3}), s), "xxx... xxx... xxx... ...xxx ...xxx ...xxx");

    // Two axes of a 2 x 3 grid, then only the rows of the grid.
    const Options both = program(
        {term(ATTN_MASK_GRID_WINDOW, {1, 1, 1}, 0, 0), term(ATTN_MASK_GRID_WINDOW, {3, 1, 1}, 0, 1), term(ATTN_OP_AND)},
        ATTN_TOP_LEFT, {2, 3});
    EXPECT_EQ(draw(both, s), "xxx... xxx... xxx... ...xxx ...xxx ...xxx");
    EXPECT_EQ(draw(program({term(ATTN_MASK_SAME_AXIS, {1}, 0, 1)}, ATTN_TOP_LEFT, {2, 3}), s),
              "x..x.. .x..x. ..x..x x..x.. .x..x. ..x..x");
}

TEST(OracleMask, BiasTables)
{
    const Sequence s = lengths(200, 200);
    BiasTable t;
    t.max_distance = 2;
    EXPECT_EQ(table_entry(t, s, ATTN_TOP_LEFT, 5, 0), 0);
    EXPECT_EQ(table_entry(t, s, ATTN_TOP_LEFT, 5, 4), 1);
    EXPECT_EQ(table_entry(t, s, ATTN_TOP_LEFT, 5, 99), 4);

    // T5 with 32 buckets and distance 128, values of the reference implementation.
    t.kind = ATTN_TABLE_BUCKET, t.max_distance = 128;
    const auto buckets = [&](std::vector<std::int64_t> distances) {
        for (std::int64_t &d : distances) d = table_entry(t, s, ATTN_TOP_LEFT, 150, 150 + d);
        return distances;
    };
    using List = std::vector<std::int64_t>;
    EXPECT_EQ(buckets({0, -15, -16, -20, -40, -127, -150, 7}), (List{0, 15, 16, 17, 23, 31, 31, 0}));
    t.bidirectional = true;
    EXPECT_EQ(buckets({0, -7, -8, -150, 1, 8, 12, 49}), (List{0, 7, 8, 15, 17, 24, 25, 29}));

    t.kind = ATTN_TABLE_GRID, t.grid = {2, 3}; // 3 x 5 entries
    EXPECT_EQ(table_entry(t, s, ATTN_ALIGN_NONE, 0, 0), 1 * 5 + 2);
    EXPECT_EQ(table_entry(t, s, ATTN_ALIGN_NONE, 0, 5), 0);
    EXPECT_EQ(table_entry(t, s, ATTN_ALIGN_NONE, 5, 0), 14);
    EXPECT_EQ(table_entry(t, s, ATTN_ALIGN_NONE, 1, 3), 0 * 5 + 3);
}

} // namespace
} // namespace conformance

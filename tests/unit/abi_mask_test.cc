// Mask programs as a caller sees them: what is refused and which tensors they bring.

#include "abi_refusal.h"

#include <cmath>

namespace {

using caller::Dense;
using caller::kInvalid;
using caller::succeeds;

/// A term of a plan with its parameters, and nothing else of note.
void use(Dense &d, uint16_t op, int64_t p0 = 0, int64_t p1 = 0, int64_t p2 = 0)
{
    d.dense.mask = &d.program;
    d.term.op = op, d.term.p[0] = p0, d.term.p[1] = p1, d.term.p[2] = p2;
}

class Mask : public caller::Descriptor {};

TEST_F(Mask, Bounds)
{
    expect({
        {"no terms",
         [](Dense &d) { d.dense.mask = &d.program, d.program.term_count = 0; },
         kInvalid,
         {"attn_program.term_count = 0", "1 .. 256"}},
        {"too many",
         [](Dense &d) { d.dense.mask = &d.program, d.program.term_count = 257; },
         kInvalid,
         {"attn_program.term_count = 257", "1 .. 256"}},
        {"NULL",
         [](Dense &d) { d.dense.mask = &d.program, d.program.terms = nullptr; },
         kInvalid,
         {"attn_program.terms = NULL"}},
    });
}

TEST_F(Mask, IsValidated)
{
    expect({
        {"overflowing count",
         [](Dense &d) { d.dense.mask = &d.program, d.program.term_count = SIZE_MAX; },
         kInvalid,
         {"attn_program.term_count = 18446744073709551615"}},
        {"flags",
         [](Dense &d) { d.dense.mask = &d.program, d.program.flags = 1; },
         kInvalid,
         {"attn_program.flags = 0x1"}},
        {"op", [](Dense &d) { d.dense.mask = &d.program, d.term.op = 0x200; }, kInvalid, {"op = 0x200"}},
        {"term flags", [](Dense &d) { d.dense.mask = &d.program, d.term.flags = 1 << 9; }, kInvalid, {"flags = 0x200"}},
        {"term reserved", [](Dense &d) { d.dense.mask = &d.program, d.term.reserved = 1; }, kInvalid, {"reserved = 1"}},
        {"table of none", [](Dense &d) { d.dense.mask = &d.program, d.term.table = 1; }, kInvalid, {"table = 1"}},
        {"tables NULL",
         [](Dense &d) { d.dense.mask = &d.program, d.program.table_count = 1; },
         kInvalid,
         {"attn_program.tables = NULL"}},
        {"nothing to combine", [](Dense &d) { use(d, ATTN_OP_AND); }, kInvalid, {"op", "needs 2 sets, there are 0"}},
        {"no diagonal",
         [](Dense &d) { d.dense.mask = &d.program, d.term.op = ATTN_MASK_CAUSAL; },
         kInvalid,
         {"diagonal"}},
        {"grid < 0",
         [](Dense &d) { d.dense.mask = &d.program, d.program.grid_q[0] = -1; },
         kInvalid,
         {"attn_program.grid_q", "-1"}},
    });
}

constexpr double kValues[] = {1, 2, 0.5, INFINITY}, kSlopes[] = {0, 0.5, 1, 0}, kBad[] = {1, NAN, 1, 1};
constexpr attn_table kByHead = {kValues, kSlopes, 4, 1}, kByHeadK = {kValues, nullptr, 2, 2};

void use_table(Dense &d, uint16_t op, const attn_table &table)
{
    use(d, op);
    d.program.tables = &table, d.program.table_count = 1, d.term.table = 1;
}

TEST_F(Mask, Parameters)
{
    expect({
        {"p of causal",
         [](Dense &d) { use(d, ATTN_MASK_CAUSAL, 1), d.term.flags = ATTN_TOP_LEFT; },
         kInvalid,
         {"attn_program.terms[0].p[0] = 1", "no such parameter"}},
        {"p[1] of prefix", [](Dense &d) { use(d, ATTN_MASK_PREFIX, 3, 4); }, kInvalid, {"terms[0].p[1] = 4"}},
        {"p of an operator", [](Dense &d) { use(d, ATTN_OP_NOT, 3); }, kInvalid, {"terms[0].p[0] = 3"}},
        {"period 0", [](Dense &d) { use(d, ATTN_MASK_VERTICAL); }, kInvalid, {"terms[0].p[0] = 0", ">= 1"}},
        {"unit < 0", [](Dense &d) { use(d, ATTN_MASK_VERTICAL, 2, 0, -1); }, kInvalid, {"terms[0].p[2] = -1", ">= 0"}},
        {"period that shrinks",
         [](Dense &d) { use(d, ATTN_MASK_VERTICAL, 2), d.term.f = -1; },
         kInvalid,
         {"terms[0].f = -1", ">= 0"}},
        {"f not finite", [](Dense &d) { use(d, ATTN_MASK_PREFIX), d.term.f = INFINITY; }, kInvalid, {"f = inf"}},
        {"nothing that grows",
         [](Dense &d) { use(d, ATTN_MASK_ID_EQ), d.term.f = 0.5; },
         kInvalid,
         {"terms[0].f = 0.5", "no parameter that could grow"}},
        {"axis of prefix", [](Dense &d) { use(d, ATTN_MASK_PREFIX), d.term.axis = 2; }, kInvalid, {"axis = 2"}},
        {"align of prefix",
         [](Dense &d) { use(d, ATTN_MASK_PREFIX), d.term.flags = ATTN_TOP_LEFT; },
         kInvalid,
         {"terms[0].flags = 0x1", "ATTN_MASK_PREFIX"}},
        {"flags of grids",
         [](Dense &d) { use(d, ATTN_MASK_PREFIX), d.term.flags = ATTN_TERM_TRUNCATE; },
         kInvalid,
         {"terms[0].flags = 0x8", "ATTN_MASK_PREFIX"}},
        {"grid of none",
         [](Dense &d) { use(d, ATTN_MASK_PREFIX), d.program.grid_q[0] = 4; },
         kInvalid,
         {"attn_program.grid_q", "no term"}},
        {"align of none",
         [](Dense &d) { use(d, ATTN_MASK_PREFIX), d.dense.align = ATTN_TOP_LEFT; },
         kInvalid,
         {"attn_dense.align = top_left"}},
        {"align of its own",
         [](Dense &d) { use(d, ATTN_MASK_CAUSAL), d.term.flags = ATTN_BOTTOM_RIGHT, d.dense.align = ATTN_TOP_LEFT; },
         kInvalid,
         {"attn_dense.align = top_left"}},
    });
    expect_valid("align", [](Dense &d) { use(d, ATTN_MASK_CAUSAL), d.dense.align = ATTN_TOP_LEFT; });
    expect_valid("own align", [](Dense &d) { use(d, ATTN_MASK_BAND, 3, -2), d.term.flags = ATTN_BOTTOM_RIGHT; });
    expect_valid("no limit", [](Dense &d) { use(d, ATTN_MASK_FIRST_ROWS, ATTN_UNBOUNDED), d.term.f = -0.25; });
    expect_valid("vertical", [](Dense &d) { use(d, ATTN_MASK_VERTICAL, 3, -7, 64), d.term.f = 0.25; });
}

TEST_F(Mask, Tables)
{
    static constexpr attn_table kRows = {kValues, nullptr, 3, 1}, kColumns = {kValues, nullptr, 1, 3};
    static constexpr attn_table kNoValues = {nullptr, nullptr, 4, 1}, kNan = {kBad, nullptr, 4, 1};
    static constexpr attn_table kSteep = {kValues, kBad, 4, 1}, kNone = {kValues, nullptr, 0, 1};
    expect({
        {"rows",
         [](Dense &d) { use_table(d, ATTN_MASK_PREFIX, kRows); },
         kInvalid,
         {"tables[0].rows = 3", "1", "2", "4"}},
        {"no rows", [](Dense &d) { use_table(d, ATTN_MASK_PREFIX, kNone); }, kInvalid, {"tables[0].rows = 0"}},
        {"columns",
         [](Dense &d) { use_table(d, ATTN_MASK_PREFIX, kColumns); },
         kInvalid,
         {"tables[0].columns = 3", "1 .. 1"}},
        {"values", [](Dense &d) { use_table(d, ATTN_MASK_PREFIX, kNoValues); }, kInvalid, {"tables[0].values = NULL"}},
        {"NaN", [](Dense &d) { use_table(d, ATTN_MASK_PREFIX, kNan); }, kInvalid, {"tables[0].values[1] = "}},
        {"slope", [](Dense &d) { use_table(d, ATTN_MASK_PREFIX, kSteep); }, kInvalid, {"tables[0].slopes[1] = "}},
        {"period",
         [](Dense &d) { use_table(d, ATTN_MASK_VERTICAL, kByHead); },
         kInvalid,
         {"tables[0].values[2] = 0.5", ">= 1"}},
        {"of causal",
         [](Dense &d) { use_table(d, ATTN_MASK_CAUSAL, kByHead), d.term.flags = ATTN_TOP_LEFT; },
         kInvalid,
         {"terms[0].table = 1", "ATTN_MASK_CAUSAL"}},
        {"and p",
         [](Dense &d) { use_table(d, ATTN_MASK_PREFIX, kByHead), d.term.p[0] = 2; },
         kInvalid,
         {"p[0] = 2", "table"}},
        {"and f",
         [](Dense &d) { use_table(d, ATTN_MASK_PREFIX, kByHead), d.term.f = 2; },
         kInvalid,
         {"f = 2", "table"}},
        {"members", [](Dense &d) { use_table(d, ATTN_MASK_HEADS, kByHead); }, kInvalid, {"tables[0].slopes", "HEADS"}},
        {"not used",
         [](Dense &d) { use_table(d, ATTN_MASK_PREFIX, kByHead), d.term.table = 0; },
         kInvalid,
         {"attn_program.tables[0]", "no term"}},
        {"too many",
         [](Dense &d) { use_table(d, ATTN_MASK_PREFIX, kByHead), d.program.table_count = 2; },
         kInvalid,
         {"attn_program.table_count = 2", "term_count = 1"}},
    });
    expect_valid("by head", [](Dense &d) { use_table(d, ATTN_MASK_PREFIX, kByHead); });
    expect_valid("by head of K",
                 [](Dense &d) { use_table(d, ATTN_MASK_BAND, kByHeadK), d.term.flags = ATTN_TOP_LEFT; });
}

TEST_F(Mask, Ids)
{
    expect({
        {"not read",
         [](Dense &d) { d.bind(ATTN_SLOT_IDS_Q); },
         kInvalid,
         {"attn_problem.binds[1].slot = IDS_Q, index 0", "attn_dense.mask"}},
        {"of another pair",
         [](Dense &d) { use(d, ATTN_MASK_ID_EQ), d.bind(ATTN_SLOT_IDS_KV, ATTN_INT64, 0, 1); },
         kInvalid,
         {"slot = IDS_KV, index 1", "attn_dense.mask"}},
        {"of keys alone",
         [](Dense &d) { use(d, ATTN_MASK_ID_KV, 4), d.bind(ATTN_SLOT_IDS_Q, ATTN_INT64); },
         kInvalid,
         {"slot = IDS_Q, index 0"}},
        {"dtype",
         [](Dense &d) { use(d, ATTN_MASK_ID_EQ), d.bind(ATTN_SLOT_IDS_Q, ATTN_FLOAT32); },
         kInvalid,
         {"attn_bind.dtype = float32", "IDS_Q", "int32 or int64"}},
        {"broadcast",
         [](Dense &d) { use(d, ATTN_MASK_ID_EQ), d.bind(ATTN_SLOT_IDS_Q, 0, ATTN_BIND_BROADCAST_AXIS0); },
         kInvalid,
         {"IDS_Q", "cannot be broadcast"}},
    });
}

TEST_F(Mask, SlotsOfAPlan)
{
    attn_term terms[3] = {};
    terms[0].op = ATTN_MASK_ID_GE, terms[0].axis = 4;
    terms[1].op = ATTN_MASK_CAUSAL, terms[1].flags = ATTN_BY_POSITION;
    terms[2].op = ATTN_OP_AND;
    Dense d;
    d.dense.mask = &d.program, d.program.terms = terms, d.program.term_count = 3;
    d.bind(ATTN_SLOT_IDS_KV, ATTN_INT64, 0, 4);
    const caller::Plan plan(handle_, d);
    std::vector<std::string> slots;
    attn_bind bind;
    attn_tensor bounds;
    for (size_t position = 0; attn_plan_slot(plan, position, &bind, &bounds) == ATTN_OK; ++position) {
        if (bind.slot < ATTN_SLOT_IDS_Q) continue;
        EXPECT_EQ(bounds.ndim, 2);
        slots.push_back(std::to_string(bind.slot) + "/" + std::to_string(bind.index) +
                        (bounds.dtype == ATTN_INT64 ? " int64 [" : " int32 [") + std::to_string(bounds.shape[0]) + "," +
                        std::to_string(bounds.shape[1]) + "]");
    }
    EXPECT_EQ(slots, (std::vector<std::string>{"50/0 int32 [2,4]", "51/0 int32 [2,6]", "48/4 int32 [2,4]",
                                               "49/4 int64 [2,6]"}));
}

TEST_F(Mask, Description)
{
    attn_term terms[3] = {};
    terms[0].op = ATTN_MASK_BAND, terms[0].flags = ATTN_BOTTOM_RIGHT, terms[0].table = 1, terms[0].p[1] = 7;
    terms[1].op = ATTN_MASK_PREFIX, terms[1].p[0] = 3, terms[1].f = 0.25;
    terms[2].op = ATTN_OP_OR;
    Dense d;
    d.dense.mask = &d.program, d.program.terms = terms, d.program.term_count = 3;
    d.program.tables = &kByHead, d.program.table_count = 1;
    const caller::Plan plan(handle_, d);
    char text[8192];
    ASSERT_TRUE(succeeds(attn_plan_describe(plan, text, sizeof text, nullptr)));
    EXPECT_NE(std::string(text).find(
                  R"("mask":[{"op":"band","align":"bottom_right","p":[0,7],"columns":1,"values":[1,2,0.5,null],)"
                  R"("slopes":[0,0.5,1,0]},{"op":"prefix","p":[3],"f":0.25},{"op":"or"}])"),
              std::string::npos)
        << text;
}

} // namespace

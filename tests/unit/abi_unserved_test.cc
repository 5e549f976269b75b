// What is valid but has no kernel yet is refused by name, by planning and by attn_plan_supports() alike; what is
// invalid is so whether a kernel serves it or not.

#include "abi_refusal.h"

namespace {

using caller::Dense;
using caller::fails;
using caller::kInvalid;
using caller::kUnsupported;
using caller::zeroed;

class Unserved : public caller::Descriptor {};

TEST_F(Unserved, Options)
{
    expect({
        {"backward",
         [](Dense &d) { d.problem.direction = ATTN_BACKWARD; },
         kUnsupported,
         {"cpu", "attn_problem.direction = backward"}},
        {"jvp", [](Dense &d) { d.problem.direction = ATTN_JVP; }, kUnsupported, {"attn_problem.direction = jvp"}},
        {"grid window",
         [](Dense &d) { d.dense.mask = &d.program, d.term.op = ATTN_MASK_GRID_WINDOW, d.term.flags = 12; },
         kUnsupported,
         {"attn_dense.mask: ATTN_MASK_GRID_WINDOW"}},
        {"same axis",
         [](Dense &d) { d.dense.mask = &d.program, d.term.op = ATTN_MASK_SAME_AXIS; },
         kUnsupported,
         {"attn_dense.mask: ATTN_MASK_SAME_AXIS"}},
        {"mask tensor",
         [](Dense &d) { d.dense.mask = &d.program, d.term.op = ATTN_MASK_TENSOR, d.bind(ATTN_SLOT_MASK); },
         kUnsupported,
         {"attn_dense.mask: ATTN_MASK_TENSOR", "slot MASK"}},
        {"device table",
         [](Dense &d) { d.dense.mask = &d.program, d.term.flags = ATTN_TERM_DEVICE_TABLE, d.term.table = 9; },
         kUnsupported,
         {"attn_dense.mask: ATTN_TERM_DEVICE_TABLE"}},
        {"rope", [](Dense &d) { d.dense.rope = &d.rope; }, kUnsupported, {"attn_dense.rope"}},
        {"two at once",
         [](Dense &d) { d.bind(ATTN_SLOT_ROPE_COS), d.dense.rope = &d.rope; },
         kUnsupported,
         {"attn_dense.rope", "slot ROPE_COS"}},
        {"dim_qk",
         [](Dense &d) { d.problem.dim_qk = 1025; },
         kUnsupported,
         {"attn_problem.dim_qk = 1025", "1 .. 1024"}},
        {"dim_v", [](Dense &d) { d.problem.dim_v = 1 << 20; }, kUnsupported, {"attn_problem.dim_v = 1048576"}},
    });
    expect_valid("the largest heads", [](Dense &d) { d.problem.dim_qk = d.problem.dim_v = 1024; });
}

TEST_F(Unserved, NotThese)
{
    expect_valid("V in K", [](Dense &d) { d.problem.flags = ATTN_V_ALIASES_K; });
    expect_valid("sigmoid",
                 [](Dense &d) { d.binds.clear(), d.dense.activation = ATTN_SIGMOID, d.dense.activation_bias = -2; });
    expect_valid("relu",
                 [](Dense &d) { d.binds.clear(), d.dense.activation = ATTN_RELU, d.dense.activation_length = 6; });
    expect_valid("bias_rank", [](Dense &d) { d.dense.bias_rank = 4; });
    expect_valid("mask", [](Dense &d) { d.dense.mask = &d.program; });
    expect_valid("bias_table", [](Dense &d) { d.dense.bias_table = &d.table, d.dense.align = ATTN_TOP_LEFT; });
    expect_valid("gate", [](Dense &d) { d.bind(ATTN_SLOT_GATE), d.dense.gate = ATTN_GATE_LINEAR; });
    expect_valid("bias", [](Dense &d) { d.bind(ATTN_SLOT_BIAS), d.dense.bias_stage = 1, d.dense.softcap = 20; });
    expect_valid("alibi", [](Dense &d) { d.bind(ATTN_SLOT_ALIBI_SLOPES), d.dense.align = ATTN_BOTTOM_RIGHT; });
    for (const attn_slot slot :
         {ATTN_SLOT_BIAS, ATTN_SLOT_SINK_LOGITS, ATTN_SLOT_Q_TEMPERATURE, ATTN_SLOT_V_TEMPERATURE, ATTN_SLOT_GATE,
          ATTN_SLOT_HEAD_WEIGHT, ATTN_SLOT_ROW_MAX, ATTN_SLOT_ROW_ENTROPY, ATTN_SLOT_COLUMN_MASS}) {
        Dense d;
        d.bind(slot);
        EXPECT_EQ(attn_plan_supports(handle_, ATTN_KIND_DENSE, d.get()), ATTN_OK) << attn_last_error();
    }
}

TEST_F(Unserved, OptionsOutOfPlace)
{
    expect({
        {"lse of sigmoid",
         [](Dense &d) { d.dense.activation = ATTN_SIGMOID; },
         kInvalid,
         {"attn_dense.activation = sigmoid", "LSE"}},
        {"sinks of relu",
         [](Dense &d) { d.binds.clear(), d.dense.activation = ATTN_RELU, d.bind(ATTN_SLOT_SINK_LOGITS); },
         kInvalid,
         {"attn_dense.activation = relu", "SINK_LOGITS"}},
        {"table without its field",
         [](Dense &d) { d.bind(ATTN_SLOT_BIAS_TABLE); },
         kInvalid,
         {"attn_dense.bias_table"}},
        {"factors without rank", [](Dense &d) { d.bind(ATTN_SLOT_BIAS_LOWRANK_K); }, kInvalid, {"bias_rank"}},
        {"alibi without diagonal",
         [](Dense &d) { d.bind(ATTN_SLOT_ALIBI_SLOPES); },
         kInvalid,
         {"attn_dense.align = 0"}},
        {"table without diagonal", [](Dense &d) { d.dense.bias_table = &d.table; }, kInvalid, {"attn_dense.align = 0"}},
        {"aliased V bound",
         [](Dense &d) { d.problem.flags = ATTN_V_ALIASES_K, d.bind(ATTN_SLOT_V); },
         kInvalid,
         {"slot = V", "aliases K"}},
        {"aliased V too wide",
         [](Dense &d) { d.problem.flags = ATTN_V_ALIASES_K, d.problem.dim_v = d.problem.dim_qk + 1; },
         kInvalid,
         {"attn_problem.dim_v = ", "dim_qk"}},
        {"gate dtype",
         [](Dense &d) { d.bind(ATTN_SLOT_GATE), d.binds.back().dtype = ATTN_INT32; },
         kInvalid,
         {"attn_bind.dtype = int32", "GATE"}},
        {"broadcast beyond the rank",
         [](Dense &d) { d.bind(ATTN_SLOT_SINK_LOGITS), d.binds.back().flags = ATTN_BIND_BROADCAST_AXIS1; },
         kInvalid,
         {"attn_bind.flags = 0x2", "SINK_LOGITS", "rank"}},
    });
}

TEST_F(Unserved, Slots)
{
    const struct {
        attn_slot slot;
        const char *name;
    } slots[] = {{ATTN_SLOT_MASK_TABLE, "slot MASK_TABLE"},
                 {ATTN_SLOT_MASK, "slot MASK"},
                 {ATTN_SLOT_ROPE_COS, "slot ROPE_COS"},
                 {ATTN_SLOT_ROPE_SIN, "slot ROPE_SIN"},
                 {ATTN_SLOT_STATUS, "slot STATUS"},
                 {ATTN_SLOT_RNG, "slot RNG"},
                 {ATTN_SLOT_GRAD | ATTN_SLOT_Q, "slot GRAD|Q"},
                 {ATTN_SLOT_TANGENT | ATTN_SLOT_OUT, "slot TANGENT|OUT"},
                 {ATTN_SLOT_SCALE | ATTN_SLOT_K, "slot SCALE|K"},
                 {ATTN_SLOT_ZERO_POINT | ATTN_SLOT_V, "slot ZERO_POINT|V"}};
    for (const auto &slot : slots) {
        SCOPED_TRACE(slot.name);
        Dense d;
        d.bind(slot.slot);
        attn_plan plan = nullptr;
        EXPECT_TRUE(fails(attn_plan_dense(handle_, d.get(), &plan), kUnsupported, {"attn_dense", "cpu", slot.name}));
        EXPECT_EQ(plan, nullptr);
        const std::string message = attn_last_error();
        EXPECT_EQ(attn_plan_supports(handle_, ATTN_KIND_DENSE, d.get()), kUnsupported);
        EXPECT_EQ(attn_last_error(), message);
    }
}

TEST_F(Unserved, RopeIsValidated)
{
    expect({
        {"flags", [](Dense &d) { d.dense.rope = &d.rope, d.rope.flags = 1; }, kInvalid, {"attn_rope.flags = 0x1"}},
        {"layout", [](Dense &d) { d.dense.rope = &d.rope, d.rope.layout = 2; }, kInvalid, {"attn_rope.layout = 2"}},
        {"source", [](Dense &d) { d.dense.rope = &d.rope, d.rope.source = -1; }, kInvalid, {"attn_rope.source = -1"}},
        {"dim < 0", [](Dense &d) { d.dense.rope = &d.rope, d.rope.dim = -2; }, kInvalid, {"attn_rope.dim = -2"}},
        {"dim odd", [](Dense &d) { d.dense.rope = &d.rope, d.rope.dim = 3; }, kInvalid, {"attn_rope.dim = 3", "even"}},
        {"beyond", [](Dense &d) { d.dense.rope = &d.rope, d.rope.first = 4; }, kInvalid, {"attn_rope.first = 4"}},
        {"base", [](Dense &d) { d.dense.rope = &d.rope, d.rope.base = -1; }, kInvalid, {"attn_rope.base = -1"}},
    });
}

TEST_F(Unserved, BiasTableIsValidated)
{
    expect({
        {"kind",
         [](Dense &d) { d.dense.bias_table = &d.table, d.table.kind = 3; },
         kInvalid,
         {"attn_bias_table.kind = 3"}},
        {"bidirectional",
         [](Dense &d) { d.dense.bias_table = &d.table, d.table.bidirectional = 1; },
         kInvalid,
         {"attn_bias_table.bidirectional = 1"}},
        {"buckets",
         [](Dense &d) { d.dense.bias_table = &d.table, d.table.buckets = -1; },
         kInvalid,
         {"attn_bias_table.buckets = -1"}},
        {"max_distance",
         [](Dense &d) { d.dense.bias_table = &d.table, d.table.max_distance = -1; },
         kInvalid,
         {"attn_bias_table.max_distance = -1"}},
        {"grid",
         [](Dense &d) { d.dense.bias_table = &d.table, d.table.grid[0] = 7; },
         kInvalid,
         {"attn_bias_table.grid"}},
    });
}

TEST_F(Unserved, ScaleBlocksAreValidated)
{
    expect({{"block < 0",
             [](Dense &d) {
                 d.bind(ATTN_SLOT_SCALE | ATTN_SLOT_K);
                 d.binds.back().block[1] = -16;
             },
             kInvalid,
             {"attn_problem.binds[1].block = -16"}}});
}

/// Merge and append: what is invalid.
class OtherKinds : public ::testing::Test {
protected:
    OtherKinds()
    {
        merge_problem_.q_dtype = ATTN_FLOAT32, merge_problem_.heads_q = 4, merge_problem_.dim_v = 8;
        merge_problem_.max_q = 4;
    }
    void merge(const char *name, void (*change)(attn_merge &), const caller::Parts &parts)
    {
        SCOPED_TRACE(name);
        attn_merge merge = zeroed<attn_merge>();
        merge.problem = &merge_problem_, merge.parts = 2;
        change(merge);
        attn_plan plan = nullptr;
        EXPECT_TRUE(fails(attn_plan_merge(handle_, &merge, &plan), kInvalid, parts));
        EXPECT_EQ(plan, nullptr);
        EXPECT_TRUE(fails(attn_plan_supports(handle_, ATTN_KIND_MERGE, &merge), kInvalid, parts));
    }
    void append(const char *name, void (*change)(attn_append &), const caller::Parts &parts)
    {
        SCOPED_TRACE(name);
        attn_append append = zeroed<attn_append>();
        append.problem = &desc_.problem;
        change(append);
        attn_plan plan = nullptr;
        EXPECT_TRUE(fails(attn_plan_append(handle_, &append, &plan), kInvalid, parts));
        EXPECT_EQ(plan, nullptr);
        EXPECT_TRUE(fails(attn_plan_supports(handle_, ATTN_KIND_APPEND, &append), kInvalid, parts));
    }

    caller::Handle handle_;
    Dense desc_;
    attn_problem merge_problem_ = zeroed<attn_problem>();
};

TEST_F(OtherKinds, Merge)
{
    merge("problem", [](attn_merge &m) { m.problem = nullptr; }, {"attn_merge.problem = NULL"});
    merge("parts", [](attn_merge &m) { m.parts = 0; }, {"attn_merge.parts = 0"});
    merge("flags", [](attn_merge &m) { m.flags = 1; }, {"attn_merge.flags = 0x1"});
    merge("activation", [](attn_merge &m) { m.activation = 3; }, {"attn_merge.activation = 3"});
    merge("gate", [](attn_merge &m) { m.gate = -1; }, {"attn_merge.gate = -1"});
    merge("gate of none", [](attn_merge &m) { m.gate = ATTN_GATE_SILU; }, {"attn_merge.gate = 2", "GATE"});
}

TEST_F(OtherKinds, Append)
{
    append("problem", [](attn_append &a) { a.problem = nullptr; }, {"attn_append.problem = NULL"});
    append("flags", [](attn_append &a) { a.flags = 4; }, {"attn_append.flags = 0x4"});
    append("ring_rows", [](attn_append &a) { a.ring_rows = -1; }, {"attn_append.ring_rows = -1"});
    append("sink_tokens", [](attn_append &a) { a.sink_tokens = INT64_MAX; }, {"attn_append.sink_tokens = "});
    append("sinks of no ring", [](attn_append &a) { a.sink_tokens = 4; }, {"attn_append.sink_tokens = 4", "ring"});
}

TEST_F(OtherKinds, ProblemIsValidated)
{
    desc_.problem.q_dtype = merge_problem_.q_dtype = 0x42;
    merge("dtype", [](attn_merge &) {}, {"attn_problem.q_dtype = 0x000042"});
    append("dtype", [](attn_append &) {}, {"attn_problem.q_dtype = 0x000042"});
    desc_.problem.q_dtype = merge_problem_.q_dtype = ATTN_FLOAT32;
    desc_.problem.max_q = merge_problem_.max_q = -1;
    merge("max_q", [](attn_merge &) {}, {"attn_problem.max_q = -1"});
    append("max_q", [](attn_append &) {}, {"attn_problem.max_q = -1"});
}

TEST_F(OtherKinds, FieldsTheyDoNotNeed)
{
    attn_append append = zeroed<attn_append>();
    append.problem = &desc_.problem;
    desc_.problem.heads_q = 0; // required, except for append
    EXPECT_EQ(attn_plan_supports(handle_, ATTN_KIND_APPEND, &append), ATTN_OK) << attn_last_error();
    attn_plan plan = nullptr;
    ASSERT_EQ(attn_plan_append(handle_, &append, &plan), ATTN_OK) << attn_last_error();
    attn_plan_destroy(plan);
    attn_merge merge = zeroed<attn_merge>(); // without dim_qk
    merge.problem = &merge_problem_, merge.parts = 2;
    ASSERT_EQ(attn_plan_merge(handle_, &merge, &plan), ATTN_OK) << attn_last_error();
    attn_plan_destroy(plan);
}

TEST_F(OtherKinds, UnknownKind)
{
    for (const attn_kind kind : {0, 4, -1, INT32_MAX}) {
        const std::string value = "kind = " + std::to_string(kind);
        EXPECT_TRUE(fails(attn_plan_supports(handle_, kind, desc_.get()), kInvalid, {value.c_str(), "attn_kind"}));
    }
}

} // namespace

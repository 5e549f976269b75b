// Fields that belong to a mode are refused where the mode is not in use; so are binds that a plan does not take.

#include "abi_refusal.h"

namespace {

using caller::Dense;
using caller::fails;
using caller::kInvalid;
using caller::succeeds;

class Modes : public caller::Descriptor {};
class Binds : public caller::Descriptor {};

TEST_F(Modes, Window)
{
    expect({
        {"left without flag",
         [](Dense &d) { d.dense.causal = ATTN_TOP_LEFT, d.dense.window_left = 2; },
         kInvalid,
         {"attn_dense.window_left = 2", "must be 0 unless", "ATTN_WINDOW_LEFT"}},
        {"right without flag",
         [](Dense &d) { d.dense.align = ATTN_TOP_LEFT, d.dense.window_right = 3; },
         kInvalid,
         {"attn_dense.window_right = 3", "must be 0 unless", "ATTN_WINDOW_RIGHT"}},
        {"left < 0",
         [](Dense &d) { d.dense.flags = ATTN_WINDOW_LEFT, d.dense.window_left = -1; },
         kInvalid,
         {"attn_dense.window_left = -1", ">= 0", "clear its flag"}},
        {"right < 0",
         [](Dense &d) { d.dense.flags = ATTN_WINDOW_RIGHT, d.dense.window_right = INT64_MIN; },
         kInvalid,
         {"attn_dense.window_right = -9223372036854775808", ">= 0"}},
        {"left < 0 without flag",
         [](Dense &d) { d.dense.window_left = -1; },
         kInvalid,
         {"attn_dense.window_left = -1"}},
        {"no diagonal",
         [](Dense &d) { d.dense.flags = ATTN_WINDOW_LEFT, d.dense.window_left = 2; },
         kInvalid,
         {"attn_dense.align = 0", "window needs a diagonal"}},
        {"sink_tokens < 0",
         [](Dense &d) { d.dense.causal = 1, d.dense.flags = ATTN_WINDOW_LEFT, d.dense.sink_tokens = -4; },
         kInvalid,
         {"attn_dense.sink_tokens = -4", ">= 0"}},
        {"sink_tokens alone",
         [](Dense &d) { d.dense.causal = 1, d.dense.sink_tokens = 4; },
         kInvalid,
         {"attn_dense.sink_tokens = 4", "must be 0 without a window"}},
    });
    expect_valid("window of the diagonal alone", [](Dense &d) {
        d.dense.align = ATTN_BOTTOM_RIGHT, d.dense.flags = ATTN_WINDOW_LEFT | ATTN_WINDOW_RIGHT;
    });
    expect_valid("unbounded window", [](Dense &d) {
        d.dense.align = ATTN_TOP_LEFT, d.dense.flags = ATTN_WINDOW_LEFT;
        d.dense.window_left = ATTN_UNBOUNDED, d.dense.sink_tokens = ATTN_UNBOUNDED;
    });
}

TEST_F(Modes, Diagonal)
{
    expect({
        {"align alone",
         [](Dense &d) { d.dense.align = ATTN_TOP_LEFT; },
         kInvalid,
         {"attn_dense.align = top_left", "must be 0 where no window"}},
        {"align by position alone",
         [](Dense &d) { d.dense.align = ATTN_BY_POSITION; },
         kInvalid,
         {"attn_dense.align = by_position", "must be 0"}},
        {"two diagonals",
         [](Dense &d) { d.dense.causal = ATTN_TOP_LEFT, d.dense.align = ATTN_BOTTOM_RIGHT; },
         kInvalid,
         {"attn_dense.align = bottom_right", "top_left"}},
    });
    expect_valid("the same diagonal twice",
                 [](Dense &d) { d.dense.causal = ATTN_BOTTOM_RIGHT, d.dense.align = ATTN_BOTTOM_RIGHT; });
}

TEST_F(Modes, Companions)
{
    expect({
        {"gate",
         [](Dense &d) { d.dense.gate = ATTN_GATE_SILU; },
         kInvalid,
         {"attn_dense.gate = 2", "GATE", "not bound"}},
        {"bias_stage",
         [](Dense &d) { d.dense.bias_stage = ATTN_BIAS_PRE_SOFTCAP; },
         kInvalid,
         {"attn_dense.bias_stage = 1", "no bias"}},
        {"activation_bias",
         [](Dense &d) { d.dense.activation_bias = 0.5; },
         kInvalid,
         {"attn_dense.activation_bias = 0.5", "must be 0 unless", "ATTN_SIGMOID"}},
        {"activation_bias of relu",
         [](Dense &d) { d.dense.activation = ATTN_RELU, d.dense.activation_bias = -1; },
         kInvalid,
         {"attn_dense.activation_bias = -1"}},
        {"activation_length",
         [](Dense &d) { d.dense.activation_length = 6; },
         kInvalid,
         {"attn_dense.activation_length = 6", "must be 0 unless", "ATTN_RELU"}},
        {"activation_length of sigmoid",
         [](Dense &d) { d.dense.activation = ATTN_SIGMOID, d.dense.activation_length = 6; },
         kInvalid,
         {"attn_dense.activation_length = 6"}},
    });
}

TEST_F(Modes, PackedAndPaged)
{
    expect({
        {"total_q",
         [](Dense &d) { d.problem.total_q = 8; },
         kInvalid,
         {"attn_problem.total_q = 8", "must be 0 where", "CU_SEQLENS_Q"}},
        {"total_kv",
         [](Dense &d) { d.problem.total_kv = 12; },
         kInvalid,
         {"attn_problem.total_kv = 12", "must be 0 where", "CU_SEQLENS_KV"}},
        {"total_kv, Q packed",
         [](Dense &d) { d.bind(ATTN_SLOT_CU_SEQLENS_Q), d.problem.total_kv = 12; },
         kInvalid,
         {"attn_problem.total_kv = 12"}},
        {"total_kv, paged",
         [](Dense &d) { d.problem.page_size = 2, d.problem.total_kv = 12; },
         kInvalid,
         {"attn_problem.total_kv = 12"}},
        {"packed and paged",
         [](Dense &d) { d.problem.page_size = 16, d.bind(ATTN_SLOT_CU_SEQLENS_KV); },
         kInvalid,
         {"attn_problem.page_size = 16", "CU_SEQLENS_KV", "packed or paged"}},
        {"table ranges without pages",
         [](Dense &d) { d.bind(ATTN_SLOT_BLOCK_TABLE_PTR); },
         kInvalid,
         {"attn_problem.page_size = 0", "BLOCK_TABLE_PTR", ">= 1"}},
        {"table without pages",
         [](Dense &d) { d.bind(ATTN_SLOT_BLOCK_TABLE); },
         kInvalid,
         {"attn_problem.binds[1].slot = BLOCK_TABLE", "page_size"}},
        {"positions without alignment",
         [](Dense &d) { d.bind(ATTN_SLOT_POSITIONS_Q); },
         kInvalid,
         {"attn_problem.binds[1].slot = POSITIONS_Q", "ATTN_BY_POSITION"}},
        {"key positions, other alignment",
         [](Dense &d) { d.dense.causal = 1, d.bind(ATTN_SLOT_POSITIONS_KV); },
         kInvalid,
         {"attn_problem.binds[1].slot = POSITIONS_KV", "ATTN_BY_POSITION"}},
    });
    expect_valid("packed", [](Dense &d) {
        d.bind(ATTN_SLOT_CU_SEQLENS_Q), d.bind(ATTN_SLOT_CU_SEQLENS_KV, ATTN_INT64);
        d.problem.total_q = 5, d.problem.total_kv = 7;
    });
    expect_valid("paged, flat table", [](Dense &d) {
        d.problem.page_size = 2, d.bind(ATTN_SLOT_BLOCK_TABLE_PTR), d.bind(ATTN_SLOT_BLOCK_TABLE, ATTN_INT64);
    });
}

TEST_F(Binds, Array)
{
    expect({
        {"NULL",
         [](Dense &d) { d.links_binds = false, d.problem.bind_count = 2; },
         kInvalid,
         {"attn_problem.binds = NULL", "bind_count = 2"}},
        {"too many",
         [](Dense &d) { d.links_binds = false, d.problem.binds = d.binds.data(), d.problem.bind_count = 257; },
         kInvalid,
         {"attn_problem.bind_count = 257", "at most 256"}},
        {"overflowing",
         [](Dense &d) { d.links_binds = false, d.problem.binds = d.binds.data(), d.problem.bind_count = SIZE_MAX; },
         kInvalid,
         {"attn_problem.bind_count = 18446744073709551615"}},
        {"twice",
         [](Dense &d) { d.bind(ATTN_SLOT_LSE); },
         kInvalid,
         {"attn_problem.binds[1]", "slot LSE index 0", "twice"}},
        {"twice, index 3",
         [](Dense &d) { d.bind(ATTN_SLOT_IDS_Q, 0, 0, 3), d.bind(ATTN_SLOT_IDS_Q, 0, 0, 3); },
         kInvalid,
         {"attn_problem.binds[2]", "slot IDS_Q index 3", "twice"}},
    });
}

TEST_F(Binds, Slots)
{
    expect({
        {"slot 0", [](Dense &d) { d.bind(0); }, kInvalid, {"attn_problem.binds[1].slot = 0x0", "attn_slot"}},
        {"reserved range", [](Dense &d) { d.bind(0x40); }, kInvalid, {"binds[1].slot = 0x40", "attn_slot"}},
        {"negative", [](Dense &d) { d.bind(-1); }, kInvalid, {"binds[1].slot = 0xffffffff", "attn_slot"}},
        {"two derivations",
         [](Dense &d) { d.bind(ATTN_SLOT_GRAD | ATTN_SLOT_SCALE | ATTN_SLOT_K); },
         kInvalid,
         {"binds[1].slot = 0x5002", "attn_slot"}},
        {"derived of nothing", [](Dense &d) { d.bind(ATTN_SLOT_GRAD); }, kInvalid, {"binds[1].slot = 0x1000"}},
        {"merge",
         [](Dense &d) { d.bind(ATTN_SLOT_PARTIAL_OUT); },
         kInvalid,
         {"attn_problem.binds[1].slot = PARTIAL_OUT", "does not take it"}},
        {"merge, LSE", [](Dense &d) { d.bind(ATTN_SLOT_PARTIAL_LSE); }, kInvalid, {"slot = PARTIAL_LSE"}},
        {"append", [](Dense &d) { d.bind(ATTN_SLOT_K_CACHE); }, kInvalid, {"slot = K_CACHE", "does not take it"}},
        {"append, V", [](Dense &d) { d.bind(ATTN_SLOT_V_CACHE); }, kInvalid, {"slot = V_CACHE", "does not take it"}},
        {"append, rows", [](Dense &d) { d.bind(ATTN_SLOT_SLOT_MAPPING); }, kInvalid, {"slot = SLOT_MAPPING"}},
        {"index of Q",
         [](Dense &d) { d.bind(ATTN_SLOT_Q, 0, 0, 1); },
         kInvalid,
         {"attn_problem.binds[1].index = 1", "slot Q has index 0 only"}},
        {"index of LSE",
         [](Dense &d) { d.bind(ATTN_SLOT_LSE, 0, 0, 0xffffffff); },
         kInvalid,
         {"attn_problem.binds[1].index = 4294967295", "slot LSE"}},
        {"index of lengths",
         [](Dense &d) { d.bind(ATTN_SLOT_SEQLENS_KV, 0, 0, 2); },
         kInvalid,
         {"attn_problem.binds[1].index = 2", "slot SEQLENS_KV"}},
    });
}

TEST_F(Binds, Fields)
{
    expect({
        {"flags",
         [](Dense &d) { d.bind(ATTN_SLOT_Q, 0, 1 << 4); },
         kInvalid,
         {"attn_problem.binds[1].flags = 0x10", "unknown bits 0x10"}},
        {"high flags",
         [](Dense &d) { d.bind(ATTN_SLOT_Q, 0, 0x80000000 | ATTN_BIND_HOST); },
         kInvalid,
         {"binds[1].flags = 0x80001000", "unknown bits 0x80000000"}},
        {"dtype",
         [](Dense &d) { d.bind(ATTN_SLOT_Q, 0x42); },
         kInvalid,
         {"attn_problem.binds[1].dtype = 0x000042", "slot Q", "attn_dtype"}},
        {"reserved",
         [](Dense &d) { d.binds[0].reserved[3] = 9; },
         kInvalid,
         {"attn_problem.binds[0].reserved = 9", "must be 0"}},
        {"block",
         [](Dense &d) { d.binds[0].block[7] = 16; },
         kInvalid,
         {"attn_problem.binds[0].block = 16", "must be 0", "LSE is neither SCALE nor ZERO_POINT"}},
        {"other dtype",
         [](Dense &d) { d.bind(ATTN_SLOT_K, ATTN_FLOAT16); },
         kInvalid,
         {"dtype = float16", "slot K", "must be float32"}},
        {"dtype of LSE",
         [](Dense &d) { d.binds[0].dtype = ATTN_FLOAT64; },
         kInvalid,
         {"dtype = float64", "slot LSE", "must be float32"}},
        {"dtype of lengths",
         [](Dense &d) { d.bind(ATTN_SLOT_SEQLENS_Q, ATTN_UINT64); },
         kInvalid,
         {"dtype = uint64", "slot SEQLENS_Q", "int32 or int64"}},
        {"dtype of positions",
         [](Dense &d) { d.dense.causal = ATTN_BY_POSITION, d.bind(ATTN_SLOT_POSITIONS_KV, ATTN_INT8); },
         kInvalid,
         {"dtype = int8", "slot POSITIONS_KV", "int32 or int64"}},
        {"broadcast",
         [](Dense &d) { d.bind(ATTN_SLOT_K, 0, ATTN_BIND_BROADCAST_AXIS2); },
         kInvalid,
         {"flags = 0x4", "slot K", "cannot be broadcast"}},
        {"absent",
         [](Dense &d) { d.bind(ATTN_SLOT_V, 0, ATTN_BIND_ABSENT); },
         kInvalid,
         {"flags = 0x400", "slot V", "ABSENT"}},
        {"accumulate into an input",
         [](Dense &d) { d.bind(ATTN_SLOT_Q, 0, ATTN_BIND_ACCUMULATE); },
         kInvalid,
         {"flags = 0x800", "slot Q", "ACCUMULATE"}},
        {"accumulate into OUT",
         [](Dense &d) { d.bind(ATTN_SLOT_OUT, 0, ATTN_BIND_ACCUMULATE); },
         caller::kUnsupported,
         {"flags = 0x800", "slot OUT", "ACCUMULATE"}},
    });
    expect_valid("promises", [](Dense &d) {
        d.bind(ATTN_SLOT_Q, ATTN_FLOAT32, ATTN_BIND_ALIGNED | ATTN_BIND_INNER_CONTIGUOUS | ATTN_BIND_HOST);
        d.bind(ATTN_SLOT_SEQLENS_Q, ATTN_INT64), d.bind(ATTN_SLOT_SEQLENS_KV, ATTN_INT32);
    });
}

} // namespace

#include "option_cases.h"

namespace attn::perf {
namespace {

constexpr double kBar = 1.25;
constexpr bool kFull = false, kCausal = true;

void bind_positions(Description &d)
{
    d.dense.causal = ATTN_BY_POSITION;
    d.bind(ATTN_SLOT_POSITIONS_Q);
    d.bind(ATTN_SLOT_POSITIONS_KV);
}

void add_window(Description &d, int64_t left)
{
    d.dense.flags = ATTN_WINDOW_LEFT;
    d.dense.window_left = left;
}

void add_table(Description &d, attn_table_kind kind)
{
    d.has_table = true;
    d.table.kind = kind;
    d.dense.align = ATTN_TOP_LEFT;
}

void add_gate(Description &d, attn_gate gate, bool per_head = false)
{
    d.dense.gate = gate;
    d.bind(ATTN_SLOT_GATE, per_head ? ATTN_BIND_BROADCAST_AXIS3 : 0);
}

/// A program in the place of the causal mask.
void replace_causal(Description &d)
{
    d.dense.causal = ATTN_ALIGN_NONE;
    d.dense.align = ATTN_TOP_LEFT;
}

void split_batch(Description &d)
{
    d.problem.batch = 4;
    d.problem.max_q = 512;
}

std::vector<OptionCase> make_cases()
{
    using D = Description;
    return {
        {"plain again", kFull, kBar, [](D &) {}, nullptr},
        {"softcap", kFull, kBar, [](D &d) { d.dense.softcap = 30; }, nullptr},
        {"query temperature", kFull, kBar, [](D &d) { d.bind(ATTN_SLOT_Q_TEMPERATURE); }, nullptr},
        {"value temperature", kFull, kBar, [](D &d) { d.bind(ATTN_SLOT_V_TEMPERATURE); }, nullptr},
        {"ALiBi", kFull, kBar,
         [](D &d) {
             d.dense.align = ATTN_TOP_LEFT;
             d.bind(ATTN_SLOT_ALIBI_SLOPES);
         },
         nullptr},
        {"ALiBi by position", kCausal, kBar,
         [](D &d) {
             bind_positions(d);
             d.bind(ATTN_SLOT_ALIBI_SLOPES);
         },
         nullptr},
        {"distance table", kFull, kBar, [](D &d) { add_table(d, ATTN_TABLE_DISTANCE); }, nullptr},
        {"distance table 4095", kFull, kBar,
         [](D &d) {
             add_table(d, ATTN_TABLE_DISTANCE);
             d.table.max_distance = 2047;
         },
         nullptr},
        {"bucket table", kFull, kBar,
         [](D &d) {
             add_table(d, ATTN_TABLE_BUCKET);
             d.table.bidirectional = 1;
         },
         nullptr},
        {"bucket table by position", kCausal, kBar,
         [](D &d) {
             bind_positions(d);
             add_table(d, ATTN_TABLE_BUCKET);
             d.dense.align = ATTN_ALIGN_NONE;
         },
         nullptr},
        {"bucket table by position apart", kCausal, kBar,
         [](D &d) {
             bind_positions(d);
             d.position_step = 3;
             add_table(d, ATTN_TABLE_BUCKET);
             d.dense.align = ATTN_ALIGN_NONE;
         },
         nullptr},
        {"grid table 32x64", kFull, kBar,
         [](D &d) {
             add_table(d, ATTN_TABLE_GRID);
             d.dense.align = ATTN_ALIGN_NONE;
             d.table.grid[0] = 32, d.table.grid[1] = 64;
         },
         nullptr},
        {"grid table 8x16x16", kFull, kBar,
         [](D &d) {
             add_table(d, ATTN_TABLE_GRID);
             d.dense.align = ATTN_ALIGN_NONE;
             d.table.grid[0] = 8, d.table.grid[1] = 16, d.table.grid[2] = 16;
         },
         nullptr},
        {"grid table 293x7", kFull, kBar,
         [](D &d) {
             add_table(d, ATTN_TABLE_GRID);
             d.dense.align = ATTN_ALIGN_NONE;
             d.table.grid[0] = 293, d.table.grid[1] = 7;
         },
         nullptr},
        {"grid table 7x7 b64", kFull, 0,
         [](D &d) {
             d.problem.batch = 64;
             d.problem.max_q = 49;
             add_table(d, ATTN_TABLE_GRID);
             d.dense.align = ATTN_ALIGN_NONE;
             d.table.grid[0] = 7, d.table.grid[1] = 7;
         },
         [](D &d) {
             d.problem.batch = 64;
             d.problem.max_q = 49;
         }},
        {"low-rank bias 8", kFull, kBar, [](D &d) { d.dense.bias_rank = 8; }, nullptr},
        {"dense bias", kFull, 0, [](D &d) { d.bind(ATTN_SLOT_BIAS); }, nullptr},
        {"bucket table before softcap", kFull, kBar,
         [](D &d) {
             add_table(d, ATTN_TABLE_BUCKET);
             d.dense.softcap = 30;
             d.dense.bias_stage = ATTN_BIAS_PRE_SOFTCAP;
         },
         nullptr},
        {"sink logits", kFull, kBar, [](D &d) { d.bind(ATTN_SLOT_SINK_LOGITS); }, nullptr},
        {"sigmoid", kFull, kBar, [](D &d) { d.dense.activation = ATTN_SIGMOID; }, nullptr},
        {"sigmoid with bias", kFull, kBar,
         [](D &d) {
             d.dense.activation = ATTN_SIGMOID;
             d.dense.activation_bias = -7.6;
         },
         nullptr},
        {"ReLU", kFull, kBar, [](D &d) { d.dense.activation = ATTN_RELU; }, nullptr},
        {"gate sigmoid", kFull, kBar, [](D &d) { add_gate(d, ATTN_GATE_SIGMOID); }, nullptr},
        {"gate silu", kFull, kBar, [](D &d) { add_gate(d, ATTN_GATE_SILU); }, nullptr},
        {"gate linear", kFull, kBar, [](D &d) { add_gate(d, ATTN_GATE_LINEAR); }, nullptr},
        {"gate sigmoid per head", kFull, kBar, [](D &d) { add_gate(d, ATTN_GATE_SIGMOID, true); }, nullptr},
        {"head weight", kFull, kBar, [](D &d) { d.bind(ATTN_SLOT_HEAD_WEIGHT); }, nullptr},
        {"LSE", kFull, kBar, [](D &d) { d.bind(ATTN_SLOT_LSE); }, nullptr},
        {"row max", kFull, kBar, [](D &d) { d.bind(ATTN_SLOT_ROW_MAX); }, nullptr},
        {"row entropy", kFull, kBar, [](D &d) { d.bind(ATTN_SLOT_ROW_ENTROPY); }, nullptr},
        {"column mass", kFull, kBar, [](D &d) { d.bind(ATTN_SLOT_COLUMN_MASS); }, nullptr},
        {"causal by position", kCausal, kBar, bind_positions, nullptr},
        {"causal by position, int64", kCausal, kBar,
         [](D &d) {
             bind_positions(d);
             for (attn_bind &bind : d.binds) bind.dtype = ATTN_INT64;
         },
         nullptr},
        {"window 2048", kCausal, kBar, [](D &d) { add_window(d, 2047); }, nullptr},
        {"window 1024", kCausal, kBar, [](D &d) { add_window(d, 1023); }, nullptr},
        {"window 256", kCausal, kBar, [](D &d) { add_window(d, 255); }, nullptr},
        {"window 1024 and 4 sink tokens", kCausal, kBar,
         [](D &d) {
             add_window(d, 1023);
             d.dense.sink_tokens = 4;
         },
         nullptr},
        {"window 1024 by position", kCausal, kBar,
         [](D &d) {
             bind_positions(d);
             add_window(d, 1023);
         },
         nullptr},
        {"window 1024 and 4 sinks by position", kCausal, kBar,
         [](D &d) {
             bind_positions(d);
             add_window(d, 1023);
             d.dense.sink_tokens = 4;
         },
         nullptr},
        {"mask: causal", kCausal, kBar,
         [](D &d) {
             replace_causal(d);
             d.add_term(ATTN_MASK_CAUSAL);
         },
         nullptr},
        {"mask: window 1024", kCausal, kBar,
         [](D &d) {
             replace_causal(d);
             d.add_term(ATTN_MASK_BAND, 1023, 0);
         },
         [](D &d) { add_window(d, 1023); }},
        {"mask: window 256", kCausal, kBar,
         [](D &d) {
             replace_causal(d);
             d.add_term(ATTN_MASK_BAND, 255, 0);
         },
         [](D &d) { add_window(d, 255); }},
        {"mask: window 1024 or 4 sinks, in causal", kCausal, kBar,
         [](D &d) {
             d.add_term(ATTN_MASK_BAND, 1023, ATTN_UNBOUNDED);
             d.add_term(ATTN_MASK_PREFIX, 4);
             d.add_term(ATTN_OP_OR);
         },
         [](D &d) {
             add_window(d, 1023);
             d.dense.sink_tokens = 4;
         }},
        {"mask: windows 1024 by head", kCausal, kBar,
         [](D &d) {
             replace_causal(d);
             d.add_term(ATTN_MASK_BAND);
             d.widths.assign(8, 1023);
         },
         [](D &d) { add_window(d, 1023); }},
        {"mask: causal in documents of 512", kCausal, kBar,
         [](D &d) {
             d.add_term(ATTN_MASK_ID_EQ);
             d.document = 512;
         },
         split_batch},
        {"mask: causal in documents of 300", kCausal, 0,
         [](D &d) {
             d.add_term(ATTN_MASK_ID_EQ);
             d.document = 300;
         },
         nullptr},
        {"mask: every fourth block of 64, in causal", kCausal, 0,
         [](D &d) {
             d.add_term(ATTN_MASK_VERTICAL, 4);
             d.terms[0].p[2] = 64;
         },
         nullptr},
        {"mask: documents of 1, all pairs compared", kFull, kBar,
         [](D &d) {
             d.add_term(ATTN_MASK_ID_EQ);
             d.add_term(ATTN_OP_NOT);
         },
         nullptr},
        {"packed 4x512", kFull, kBar,
         [](D &d) {
             split_batch(d);
             d.bind(ATTN_SLOT_CU_SEQLENS_Q);
             d.bind(ATTN_SLOT_CU_SEQLENS_KV);
         },
         split_batch},
        {"used lengths 2048 of 2560", kFull, kBar,
         [](D &d) {
             d.problem.max_kv = 2560;
             d.used_keys = 2048;
             d.bind(ATTN_SLOT_SEQLENS_KV);
         },
         nullptr},
        {"pages of 16", kFull, kBar, [](D &d) { d.problem.page_size = 16; }, nullptr},
        {"pages of 64", kFull, kBar, [](D &d) { d.problem.page_size = 64; }, nullptr},
        {"V aliases K", kFull, kBar, [](D &d) { d.problem.flags = ATTN_V_ALIASES_K; }, nullptr},
        {"heads 8/4/2", kFull, kBar, [](D &d) { d.problem.heads_k = 4, d.problem.heads_v = 2; }, nullptr},
        {"fp16", kFull, kBar, [](D &d) { d.problem.q_dtype = ATTN_FLOAT16; }, nullptr},
        {"bf16", kFull, kBar, [](D &d) { d.problem.q_dtype = ATTN_BFLOAT16; }, nullptr},
        {"fp32, keys and values fp16", kFull, 0, [](D &d) { d.problem.k_dtype = ATTN_FLOAT16; }, nullptr},
        {"channels 2 apart", kFull, 0, [](D &d) { d.channel_step = 2; }, nullptr},
    };
}

} // namespace

Description::Description(attn_dtype dtype)
{
    problem.size = sizeof problem;
    problem.q_dtype = dtype;
    problem.heads_q = 8;
    problem.dim_qk = 128;
    problem.max_q = 2048;
    dense.size = sizeof dense;
    table.size = sizeof table;
}

void Description::bind(attn_slot slot, uint32_t flags)
{
    attn_bind bind = {};
    bind.slot = slot;
    bind.flags = flags;
    binds.push_back(bind);
}

void Description::add_term(uint16_t op, int64_t p0, int64_t p1)
{
    attn_term term = {};
    term.op = op, term.p[0] = p0, term.p[1] = p1;
    terms.push_back(term);
}

const std::vector<OptionCase> &option_cases()
{
    static const std::vector<OptionCase> cases = make_cases();
    return cases;
}

} // namespace attn::perf

#include "plans.h"

#include "handles.h"

#include <cmath>
#include <initializer_list>

namespace attn::fuzz {
namespace {

attn_bind bind_of(attn_slot slot, uint32_t flags = 0, attn_dtype dtype = 0)
{
    attn_bind bind = {};
    bind.slot = slot, bind.flags = flags, bind.dtype = dtype;
    return bind;
}

/// Batch 3, Tq 4, Tk 6, four heads of Q and two of K and V, other channels for V.
attn_problem problem_of(attn_dtype dtype, const std::vector<attn_bind> &binds)
{
    attn_problem p = {};
    p.size = sizeof p;
    p.binds = binds.data(), p.bind_count = binds.size();
    p.q_dtype = dtype;
    p.batch = 3, p.heads_q = 4, p.heads_k = 2;
    p.dim_qk = 8, p.dim_v = 6;
    p.max_q = 4, p.max_kv = 6;
    return p;
}

class Maker {
public:
    Maker(attn_handle handle, std::vector<attn_plan> *plans) : handle_(handle), plans_(plans) {}

    void dense(const attn_problem &problem, const attn_dense &options = {})
    {
        attn_dense d = options;
        d.size = sizeof d, d.problem = &problem;
        attn_plan plan = nullptr;
        keep(attn_plan_dense(handle_, &d, &plan), &plan);
    }
    void merge(const attn_problem &problem, attn_activation activation)
    {
        attn_merge m = {};
        m.size = sizeof m, m.problem = &problem;
        m.parts = 3, m.activation = activation;
        attn_plan plan = nullptr;
        keep(attn_plan_merge(handle_, &m, &plan), &plan);
    }
    void append(const attn_problem &problem, const attn_rope *rope, int64_t ring = 0, int64_t sinks = 0)
    {
        attn_append a = {};
        a.size = sizeof a, a.problem = &problem, a.rope = rope;
        a.ring_rows = ring, a.sink_tokens = sinks;
        attn_plan plan = nullptr;
        keep(attn_plan_append(handle_, &a, &plan), &plan);
    }

private:
    void keep(attn_status status, const attn_plan *plan)
    {
        check(check_status(status) == ATTN_OK, "the plans to execute are valid");
        plans_->push_back(*plan);
    }

    attn_handle handle_;
    std::vector<attn_plan> *plans_;
};

void make_dense(Maker *maker)
{
    maker->dense(problem_of(ATTN_FLOAT32, {}));

    attn_dense causal = {};
    causal.causal = ATTN_BOTTOM_RIGHT;
    std::vector<attn_bind> binds = {bind_of(ATTN_SLOT_LSE), bind_of(ATTN_SLOT_SEQLENS_Q),
                                    bind_of(ATTN_SLOT_SEQLENS_KV, 0, ATTN_INT64)};
    maker->dense(problem_of(ATTN_FLOAT32, binds), causal);

    attn_dense window = {};
    window.align = ATTN_BY_POSITION;
    window.flags = ATTN_WINDOW_LEFT | ATTN_WINDOW_RIGHT;
    window.window_left = 2, window.window_right = 1, window.sink_tokens = 1;
    binds = {bind_of(ATTN_SLOT_CU_SEQLENS_Q), bind_of(ATTN_SLOT_CU_SEQLENS_KV, 0, ATTN_INT64), bind_of(ATTN_SLOT_LSE),
             bind_of(ATTN_SLOT_SEQLENS_KV)};
    attn_problem packed = problem_of(ATTN_FLOAT16, binds);
    packed.total_q = 9, packed.total_kv = 13;
    maker->dense(packed, window);

    binds = {bind_of(ATTN_SLOT_SEQLENS_KV)};
    attn_problem paged = problem_of(ATTN_BFLOAT16, binds);
    paged.page_size = 2;
    maker->dense(paged, causal);
    binds = {bind_of(ATTN_SLOT_BLOCK_TABLE_PTR, 0, ATTN_INT64), bind_of(ATTN_SLOT_CU_SEQLENS_Q)};
    attn_problem flat = problem_of(ATTN_FLOAT32, binds);
    flat.page_size = 2, flat.dim_v = 8, flat.flags = ATTN_V_ALIASES_K;
    maker->dense(flat);

    // Every option that goes together, with promises about some of the views.
    attn_bias_table table = {};
    table.size = sizeof table, table.max_distance = 3;
    attn_dense options = {};
    options.causal = ATTN_TOP_LEFT, options.softcap = 20, options.bias_rank = 2, options.bias_table = &table;
    binds = {bind_of(ATTN_SLOT_BIAS, ATTN_BIND_BROADCAST_AXIS0),
             bind_of(ATTN_SLOT_ALIBI_SLOPES),
             bind_of(ATTN_SLOT_SINK_LOGITS),
             bind_of(ATTN_SLOT_Q_TEMPERATURE),
             bind_of(ATTN_SLOT_V_TEMPERATURE),
             bind_of(ATTN_SLOT_GATE),
             bind_of(ATTN_SLOT_HEAD_WEIGHT),
             bind_of(ATTN_SLOT_ROW_MAX),
             bind_of(ATTN_SLOT_ROW_ENTROPY),
             bind_of(ATTN_SLOT_K, ATTN_BIND_ALIGNED | ATTN_BIND_INNER_CONTIGUOUS)};
    maker->dense(problem_of(ATTN_FLOAT32, binds), options);

    // A mask of documents and of windows by head that grow; ids of both widths, one pair packed, one in pages.
    static constexpr double kWidths[] = {0, 1, 2.5, INFINITY}, kSlopes[] = {0.5, 0.25, 0, 0};
    static constexpr attn_table kWindows = {kWidths, kSlopes, 4, 1};
    attn_term terms[5] = {};
    terms[0].op = ATTN_MASK_ID_EQ;
    terms[1].op = ATTN_MASK_BAND, terms[1].flags = ATTN_BY_POSITION, terms[1].table = 1;
    terms[2].op = ATTN_OP_AND;
    terms[3].op = ATTN_MASK_ID_KV, terms[3].axis = 3, terms[3].p[0] = 1;
    terms[4].op = ATTN_OP_OR;
    attn_program program = {};
    program.size = sizeof program, program.terms = terms, program.term_count = 5;
    program.tables = &kWindows, program.table_count = 1;
    attn_dense masked = {};
    masked.mask = &program;
    attn_bind ids = bind_of(ATTN_SLOT_IDS_KV, 0, ATTN_INT64);
    ids.index = 3;
    binds = {bind_of(ATTN_SLOT_CU_SEQLENS_Q), bind_of(ATTN_SLOT_CU_SEQLENS_KV), ids, bind_of(ATTN_SLOT_COLUMN_MASS)};
    attn_problem packed_ids = problem_of(ATTN_FLOAT32, binds);
    packed_ids.total_q = 9, packed_ids.total_kv = 13;
    maker->dense(packed_ids, masked);
    binds = {bind_of(ATTN_SLOT_SEQLENS_KV), ids};
    attn_problem paged_ids = problem_of(ATTN_BFLOAT16, binds);
    paged_ids.page_size = 2;
    maker->dense(paged_ids, masked);

    // One query and many keys: the keys are split and merged.
    attn_problem decode = problem_of(ATTN_FLOAT32, {});
    decode.batch = 1, decode.heads_q = 2, decode.heads_k = 1, decode.dim_qk = 4, decode.dim_v = 4;
    decode.max_q = 1, decode.max_kv = 2048;
    maker->dense(decode);
}

void make_merge(Maker *maker)
{
    std::vector<attn_bind> binds = {bind_of(ATTN_SLOT_LSE), bind_of(ATTN_SLOT_SINK_LOGITS), bind_of(ATTN_SLOT_GATE)};
    attn_problem problem = problem_of(ATTN_FLOAT32, binds);
    problem.heads_k = 0, problem.dim_qk = 0, problem.max_kv = 0;
    maker->merge(problem, ATTN_SOFTMAX);
    binds = {bind_of(ATTN_SLOT_CU_SEQLENS_Q), bind_of(ATTN_SLOT_HEAD_WEIGHT),
             bind_of(ATTN_SLOT_PARTIAL_OUT, 0, ATTN_FLOAT16)};
    problem = problem_of(ATTN_BFLOAT16, binds);
    problem.heads_k = 0, problem.dim_qk = 0, problem.max_kv = 0, problem.total_q = 9;
    maker->merge(problem, ATTN_SIGMOID);
}

void make_append(Maker *maker)
{
    attn_rope rope = {};
    rope.size = sizeof rope;
    std::vector<attn_bind> binds = {bind_of(ATTN_SLOT_SEQLENS_KV), bind_of(ATTN_SLOT_Q), bind_of(ATTN_SLOT_OUT)};
    maker->append(problem_of(ATTN_FLOAT32, binds), &rope, 6, 1);

    rope.source = ATTN_ROPE_TABLE, rope.layout = ATTN_ROPE_INTERLEAVED, rope.dim = 4, rope.first = 2;
    binds = {bind_of(ATTN_SLOT_CU_SEQLENS_Q), bind_of(ATTN_SLOT_SEQLENS_KV), bind_of(ATTN_SLOT_K, 0, ATTN_FLOAT32)};
    attn_problem paged = problem_of(ATTN_BFLOAT16, binds);
    paged.page_size = 2, paged.total_q = 9;
    maker->append(paged, &rope);

    binds = {bind_of(ATTN_SLOT_SLOT_MAPPING), bind_of(ATTN_SLOT_POSITIONS_Q), bind_of(ATTN_SLOT_SEQLENS_Q)};
    rope.source = ATTN_ROPE_BASE;
    attn_problem mapped = problem_of(ATTN_FLOAT16, binds);
    mapped.page_size = 2;
    maker->append(mapped, &rope);
}

} // namespace

const std::vector<attn_plan> &plans()
{
    static Kept<attn_plan, attn_plan_destroy> kept;
    if (!kept.all.empty()) return kept.all;
    for (const attn_handle handle : handles()) {
        Maker maker(handle, &kept.all);
        make_dense(&maker);
        make_merge(&maker);
        make_append(&maker);
    }
    return kept.all;
}

} // namespace attn::fuzz

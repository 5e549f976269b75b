/* 3 queries against 5 keys: which key is query i level with? */
#include "definition.h"

enum { TQ = 3, TK = 5, H = 2, D = 8 };
static float q[TQ * H * D], k[TK * H * D], v[TK * H * D], out[TQ * H * D];
static const int32_t positions_q[TQ] = {7, 3, 9}, positions_kv[TK] = {3, 4, 7, 8, 12};

static bool top_left(int64_t i, int64_t j)
{
    return j <= i;
}
static bool bottom_right(int64_t i, int64_t j)
{
    return j <= i + TK - TQ;
}
static bool by_position(int64_t i, int64_t j)
{
    return positions_kv[j] <= positions_q[i];
}

static double attend(attn_align align, bool (*visible)(int64_t, int64_t))
{
    /* [plan] */
    attn_problem problem = {.size = sizeof problem,
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = D,
                            .max_q = TQ,
                            .max_kv = TK};
    attn_dense dense = {.size = sizeof dense, .problem = &problem, .causal = align};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, TQ, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, TK, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, TK, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, TQ, H, D);
    attn_tensor pq = attn_tensor_2d(positions_q, ATTN_INT32, 1, TQ);
    attn_tensor pk = attn_tensor_2d(positions_kv, ATTN_INT32, 1, TK);
    const attn_arg args[] =
        {{ATTN_SLOT_Q, 0, &tq},           {ATTN_SLOT_K, 0, &tk},
         {ATTN_SLOT_V, 0, &tv},           {ATTN_SLOT_OUT, 0, &to},
         {ATTN_SLOT_POSITIONS_Q, 0, &pq}, /* these two with ATTN_BY_POSITION only */
         {ATTN_SLOT_POSITIONS_KV, 0, &pk}};
    compute_dense(&dense, args, align == ATTN_BY_POSITION ? 6 : 4);
    /* [plan] */
    const definition d = {.tq = TQ,
                          .tk = TK,
                          .heads_q = H,
                          .dim_qk = D,
                          .q = q,
                          .k = k,
                          .v = v,
                          .visible = visible};
    return difference(&d, out);
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    int failed = verdict("top-left", attend(ATTN_TOP_LEFT, top_left));
    failed |= verdict("bottom-right", attend(ATTN_BOTTOM_RIGHT, bottom_right));
    failed |= verdict("by position", attend(ATTN_BY_POSITION, by_position));
    return failed;
}

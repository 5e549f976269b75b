/* Rows that see no key: 3 queries level with the last of 1 key, so the first two see nothing.
 */
#include "definition.h"

enum { TQ = 3, TK = 1, H = 2, D = 8 };
static float q[TQ * H * D], k[TK * H * D], v[TK * H * D], out[TQ][H][D], lse[H][TQ];

static int attend(const float *sinks)
{
    /* [plan] */
    const attn_bind binds[] = {{.slot = ATTN_SLOT_LSE}, {.slot = ATTN_SLOT_SINK_LOGITS}};
    attn_problem problem = {.size = sizeof problem,
                            .binds = binds,
                            .bind_count = sinks ? 2 : 1,
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = D,
                            .max_q = TQ,
                            .max_kv = TK};
    attn_dense dense = {.size = sizeof dense, .problem = &problem, .causal = ATTN_BOTTOM_RIGHT};
    /* [plan] */
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, TQ, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, TK, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, TK, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, TQ, H, D);
    attn_tensor tl = attn_tensor_3d(lse, ATTN_FLOAT32, 1, H, TQ),
                ts = attn_tensor_1d(sinks, ATTN_FLOAT32, H);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},   {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},   {ATTN_SLOT_OUT, 0, &to},
                             {ATTN_SLOT_LSE, 0, &tl}, {ATTN_SLOT_SINK_LOGITS, 0, &ts}};
    compute_dense(&dense, args, sinks ? 6 : 5);
    int failed = 0;
    /* [result] */
    for (int h = 0; h < H; ++h)
        for (int i = 0; i < 2; ++i) { /* the rows that see nothing */
            for (int c = 0; c < D; ++c) failed |= out[i][h][c] != 0;
            failed |= lse[h][i] != (sinks ? sinks[h] : -INFINITY);
        }
    /* [result] */
    return failed;
}

int main(void)
{
    const float sinks[H] = {0.5f, -2};
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    const int failed = attend(NULL) | attend(sinks);
    printf("rows that see no key: %s\n",
           failed ? "not as documented" : "OUT 0, LSE -inf or the sink");
    return failed;
}

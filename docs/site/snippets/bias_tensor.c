/* A bias tensor that all sequences share, added before the softcap. */
#include "definition.h"

enum { T = 40, H = 4, D = 16 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];
static float bias[H][T][T];

static double biased(double s, int64_t h, int64_t i, int64_t j)
{
    return 2 * tanh((s + bias[h][i][j]) / 2);
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v)), fill(&bias[0][0][0], H * T * T);
    /* [plan] */
    const attn_bind binds[] = {{.slot = ATTN_SLOT_BIAS, .flags = ATTN_BIND_BROADCAST_AXIS0}};
    attn_problem problem = {.size = sizeof problem,
                            .binds = binds,
                            .bind_count = COUNT(binds),
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = D,
                            .max_q = T};
    attn_dense dense = {.size = sizeof dense,
                        .problem = &problem,
                        .softcap = 2,
                        .bias_stage = ATTN_BIAS_PRE_SOFTCAP};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tb = attn_tensor_4d(bias, ATTN_FLOAT32, 1, H, T, T); /* [1, head, query, key] */
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to},
                             {ATTN_SLOT_BIAS, 0, &tb}};
    compute_dense(&dense, args, COUNT(args));
    /* [plan] */
    const definition d = {
        .tq = T, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v, .score = biased};
    return verdict("bias before softcap", difference(&d, out));
}

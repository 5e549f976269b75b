/* ALiBi with the slopes of its paper: 2^-1, 2^-2 .. 2^-8 for 8 heads. */
#include "definition.h"

enum { T = 40, H = 8, D = 16 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];

static double penalised(double s, int64_t h, int64_t i, int64_t j)
{
    return s - ldexp(1, -(int)h - 1) * (double)llabs(i - j);
}

static bool causal(int64_t i, int64_t j)
{
    return j <= i;
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    /* [plan] */
    float slopes[H];
    for (int h = 0; h < H; ++h) slopes[h] = exp2f(-8.0f * (float)(h + 1) / H);
    const attn_bind binds[] = {{.slot = ATTN_SLOT_ALIBI_SLOPES}};
    attn_problem problem = {.size = sizeof problem,
                            .binds = binds,
                            .bind_count = COUNT(binds),
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = D,
                            .max_q = T};
    attn_dense dense = {.size = sizeof dense, .problem = &problem, .causal = ATTN_BOTTOM_RIGHT};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor ts = attn_tensor_1d(slopes, ATTN_FLOAT32, H);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to},
                             {ATTN_SLOT_ALIBI_SLOPES, 0, &ts}};
    compute_dense(&dense, args, COUNT(args));
    /* [plan] */
    const definition d = {.tq = T,
                          .heads_q = H,
                          .dim_qk = D,
                          .q = q,
                          .k = k,
                          .v = v,
                          .score = penalised,
                          .visible = causal};
    return verdict("ALiBi", difference(&d, out));
}

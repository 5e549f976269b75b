/* Mixture of heads: a router's weight for each query and head; what is 0 costs nothing. */
#include "definition.h"

enum { T = 40, H = 8, D = 16 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];
static float weights[T][H];

static double routed(double x, int64_t h, int64_t i, int64_t c)
{
    (void)c;
    return weights[i][h] * x;
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v)), fill(&weights[0][0], T * H);
    for (int i = 0; i < T; ++i)
        for (int h = 0; h < H; ++h)
            if ((i + h) % 4 != 0) weights[i][h] = 0; /* a quarter of the heads is routed */
    /* [plan] */
    const attn_bind binds[] = {{.slot = ATTN_SLOT_HEAD_WEIGHT}};
    attn_problem problem = {.size = sizeof problem,
                            .binds = binds,
                            .bind_count = COUNT(binds),
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = D,
                            .max_q = T};
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tw = attn_tensor_3d(weights, ATTN_FLOAT32, 1, T, H);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_HEAD_WEIGHT, 0, &tw},
                             {ATTN_SLOT_OUT, 0, &to}};
    compute_dense(&dense, args, COUNT(args));
    /* [plan] */
    const definition d = {
        .tq = T, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v, .finish = routed};
    return verdict("head weights", difference(&d, out));
}

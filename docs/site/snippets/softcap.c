/* Softcap: scores never leave -50 .. 50. */
#include "definition.h"

enum { T = 40, H = 4, D = 32 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];

static double capped(double s, int64_t h, int64_t i, int64_t j)
{
    (void)h, (void)i, (void)j;
    return 50 * tanh(s / 50);
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    for (size_t n = 0; n < COUNT(q); ++n) q[n] *= 50; /* scores of some hundred */
    /* [plan] */
    attn_problem problem = {.size = sizeof problem,
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = D,
                            .max_q = T,
                            .scale = 1};
    attn_dense dense = {.size = sizeof dense, .problem = &problem, .softcap = 50};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to}};
    compute_dense(&dense, args, COUNT(args));
    /* [plan] */
    const definition d = {.tq = T,
                          .heads_q = H,
                          .dim_qk = D,
                          .q = q,
                          .k = k,
                          .v = v,
                          .scale = 1,
                          .score = capped};
    return verdict("softcap", difference(&d, out));
}

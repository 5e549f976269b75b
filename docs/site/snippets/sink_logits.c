/* A learned logit for each head that joins the softmax sum and has no value, as in gpt-oss. */
#include "definition.h"

enum { T = 40, HQ = 8, HK = 2, D = 16 };
static float q[T * HQ * D], k[T * HK * D], v[T * HK * D], out[T * HQ * D], lse[HQ * T];
static float sinks[HQ];

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v)), fill(sinks, COUNT(sinks));
    /* [plan] */
    const attn_bind binds[] = {{.slot = ATTN_SLOT_SINK_LOGITS}, {.slot = ATTN_SLOT_LSE}};
    attn_problem problem = {.size = sizeof problem,
                            .binds = binds,
                            .bind_count = COUNT(binds),
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = HQ,
                            .heads_k = HK,
                            .dim_qk = D,
                            .max_q = T};
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, HQ, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, HK, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, HK, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, HQ, D);
    attn_tensor ts = attn_tensor_1d(sinks, ATTN_FLOAT32, HQ),
                tl = attn_tensor_3d(lse, ATTN_FLOAT32, 1, HQ, T);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},   {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},   {ATTN_SLOT_SINK_LOGITS, 0, &ts},
                             {ATTN_SLOT_OUT, 0, &to}, {ATTN_SLOT_LSE, 0, &tl}};
    compute_dense(&dense, args, COUNT(args));
    /* [plan] */
    const definition d = {.tq = T,
                          .heads_q = HQ,
                          .heads_k = HK,
                          .dim_qk = D,
                          .q = q,
                          .k = k,
                          .v = v,
                          .sink_logits = sinks};
    double worst = difference(&d, out), s[T], p[T];
    for (int h = 0; h < HQ; ++h)
        for (int i = 0; i < T; ++i)
            worst = fmax(worst, fabs(lse[h * T + i] - define_row(&d, h, i, s, p)));
    return verdict("sink logits, with the LSE", worst);
}

/* Decoding with absorbed multi-head latent attention: one K head of 64 + 8 channels, whose
 * first 64 are also V. */
#include "definition.h"

/* [plan] */
enum {
    T = 100,
    H = 16,
    LATENT = 64,
    ROPE = 8,
    HEAD_DIM = 24
}; /* HEAD_DIM: channels of a head before absorption */
static float q[H][LATENT + ROPE], cache[T][LATENT + ROPE], out[H][LATENT];

static void attend(void)
{
    attn_problem problem = {
        .size = sizeof problem,
        .flags = ATTN_V_ALIASES_K,
        .q_dtype = ATTN_FLOAT32,
        .heads_q = H,
        .heads_k = 1,
        .dim_qk = LATENT + ROPE,
        .dim_v = LATENT,
        .max_q = 1,
        .max_kv = T,
        .scale = 1 / sqrt(HEAD_DIM)}; /* that of the head, not of the latent vector */
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, 1, H, LATENT + ROPE);
    attn_tensor tk = attn_tensor_4d(cache, ATTN_FLOAT32, 1, T, 1, LATENT + ROPE);
    attn_tensor to = attn_tensor_4d(out, ATTN_FLOAT32, 1, 1, H, LATENT);
    const attn_arg args[] = {
        {ATTN_SLOT_Q, 0, &tq}, {ATTN_SLOT_K, 0, &tk}, {ATTN_SLOT_OUT, 0, &to}}; /* no V */
    compute_dense(&dense, args, COUNT(args));
}
/* [plan] */

int main(void)
{
    fill(&q[0][0], H * (LATENT + ROPE)), fill(&cache[0][0], T * (LATENT + ROPE));
    attend();
    static float v[T][LATENT];
    for (int j = 0; j < T; ++j)
        for (int c = 0; c < LATENT; ++c) v[j][c] = cache[j][c];
    const definition d = {.tq = 1,
                          .tk = T,
                          .heads_q = H,
                          .heads_k = 1,
                          .dim_qk = LATENT + ROPE,
                          .dim_v = LATENT,
                          .q = &q[0][0],
                          .k = &cache[0][0],
                          .v = &v[0][0],
                          .scale = 1 / sqrt(HEAD_DIM)};
    return verdict("absorbed MLA", difference(&d, &out[0][0]));
}

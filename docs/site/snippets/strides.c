/* The same attention on [batch, head, token, channel] memory: another order of axes is a matter
 * of strides. */
#include "definition.h"

enum { T = 20, H = 3, D = 8 };
static float q[T][H][D], k[T][H][D], v[T][H][D], out[T][H][D];
static float bhsd[3][H][T][D], result[H][T][D];

int main(void)
{
    fill(&q[0][0][0], T * H * D), fill(&k[0][0][0], T * H * D), fill(&v[0][0][0], T * H * D);
    for (int i = 0; i < T; ++i)
        for (int h = 0; h < H; ++h)
            for (int c = 0; c < D; ++c)
                bhsd[0][h][i][c] = q[i][h][c], bhsd[1][h][i][c] = k[i][h][c],
                bhsd[2][h][i][c] = v[i][h][c];
    attn_problem problem = {
        .size = sizeof problem, .q_dtype = ATTN_FLOAT32, .heads_q = H, .dim_qk = D, .max_q = T};
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    /* [views] */
    attn_tensor tq =
        attn_tensor_swap_axes(attn_tensor_4d(bhsd[0], ATTN_FLOAT32, 1, H, T, D), 1, 2);
    attn_tensor tk =
        attn_tensor_swap_axes(attn_tensor_4d(bhsd[1], ATTN_FLOAT32, 1, H, T, D), 1, 2);
    attn_tensor tv =
        attn_tensor_swap_axes(attn_tensor_4d(bhsd[2], ATTN_FLOAT32, 1, H, T, D), 1, 2);
    attn_tensor to =
        attn_tensor_swap_axes(attn_tensor_4d(result, ATTN_FLOAT32, 1, H, T, D), 1, 2);
    /* [views] */
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to}};
    compute_dense(&dense, args, COUNT(args));
    for (int i = 0; i < T; ++i)
        for (int h = 0; h < H; ++h)
            for (int c = 0; c < D; ++c) out[i][h][c] = result[h][i][c];
    const definition d = {.tq = T,
                          .heads_q = H,
                          .dim_qk = D,
                          .q = &q[0][0][0],
                          .k = &k[0][0][0],
                          .v = &v[0][0][0]};
    return verdict("swapped axes", difference(&d, &out[0][0][0]));
}

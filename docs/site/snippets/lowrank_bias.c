/* The squared distance of points in the plane as a bias of rank 4: -|x - y|^2 = -|x|^2 - |y|^2
 * + 2 x.y */
#include "definition.h"

enum { T = 60, H = 4, D = 16, RANK = 4 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];
static float point[T][2];

static double attracted(double s, int64_t h, int64_t i, int64_t j)
{
    (void)h;
    return s - pow(point[i][0] - point[j][0], 2) - pow(point[i][1] - point[j][1], 2);
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v)), fill(&point[0][0], T * 2);
    /* [plan] */
    float factor_q[T][RANK], factor_k[T][RANK]; /* the same for all heads */
    for (int i = 0; i < T; ++i) {
        const float x = point[i][0], y = point[i][1], square = x * x + y * y;
        factor_q[i][0] = -square, factor_q[i][1] = 1, factor_q[i][2] = 2 * x,
        factor_q[i][3] = 2 * y;
        factor_k[i][0] = 1, factor_k[i][1] = -square, factor_k[i][2] = x, factor_k[i][3] = y;
    }
    const attn_bind binds[] = {
        {.slot = ATTN_SLOT_BIAS_LOWRANK_Q, .flags = ATTN_BIND_BROADCAST_AXIS2},
        {.slot = ATTN_SLOT_BIAS_LOWRANK_K, .flags = ATTN_BIND_BROADCAST_AXIS2}};
    attn_problem problem = {.size = sizeof problem,
                            .binds = binds,
                            .bind_count = COUNT(binds),
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = D,
                            .max_q = T};
    attn_dense dense = {.size = sizeof dense, .problem = &problem, .bias_rank = RANK};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor fq = attn_tensor_4d(factor_q, ATTN_FLOAT32, 1, T, 1, RANK);
    attn_tensor fk = attn_tensor_4d(factor_k, ATTN_FLOAT32, 1, T, 1, RANK);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to},
                             {ATTN_SLOT_BIAS_LOWRANK_Q, 0, &fq},
                             {ATTN_SLOT_BIAS_LOWRANK_K, 0, &fk}};
    compute_dense(&dense, args, COUNT(args));
    /* [plan] */
    const definition d = {
        .tq = T, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v, .score = attracted};
    return verdict("low-rank bias", difference(&d, out));
}

/* A temperature for every query and one for every value, besides the scale. */
#include "definition.h"

enum { T = 40, H = 4, D = 16 };
static float q[T][H][D], k[T][H][D], v[T][H][D], out[T][H][D];
static float q_temperature[T][H], v_temperature[T]; /* of the values: one for all heads */

static double sharpened(double s, int64_t h, int64_t i, int64_t j)
{
    (void)j;
    return q_temperature[i][h] * s;
}

int main(void)
{
    fill(&q[0][0][0], T * H * D), fill(&k[0][0][0], T * H * D), fill(&v[0][0][0], T * H * D);
    fill(&q_temperature[0][0], T * H), fill(v_temperature, T);
    /* [plan] */
    const attn_bind binds[] = {
        {.slot = ATTN_SLOT_Q_TEMPERATURE},
        {.slot = ATTN_SLOT_V_TEMPERATURE, .flags = ATTN_BIND_BROADCAST_AXIS2}};
    attn_problem problem = {.size = sizeof problem,
                            .binds = binds,
                            .bind_count = COUNT(binds),
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = D,
                            .max_q = T,
                            .scale = 0.125};
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    attn_tensor tokens[4] = {attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                             attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D),
                             attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                             attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D)};
    attn_tensor of_queries = attn_tensor_3d(q_temperature, ATTN_FLOAT32, 1, T, H);
    attn_tensor of_values = attn_tensor_3d(v_temperature, ATTN_FLOAT32, 1, T, 1);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tokens[0]},
                             {ATTN_SLOT_K, 0, &tokens[1]},
                             {ATTN_SLOT_V, 0, &tokens[2]},
                             {ATTN_SLOT_OUT, 0, &tokens[3]},
                             {ATTN_SLOT_Q_TEMPERATURE, 0, &of_queries},
                             {ATTN_SLOT_V_TEMPERATURE, 0, &of_values}};
    compute_dense(&dense, args, COUNT(args));
    /* [plan] */
    static float weighted[T][H][D];
    for (int n = 0; n < T * H * D; ++n)
        (&weighted[0][0][0])[n] = v_temperature[n / (H * D)] * (&v[0][0][0])[n];
    const definition d = {.tq = T,
                          .heads_q = H,
                          .dim_qk = D,
                          .q = &q[0][0][0],
                          .k = &k[0][0][0],
                          .v = &weighted[0][0][0],
                          .scale = 0.125,
                          .score = sharpened};
    return verdict("temperatures", difference(&d, &out[0][0][0]));
}

/* Context parallelism: worker 0 of 2 holds the first and the last quarter of a sequence, in the
 * order that balances causal work, and meets the keys of worker 1, the quarters between.
 * Positions say who sees whom. */
#include "definition.h"

enum { QUARTER = 8, T = 2 * QUARTER, H = 2, D = 16 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];
static int32_t positions_q[T], positions_kv[T];

static bool visible(int64_t i, int64_t j)
{
    return positions_kv[j] <= positions_q[i];
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    /* [plan] */
    for (int32_t n = 0; n < T; ++n) {
        positions_q[n] = n < QUARTER ? n : 2 * QUARTER + n; /* quarters 0 and 3 */
        positions_kv[n] = QUARTER + n;                      /* quarters 1 and 2 */
    }
    attn_problem problem = {
        .size = sizeof problem, .q_dtype = ATTN_FLOAT32, .heads_q = H, .dim_qk = D, .max_q = T};
    attn_dense dense = {.size = sizeof dense, .problem = &problem, .causal = ATTN_BY_POSITION};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor pq = attn_tensor_2d(positions_q, ATTN_INT32, 1, T),
                pk = attn_tensor_2d(positions_kv, ATTN_INT32, 1, T);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},           {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},           {ATTN_SLOT_OUT, 0, &to},
                             {ATTN_SLOT_POSITIONS_Q, 0, &pq}, {ATTN_SLOT_POSITIONS_KV, 0, &pk}};
    compute_dense(&dense, args, COUNT(args));
    /* [plan] */
    const definition d = {
        .tq = T, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v, .visible = visible};
    return verdict("zigzag shard", difference(&d, out)); /* its first 8 rows see no key: 0 */
}

/* Biases by relative position: T5's buckets, and a table with an entry for every distance. */
#include "definition.h"

enum { T = 200, H = 4, D = 16 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];
static float table[257][H]; /* enough for either kind */

/* T5, both directions: 8 exact distances, then 8 that grow logarithmically up to 128; the
 * future has its own 16. */
static int64_t bucket(int64_t distance)
{
    const int64_t back = llabs(distance), side = distance > 0 ? 16 : 0;
    if (back < 8) return side + back;
    const int64_t large = 8 + (int64_t)(log((double)back / 8) / log(128.0 / 8) * 8);
    return side + (large < 15 ? large : 15);
}

static double by_bucket(double s, int64_t h, int64_t i, int64_t j)
{
    return s + table[bucket(j - i)][h];
}

static double by_distance(double s, int64_t h, int64_t i, int64_t j)
{
    int64_t distance = j - i;
    if (distance < -20) distance = -20;
    if (distance > 20) distance = 20;
    return s + table[distance + 20][h];
}

static double attend(const attn_bias_table *kind, int64_t entries,
                     double (*score)(double, int64_t, int64_t, int64_t))
{
    /* [plan] */
    attn_problem problem = {.size = sizeof problem,
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = D,
                            .max_q = T,
                            .scale = 1};
    attn_dense dense = {.size = sizeof dense,
                        .problem = &problem,
                        .bias_table = kind,
                        .align = ATTN_BOTTOM_RIGHT};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tt = attn_tensor_2d(table, ATTN_FLOAT32, entries, H); /* [entry, head] */
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to},
                             {ATTN_SLOT_BIAS_TABLE, 0, &tt}};
    compute_dense(&dense, args, COUNT(args));
    /* [plan] */
    const definition d = {
        .tq = T, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v, .scale = 1, .score = score};
    return difference(&d, out);
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v)), fill(&table[0][0], 257 * H);
    /* [kinds] */
    const attn_bias_table t5 = {.size = sizeof t5,
                                .kind = ATTN_TABLE_BUCKET,
                                .bidirectional = 1,
                                .buckets = 32,        /* the default */
                                .max_distance = 128}; /* the default */
    const attn_bias_table nearby = {
        .size = sizeof nearby, .kind = ATTN_TABLE_DISTANCE, .max_distance = 20};
    int failed = verdict("T5 buckets", attend(&t5, 32, by_bucket));
    failed |= verdict("distances", attend(&nearby, 2 * 20 + 1, by_distance));
    /* [kinds] */
    return failed;
}

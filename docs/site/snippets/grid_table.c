/* Swin: the 7 x 7 tokens of a window, biased by their relative coordinates. */
#include "definition.h"

enum { SIDE = 7, T = SIDE * SIDE, H = 3, D = 32, ENTRIES = (2 * SIDE - 1) * (2 * SIDE - 1) };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];
static float table[ENTRIES][H];

static double biased(double s, int64_t h, int64_t i, int64_t j)
{
    const int64_t dy = i / SIDE - j / SIDE, dx = i % SIDE - j % SIDE;
    return s + table[(dy + SIDE - 1) * (2 * SIDE - 1) + dx + SIDE - 1][h];
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v)), fill(&table[0][0], ENTRIES * H);
    /* [plan] */
    const attn_bias_table window = {
        .size = sizeof window, .kind = ATTN_TABLE_GRID, .grid = {SIDE, SIDE}};
    attn_problem problem = {
        .size = sizeof problem, .q_dtype = ATTN_FLOAT32, .heads_q = H, .dim_qk = D, .max_q = T};
    attn_dense dense = {.size = sizeof dense, .problem = &problem, .bias_table = &window};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tt = attn_tensor_2d(table, ATTN_FLOAT32, ENTRIES, H);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to},
                             {ATTN_SLOT_BIAS_TABLE, 0, &tt}};
    compute_dense(&dense, args, COUNT(args));
    /* [plan] */
    const definition d = {
        .tq = T, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v, .score = biased};
    return verdict("grid table", difference(&d, out));
}

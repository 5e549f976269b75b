/* A sliding window of 16 keys, the first 4 always in reach; and a window to both sides without
 * causality. */
#include "definition.h"

enum { T = 100, H = 2, D = 16, WINDOW = 16, SINKS = 4, SIDE = 5 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];

static bool streaming(int64_t i, int64_t j)
{
    return j <= i && (j > i - WINDOW || j < SINKS);
}
static bool both_sides(int64_t i, int64_t j)
{
    return llabs(i - j) <= SIDE;
}

static double attend(attn_dense dense, bool (*visible)(int64_t, int64_t))
{
    attn_problem problem = {
        .size = sizeof problem, .q_dtype = ATTN_FLOAT32, .heads_q = H, .dim_qk = D, .max_q = T};
    dense.problem = &problem;
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to}};
    compute_dense(&dense, args, COUNT(args));
    const definition d = {
        .tq = T, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v, .visible = visible};
    return difference(&d, out);
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    /* [plan] */
    const attn_dense sliding = {.size = sizeof sliding,
                                .causal = ATTN_BOTTOM_RIGHT,
                                .flags = ATTN_WINDOW_LEFT,
                                .window_left = WINDOW - 1, /* keys before the diagonal key */
                                .sink_tokens = SINKS};
    const attn_dense local = {.size = sizeof local,
                              .align = ATTN_TOP_LEFT, /* a window needs a diagonal */
                              .flags = ATTN_WINDOW_LEFT | ATTN_WINDOW_RIGHT,
                              .window_left = SIDE,
                              .window_right = SIDE};
    /* [plan] */
    const int failed = verdict("sliding window with sink tokens", attend(sliding, streaming));
    return failed | verdict("window to both sides", attend(local, both_sides));
}

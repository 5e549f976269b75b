/* Causal attention of 4 tokens, step by step. */
/* [include] */
#include <attn/attn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(void)
{
    fprintf(stderr, "%s\n", attn_last_error()); /* names the field, its value and the rule */
    return 1;
}
/* [include] */

int main(void)
{
    /* [tensors] */
    enum { T = 4, H = 1, D = 2 }; /* tokens, heads, channels */
    float q[T * H * D] = {1, 0, 0, 1, 1, 1, 2, 0}, k[T * H * D] = {1, 0, 0, 1, 1, 1, 0, 0};
    float v[T * H * D] = {1, 2, 3, 4, 5, 6, 7, 8}, out[T * H * D];
    /* A view is [batch, token, head, channel]. */
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    /* [tensors] */

    /* [handle] */
    attn_handle handle;
    if (attn_create(NULL, &handle)) return fail(); /* NULL: the CPU with all its cores */
    /* [handle] */

    /* [plan] */
    attn_problem problem = {
        .size = sizeof problem,  /* every growable struct starts with its size */
        .q_dtype = ATTN_FLOAT32, /* K, V and OUT have the same unless said */
        .heads_q = H,
        .dim_qk = D,
        .max_q = 512}; /* the longest sequence this plan will ever see */
    attn_dense dense = {.size = sizeof dense, .problem = &problem, .causal = ATTN_TOP_LEFT};
    attn_plan plan;
    if (attn_plan_dense(handle, &dense, &plan)) return fail();
    /* [plan] */

    /* [workspace] */
    size_t bytes;
    if (attn_plan_workspace(plan, &bytes, NULL)) return fail();
    void *workspace = malloc(bytes);
    /* [workspace] */

    /* [execute] */
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to}};
    if (attn_execute(plan, args, 4, workspace, bytes, NULL)) return fail();
    printf("%.3f %.3f\n", out[0], out[1]); /* the first token sees only itself: 1.000 2.000 */
    /* [execute] */

    /* [destroy] */
    attn_plan_destroy(plan);
    attn_destroy(handle);
    free(workspace);
    /* [destroy] */

    /* The second token: scores 0 and 1/sqrt(2). */
    const double weight = 1 / (1 + exp(-1 / sqrt(2)));
    return fabs(out[0] - 1) + fabs(out[1] - 2) + fabs(out[2] - (1 + 2 * weight)) < 1e-5 ? 0 : 1;
}

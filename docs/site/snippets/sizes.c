/* One plan for every step of an engine: the views bring the sizes, the workspace is asked for
 * them. */
#include "definition.h"

enum { MOST = 256, H = 2, D = 16 };
static float q[MOST * H * D], k[MOST * H * D], v[MOST * H * D], out[MOST * H * D];

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    attn_problem problem = {.size = sizeof problem,
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = D,
                            .max_q = MOST};
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    attn_handle handle;
    attn_plan plan;
    CHECK(attn_create(NULL, &handle));
    CHECK(attn_plan_dense(handle, &dense, &plan));
    int failed = 0;
    /* [sizes] */
    size_t bound, bytes;
    CHECK(attn_plan_workspace(plan, &bound, NULL)); /* suffices for every execute */
    static const int64_t steps[][2] = {{256, 256}, {1, 256}, {7, 20}, {0, 5}, {5, 0}};
    for (size_t n = 0; n < COUNT(steps); ++n) {
        const int64_t queries = steps[n][0], keys = steps[n][1];
        const attn_sizes sizes = {.size = sizeof sizes,
                                  .batch = 1,
                                  .max_q = queries ? queries : 1,
                                  .max_kv = keys ? keys : 1}; /* 0: the bound */
        CHECK(attn_plan_workspace_for(plan, &sizes, &bytes)); /* suffices for this one */
        failed |= bytes > bound;
        void *workspace = malloc(bytes + 1);
        attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, queries, H, D), to = tq;
        attn_tensor tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, keys, H, D), tv = tk;
        to.data = out, tv.data = v;
        const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                                 {ATTN_SLOT_K, 0, &tk},
                                 {ATTN_SLOT_V, 0, &tv},
                                 {ATTN_SLOT_OUT, 0, &to}};
        CHECK(attn_execute(plan, args, COUNT(args), workspace, bytes, NULL));
        free(workspace);
        /* [sizes] */
        const definition d = {
            .tq = queries, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v, .tk = keys};
        if (keys) failed |= verdict("step", difference(&d, out));
        for (int64_t c = 0; c < queries * H * D && !keys; ++c)
            failed |= out[c] != 0; /* nothing to see */
    }
    attn_plan_destroy(plan);
    attn_destroy(handle);
    return failed;
}

/* An engine's own threads: libattn hands its loops to a callback instead of starting a pool. */
#include "definition.h"

enum { T = 300, H = 4, D = 32, WORKERS = 2 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];

/* [callback] */
/* Stands for the engine's pool: any order and any threads, as long as a worker runs one task at
 * a time. */
static void ATTN_CALL run_tasks(void *ctx, int64_t count, attn_task task, void *arg)
{
    int64_t *loops = ctx;
    ++*loops;
    for (int64_t n = count; n-- > 0;) task(arg, n, (int32_t)(n % WORKERS));
}
/* [callback] */

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    attn_problem problem = {
        .size = sizeof problem, .q_dtype = ATTN_FLOAT32, .heads_q = H, .dim_qk = D, .max_q = T};
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    attn_handle handle;
    attn_plan plan;
    /* [options] */
    int64_t loops = 0;
    attn_options options = {.size = sizeof options,
                            .max_workers = WORKERS,
                            .parallel_for = run_tasks,
                            .parallel_ctx = &loops};
    CHECK(attn_create(&options, &handle));
    /* [options] */
    CHECK(attn_plan_dense(handle, &dense, &plan));
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to}};
    execute_once(plan, args, COUNT(args));
    attn_destroy(handle);
    const definition d = {.tq = T, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v};
    return verdict("with the engine's threads", difference(&d, out)) | (loops == 0);
}

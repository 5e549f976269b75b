/* Sequences of different lengths packed without padding, each seeing the 64 keys up to its own diagonal and its first
 * 4 keys always (a sliding window with attention sinks). 8 query heads share 2 key heads. */
#include "reference.h"

int main(void)
{
    enum { BATCH = 4, HQ = 8, HK = 2, D = 64, WINDOW = 64, SINKS = 4 };
    /* [lengths] */
    const int32_t cu[BATCH + 1] = {0, 300, 300, 301, 500}; /* lengths 300, 0, 1 and 199 */
    /* [lengths] */
    const int64_t total = cu[BATCH], longest = 300;

    /* [plan] */
    /* The bounds are those of an engine; one plan serves every step within them. */
    const attn_bind binds[] = {{.slot = ATTN_SLOT_CU_SEQLENS_Q}, {.slot = ATTN_SLOT_CU_SEQLENS_KV}};
    attn_problem problem = {.size = sizeof problem,
                            .binds = binds,
                            .bind_count = 2,
                            .q_dtype = ATTN_FLOAT32,
                            .batch = 16,
                            .heads_q = HQ,
                            .heads_k = HK,
                            .dim_qk = D,
                            .max_q = 512,
                            .total_q = 4096,
                            .total_kv = 4096};
    attn_dense dense = {.size = sizeof dense,
                        .problem = &problem,
                        .causal = ATTN_BOTTOM_RIGHT,
                        .flags = ATTN_WINDOW_LEFT,
                        .window_left = WINDOW - 1,
                        .sink_tokens = SINKS};
    /* [plan] */
    attn_handle handle;
    attn_plan plan;
    CHECK(attn_create(NULL, &handle));
    CHECK(attn_plan_dense(handle, &dense, &plan));

    /* [workspace] */
    /* Scratch for the sizes at hand rather than for the bounds. */
    attn_sizes sizes = {
        .size = sizeof sizes, .batch = BATCH, .max_q = longest, .max_kv = longest, .total_q = total, .total_kv = total};
    size_t bytes, bound;
    CHECK(attn_plan_workspace(plan, &bound, NULL));
    CHECK(attn_plan_workspace_for(plan, &sizes, &bytes));
    void *workspace = malloc(bytes + 1);
    /* [workspace] */

    float *q = noise(total * HQ * D), *k = noise(total * HK * D), *v = noise(total * HK * D);
    float *out = noise(total * HQ * D);
    /* [execute] */
    attn_tensor q_view = attn_tensor_3d(q, ATTN_FLOAT32, total, HQ, D);
    attn_tensor k_view = attn_tensor_3d(k, ATTN_FLOAT32, total, HK, D);
    attn_tensor v_view = attn_tensor_3d(v, ATTN_FLOAT32, total, HK, D);
    attn_tensor out_view = attn_tensor_3d(out, ATTN_FLOAT32, total, HQ, D);
    attn_tensor cu_view = attn_tensor_1d(cu, ATTN_INT32, BATCH + 1);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &q_view},
                             {ATTN_SLOT_K, 0, &k_view},
                             {ATTN_SLOT_V, 0, &v_view},
                             {ATTN_SLOT_OUT, 0, &out_view},
                             {ATTN_SLOT_CU_SEQLENS_Q, 0, &cu_view},
                             {ATTN_SLOT_CU_SEQLENS_KV, 0, &cu_view}};
    CHECK(attn_execute(plan, args, 6, workspace, bytes, NULL));
    /* [execute] */

    double worst = 0;
    for (int b = 0; b < BATCH; ++b)
        for (int64_t i = cu[b]; i < cu[b + 1]; ++i)
            for (int64_t h = 0; h < HQ; ++h) {
                const float *keys[WINDOW + SINKS], *values[WINDOW + SINKS];
                int64_t count = 0;
                for (int64_t j = cu[b]; j <= i; ++j)
                    if (j > i - WINDOW || j < cu[b] + SINKS) {
                        keys[count] = k + (j * HK + h * HK / HQ) * D;
                        values[count++] = v + (j * HK + h * HK / HQ) * D;
                    }
                worst =
                    fmax(worst, row_error(out + (i * HQ + h) * D, NULL, q + (i * HQ + h) * D, keys, values, count, D));
            }
    printf("4 packed sequences, %d rows, window %d with %d sink tokens\n", (int)total, WINDOW, SINKS);
    printf("workspace: %zu bytes now, %zu for the bounds of the plan\n", bytes, bound);
    printf("largest difference from the definition in double precision: %.1e\n", worst);

    attn_plan_destroy(plan);
    attn_destroy(handle);
    free(q), free(k), free(v), free(out), free(workspace);
    return worst < 1e-5 ? 0 : 1;
}

/* One decoding step of a serving engine: the newest token of each sequence against a paged KV cache. */
#include "reference.h"

int main(void)
{
    enum { BATCH = 3, HQ = 8, HK = 2, D = 64, PAGE = 16, PAGES = 64, PER_SEQUENCE = 20 };
    const int32_t lengths[BATCH] = {1, 100, 317};

    /* [table] */
    /* Pages of each sequence, in any order and anywhere; entries past the length are never read. */
    int32_t table[BATCH][PER_SEQUENCE];
    for (int b = 0, next = 0; b < BATCH; ++b)
        for (int p = 0; p < PER_SEQUENCE; ++p) table[b][p] = p * PAGE < lengths[b] ? next++ * 37 % PAGES : -1;
    /* [table] */

    /* [plan] */
    const attn_bind binds[] = {{.slot = ATTN_SLOT_SEQLENS_KV}, {.slot = ATTN_SLOT_LSE}};
    attn_problem problem = {.size = sizeof problem,
                            .binds = binds,
                            .bind_count = 2,
                            .q_dtype = ATTN_FLOAT32,
                            .batch = BATCH,
                            .heads_q = HQ,
                            .heads_k = HK,
                            .dim_qk = D,
                            .max_q = 1,
                            .max_kv = PER_SEQUENCE * PAGE,
                            .page_size = PAGE};
    attn_dense dense = {.size = sizeof dense, .problem = &problem, .causal = ATTN_BOTTOM_RIGHT};
    /* [plan] */
    attn_handle handle;
    attn_plan plan;
    size_t bytes;
    CHECK(attn_create(NULL, &handle));
    CHECK(attn_plan_dense(handle, &dense, &plan));
    CHECK(attn_plan_workspace(plan, &bytes, NULL));
    void *workspace = malloc(bytes + 1);

    float *q = noise(BATCH * HQ * D), *k = noise(PAGES * PAGE * HK * D), *v = noise(PAGES * PAGE * HK * D);
    float *out = noise(BATCH * HQ * D), *lse = noise(BATCH * HQ);
    /* [execute] */
    attn_tensor q_view = attn_tensor_4d(q, ATTN_FLOAT32, BATCH, 1, HQ, D);
    attn_tensor k_view = attn_tensor_4d(k, ATTN_FLOAT32, PAGES, PAGE, HK, D);
    attn_tensor v_view = attn_tensor_4d(v, ATTN_FLOAT32, PAGES, PAGE, HK, D);
    attn_tensor out_view = attn_tensor_4d(out, ATTN_FLOAT32, BATCH, 1, HQ, D);
    attn_tensor lse_view = attn_tensor_3d(lse, ATTN_FLOAT32, BATCH, HQ, 1);
    attn_tensor table_view = attn_tensor_2d(table, ATTN_INT32, BATCH, PER_SEQUENCE);
    attn_tensor lengths_view = attn_tensor_1d(lengths, ATTN_INT32, BATCH);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &q_view},
                             {ATTN_SLOT_K, 0, &k_view},
                             {ATTN_SLOT_V, 0, &v_view},
                             {ATTN_SLOT_OUT, 0, &out_view},
                             {ATTN_SLOT_LSE, 0, &lse_view},
                             {ATTN_SLOT_BLOCK_TABLE, 0, &table_view},
                             {ATTN_SLOT_SEQLENS_KV, 0, &lengths_view}};
    CHECK(attn_execute(plan, args, 7, workspace, bytes, NULL));
    /* [execute] */

    double worst = 0;
    for (int b = 0; b < BATCH; ++b)
        for (int h = 0; h < HQ; ++h) {
            const float *keys[PER_SEQUENCE * PAGE], *values[PER_SEQUENCE * PAGE];
            for (int j = 0; j < lengths[b]; ++j) {
                const int64_t row = ((int64_t)table[b][j / PAGE] * PAGE + j % PAGE) * HK + h * HK / HQ;
                keys[j] = k + row * D, values[j] = v + row * D;
            }
            const int64_t at = (int64_t)b * HQ + h;
            worst = fmax(worst, row_error(out + at * D, lse + at, q + at * D, keys, values, lengths[b], D));
        }
    printf("decoding 3 sequences of 1, 100 and 317 cached tokens in pages of %d\n", PAGE);
    for (int b = 0; b < BATCH; ++b) printf("sequence %d: log-sum-exp of head 0 = %.4f\n", b, lse[b * HQ]);
    printf("largest difference from the definition in double precision: %.1e\n", worst);

    attn_plan_destroy(plan);
    attn_destroy(handle);
    free(q), free(k), free(v), free(out), free(lse), free(workspace);
    return worst < 1e-5 ? 0 : 1;
}

/* Causal attention with grouped heads: 8 query heads share 2 key heads. Checked against a plain double loop.
 * Build against an installed library: cc quickstart.c $(pkg-config --cflags --libs attn) -lm */
#include <attn/attn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { T = 512, HQ = 8, HK = 2, D = 64 }; /* tokens, query heads, key and value heads, channels */
static float q[T][HQ][D], k[T][HK][D], v[T][HK][D], out[T][HQ][D];

static float noise(void) /* in -1 .. 1 */
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

/* Largest error of one row of the result, computed directly from the definition. */
static double row_error(int i, int h)
{
    double weight[T], sum = 0, error = 0;
    for (int j = 0; j <= i; ++j) {
        double score = 0;
        for (int c = 0; c < D; ++c) score += (double)q[i][h][c] * k[j][h * HK / HQ][c];
        sum += weight[j] = exp(score / sqrt(D));
    }
    for (int c = 0; c < D; ++c) {
        double expected = 0;
        for (int j = 0; j <= i; ++j) expected += weight[j] / sum * v[j][h * HK / HQ][c];
        error = fmax(error, fabs(out[i][h][c] - expected));
    }
    return error;
}

int main(void)
{
    for (int n = 0; n < T * HQ * D; ++n) (&q[0][0][0])[n] = 2 * noise();
    for (int n = 0; n < T * HK * D; ++n) (&k[0][0][0])[n] = 2 * noise(), (&v[0][0][0])[n] = noise();

    /* 1. A handle owns the device: NULL takes the CPU with all its cores. */
    attn_handle handle = NULL;
    attn_plan plan = NULL;
    attn_status status = attn_create(NULL, &handle);

    /* 2. A plan is made once, from a descriptor that gives bounds; what is left 0 takes its default. */
    attn_problem problem = {
        .size = sizeof problem, .q_dtype = ATTN_FLOAT32, .heads_q = HQ, .heads_k = HK, .dim_qk = D, .max_q = T};
    attn_dense dense = {.size = sizeof dense, .problem = &problem, .causal = ATTN_TOP_LEFT};
    if (!status) status = attn_plan_dense(handle, &dense, &plan);

    /* 3. Scratch memory belongs to the caller. */
    size_t bytes = 0;
    if (!status) status = attn_plan_workspace(plan, &bytes, NULL);
    void *workspace = malloc(bytes ? bytes : 1);

    /* 4. Tensors are views: [batch, token, head, channel]. */
    attn_tensor q_view = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, HQ, D),
                k_view = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, HK, D);
    attn_tensor v_view = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, HK, D),
                out_view = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, HQ, D);
    const attn_arg args[] = {
        {ATTN_SLOT_Q, 0, &q_view}, {ATTN_SLOT_K, 0, &k_view}, {ATTN_SLOT_V, 0, &v_view}, {ATTN_SLOT_OUT, 0, &out_view}};
    if (!status) status = attn_execute(plan, args, 4, workspace, bytes, NULL);

    /* A failed call leaves its outputs alone and a message that names field, value and rule. */
    if (status) return fprintf(stderr, "%s: %s\n", attn_status_name(status), attn_last_error()), 1;

    double worst = 0;
    for (int i = 0; i < T; ++i)
        for (int h = 0; h < HQ; ++h) worst = fmax(worst, row_error(i, h));
    printf("causal attention, %d tokens, %d query heads on %d key heads, %d channels\n", T, HQ, HK, D);
    printf("out[%d][0][0..3] = %.5f %.5f %.5f %.5f\n", T - 1, out[T - 1][0][0], out[T - 1][0][1], out[T - 1][0][2],
           out[T - 1][0][3]);
    printf("largest difference from the definition in double precision: %.1e\n", worst);

    free(workspace);
    attn_plan_destroy(plan);
    attn_destroy(handle);
    return worst < 1e-5 ? 0 : 1;
}

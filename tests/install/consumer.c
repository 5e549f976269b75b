/* A consumer of the installed library. Scores 0 and ln 3 weigh the values 0 and 4 as 1 : 3, so the result is 3. */
#include <attn/attn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    const float q[] = {1, 0}, k[] = {0, 0, 1.0986123f, 0}, v[] = {0, 4};
    float out = NAN;
    const attn_tensor q_view = attn_tensor_4d(q, ATTN_FLOAT32, 1, 1, 1, 2);
    const attn_tensor k_view = attn_tensor_4d(k, ATTN_FLOAT32, 1, 2, 1, 2);
    const attn_tensor v_view = attn_tensor_4d(v, ATTN_FLOAT32, 1, 2, 1, 1);
    const attn_tensor out_view = attn_tensor_4d(&out, ATTN_FLOAT32, 1, 1, 1, 1);
    const attn_arg args[] = {
        {ATTN_SLOT_Q, 0, &q_view}, {ATTN_SLOT_K, 0, &k_view}, {ATTN_SLOT_V, 0, &v_view}, {ATTN_SLOT_OUT, 0, &out_view}};

    attn_handle handle = NULL;
    attn_plan plan = NULL;
    size_t bytes = 0;
    attn_problem problem = {.size = sizeof problem,
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = 1,
                            .dim_qk = 2,
                            .dim_v = 1,
                            .max_q = 1,
                            .max_kv = 2,
                            .scale = 1};
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    attn_status status = attn_create(NULL, &handle);
    if (!status) status = attn_plan_dense(handle, &dense, &plan);
    if (!status) status = attn_plan_workspace(plan, &bytes, NULL);
    void *workspace = bytes ? malloc(bytes) : NULL;
    if (!status) status = attn_execute(plan, args, 4, workspace, bytes, NULL);
    if (status) fprintf(stderr, "%s: %s\n", attn_status_name(status), attn_last_error());
    free(workspace);
    attn_plan_destroy(plan);
    attn_destroy(handle);
    printf("libattn %u.%u.%u: %g\n", attn_version() >> 16, attn_version() >> 8 & 255, attn_version() & 255, out);
    return attn_version() == ATTN_VERSION && fabsf(out - 3) < 1e-5f ? 0 : 1;
}

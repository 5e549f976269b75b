/* Errors name the field, the value and the rule; a failed call has written nothing. */
#include "definition.h"
#include <string.h>

static attn_status expect(attn_status status, attn_status wanted, const char *wanted_text)
{
    printf("%s: %s\n", attn_status_name(status), attn_last_error());
    if (status == wanted && strstr(attn_last_error(), wanted_text)) return ATTN_OK;
    printf("wanted %s: %s\n", attn_status_name(wanted), wanted_text);
    return status ? status : 1;
}

int main(void)
{
    attn_handle handle;
    attn_plan plan = NULL;
    CHECK(attn_create(NULL, &handle));
    attn_problem problem = {.size = sizeof problem,
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = 2,
                            .dim_qk = 8,
                            .max_q = 16};
    int failed = 0;

    /* [value] */
    attn_dense window = {.size = sizeof window,
                         .problem = &problem,
                         .flags = ATTN_WINDOW_LEFT,
                         .window_left = -3,
                         .align = ATTN_TOP_LEFT};
    failed |= expect(
        attn_plan_dense(handle, &window, &plan), ATTN_ERROR_INVALID,
        "attn_dense.window_left = -3: must be >= 0; clear its flag for an unlimited window");
    /* [value] */

    /* [unused] */
    attn_dense unused = {
        .size = sizeof unused, .problem = &problem, .window_left = 7}; /* its flag is not set */
    failed |=
        expect(attn_plan_dense(handle, &unused, &plan), ATTN_ERROR_INVALID,
               "attn_dense.window_left = 7: must be 0 unless flag ATTN_WINDOW_LEFT is set");
    /* [unused] */

    /* [unsupported] */
    attn_problem half = problem;
    half.k_dtype = ATTN_FLOAT8_E4M3FN;
    attn_dense quantised = {.size = sizeof quantised, .problem = &half};
    failed |=
        expect(attn_plan_supports(handle, ATTN_KIND_DENSE, &quantised), ATTN_ERROR_UNSUPPORTED,
               "attn_problem.k_dtype = float8_e4m3fn: needs float32, float16 or bfloat16");
    /* [unsupported] */

    /* [data] */
    static float rows[16 * 2 * 8], out[16 * 2 * 8];
    const int32_t length[1] = {99}; /* of 16 rows */
    const attn_bind binds[] = {{.slot = ATTN_SLOT_SEQLENS_KV}};
    problem.binds = binds, problem.bind_count = 1;
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    attn_tensor in = attn_tensor_4d(rows, ATTN_FLOAT32, 1, 16, 2, 8),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, 16, 2, 8);
    attn_tensor tl = attn_tensor_1d(length, ATTN_INT32, 1);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &in},
                             {ATTN_SLOT_K, 0, &in},
                             {ATTN_SLOT_V, 0, &in},
                             {ATTN_SLOT_OUT, 0, &to},
                             {ATTN_SLOT_SEQLENS_KV, 0, &tl}};
    size_t bytes;
    CHECK(attn_plan_dense(handle, &dense, &plan));
    CHECK(attn_plan_workspace(plan, &bytes, NULL));
    void *workspace = malloc(bytes + 1);
    failed |= expect(attn_execute(plan, args, COUNT(args), workspace, bytes, NULL),
                     ATTN_ERROR_DATA, "99");
    /* [data] */

    free(workspace);
    attn_plan_destroy(plan);
    attn_destroy(handle);
    return failed ? 1 : 0;
}

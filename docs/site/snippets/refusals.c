/* What the header declares and the CPU does not compute is refused when the plan is made, by
 * name. */
#define ATTN_EXPERIMENTAL
#include "definition.h"
#include <string.h>

static attn_handle handle;

/* 0: refused with a message that has `name`. */
static int refused(const attn_dense *dense, const char *name)
{
    const attn_status status = attn_plan_supports(handle, ATTN_KIND_DENSE, dense);
    printf("%s: %s\n", attn_status_name(status), attn_last_error());
    return status == ATTN_ERROR_UNSUPPORTED && strstr(attn_last_error(), name) ? 0 : 1;
}

int main(void)
{
    CHECK(attn_create(NULL, &handle));
    attn_problem problem = {.size = sizeof problem,
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = 2,
                            .dim_qk = 8,
                            .max_q = 16};
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    int failed = 0;
    CHECK(attn_plan_supports(handle, ATTN_KIND_DENSE, &dense)); /* as it stands it is served */

    /* [mask] */
    const attn_term neighbours[] = {{.op = ATTN_MASK_GRID_WINDOW, .p = {3}}};
    const attn_program mask = {
        .size = sizeof mask, .terms = neighbours, .term_count = 1, .grid_q = {4, 4}};
    attn_dense masked = dense;
    masked.mask = &mask;
    failed |= refused(&masked, "attn_dense.mask: ATTN_MASK_GRID_WINDOW");
    /* [mask] */

    const attn_rope rope = {.size = sizeof rope};
    attn_dense rotated = dense;
    rotated.rope = &rope;
    failed |= refused(&rotated, "attn_dense.rope");

    const attn_dropout dropout = {.ext = {.size = sizeof dropout, .type = ATTN_EXT_DROPOUT},
                                  .probability = 0.1};
    attn_dense dropping = dense;
    dropping.next = &dropout.ext;
    failed |= refused(&dropping, "ATTN_EXT_DROPOUT");

    static const attn_dtype quantised[] = {ATTN_INT8, ATTN_UINT4, ATTN_FLOAT8_E4M3FN,
                                           ATTN_FLOAT8_E5M2};
    for (size_t n = 0; n < COUNT(quantised); ++n) {
        attn_problem other = problem;
        other.k_dtype = quantised[n];
        attn_dense desc = {.size = sizeof desc, .problem = &other};
        failed |= refused(&desc, "attn_problem.k_dtype");
    }

    attn_problem wide = problem, wide_v = problem;
    wide.dim_qk = 1025, wide.dim_v = 8, wide_v.dim_v = 1025;
    const attn_dense wide_keys = {.size = sizeof wide_keys, .problem = &wide};
    const attn_dense wide_values = {.size = sizeof wide_values, .problem = &wide_v};
    failed |= refused(&wide_keys, "attn_problem.dim_qk") |
              refused(&wide_values, "attn_problem.dim_v");

    static const attn_direction directions[] = {ATTN_BACKWARD, ATTN_JVP};
    for (size_t n = 0; n < COUNT(directions); ++n) {
        attn_problem other = problem;
        other.direction = directions[n];
        attn_dense desc = {.size = sizeof desc, .problem = &other};
        failed |= refused(&desc, "attn_problem.direction");
    }
    attn_destroy(handle);

    /* [device] */
    static const attn_device gpus[] = {ATTN_DEVICE_CUDA, ATTN_DEVICE_HIP};
    for (size_t n = 0; n < COUNT(gpus); ++n) {
        const attn_options options = {.size = sizeof options, .device = gpus[n]};
        const attn_status status = attn_create(&options, &handle);
        if (status == ATTN_OK)
            attn_destroy(handle); /* this machine has one */
        else
            printf("%s: %s\n", attn_status_name(status), attn_last_error());
        failed |= status != ATTN_OK && status != ATTN_ERROR_NO_DEVICE;
    }
    /* [device] */
    return failed;
}

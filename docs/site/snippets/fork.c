/* A child of fork() goes on using its CPU handle, on the one thread that it has. */
#define _POSIX_C_SOURCE 200809L
#include "definition.h"
#include <sys/wait.h>
#include <unistd.h>

enum { T = 200, H = 4, D = 32 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    attn_problem problem = {
        .size = sizeof problem, .q_dtype = ATTN_FLOAT32, .heads_q = H, .dim_qk = D, .max_q = T};
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    attn_handle handle;
    attn_plan plan;
    CHECK(attn_create(NULL, &handle));
    CHECK(attn_plan_dense(handle, &dense, &plan));
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to}};
    const definition d = {.tq = T, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v};
    /* [fork] */
    fflush(NULL);
    const pid_t child = fork();
    if (child < 0) return 1;
    execute_once(plan, args, COUNT(args)); /* in both processes */
    const int failed = verdict(child ? "parent" : "child", difference(&d, out));
    if (child == 0) {
        attn_destroy(handle);
        fflush(NULL);
        _exit(failed);
    }
    /* [fork] */
    int status = 1;
    waitpid(child, &status, 0);
    attn_destroy(handle);
    return failed | (status != 0);
}

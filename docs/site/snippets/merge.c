/* Attention over two halves of the keys, merged: the same as attention over all of them. */
#include "definition.h"

enum { TQ = 8, TK = 96, HALF = TK / 2, H = 4, D = 16 };
static float q[TQ * H * D], k[TK * H * D], v[TK * H * D], out[TQ * H * D], lse[H * TQ];
static float part_out[2][TQ * H * D], part_lse[2][H * TQ];

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    attn_handle handle;
    attn_plan part, merge;
    CHECK(attn_create(NULL, &handle));
    /* [parts] */
    const attn_bind part_binds[] = {{.slot = ATTN_SLOT_LSE}};
    attn_problem problem = {.size = sizeof problem,
                            .binds = part_binds,
                            .bind_count = COUNT(part_binds),
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = D,
                            .max_q = TQ,
                            .max_kv = HALF};
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, TQ, H, D), to[2], tl[2];
    for (int n = 0; n < 2; ++n) {
        attn_tensor tk = attn_tensor_4d(k + n * HALF * H * D, ATTN_FLOAT32, 1, HALF, H, D);
        attn_tensor tv = attn_tensor_4d(v + n * HALF * H * D, ATTN_FLOAT32, 1, HALF, H, D);
        to[n] = attn_tensor_4d(part_out[n], ATTN_FLOAT32, 1, TQ, H, D);
        tl[n] = attn_tensor_3d(part_lse[n], ATTN_FLOAT32, 1, H, TQ);
        const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                                 {ATTN_SLOT_K, 0, &tk},
                                 {ATTN_SLOT_V, 0, &tv},
                                 {ATTN_SLOT_OUT, 0, &to[n]},
                                 {ATTN_SLOT_LSE, 0, &tl[n]}};
        CHECK(attn_plan_dense(handle, &dense, &part));
        execute_once(part, args, COUNT(args));
    }
    /* [parts] */
    /* [merge] */
    const attn_bind merge_binds[] = {
        {.slot = ATTN_SLOT_LSE}}; /* of the whole, where it is wanted */
    attn_problem result = {.size = sizeof result,
                           .binds = merge_binds,
                           .bind_count = COUNT(merge_binds),
                           .q_dtype = ATTN_FLOAT32,
                           .heads_q = H,
                           .dim_v = D,
                           .max_q = TQ};
    attn_merge both = {.size = sizeof both, .problem = &result, .parts = 2};
    attn_tensor whole = attn_tensor_4d(out, ATTN_FLOAT32, 1, TQ, H, D);
    attn_tensor whole_lse = attn_tensor_3d(lse, ATTN_FLOAT32, 1, H, TQ);
    const attn_arg args[] = {
        {ATTN_SLOT_PARTIAL_OUT, 0, &to[0]}, {ATTN_SLOT_PARTIAL_LSE, 0, &tl[0]},
        {ATTN_SLOT_PARTIAL_OUT, 1, &to[1]}, {ATTN_SLOT_PARTIAL_LSE, 1, &tl[1]},
        {ATTN_SLOT_OUT, 0, &whole},         {ATTN_SLOT_LSE, 0, &whole_lse}};
    CHECK(attn_plan_merge(handle, &both, &merge));
    execute_once(merge, args, COUNT(args));
    /* [merge] */
    attn_destroy(handle);
    const definition d = {
        .tq = TQ, .tk = TK, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v};
    double worst = difference(&d, out), s[TK], p[TK];
    for (int h = 0; h < H; ++h)
        for (int i = 0; i < TQ; ++i)
            worst = fmax(worst, fabs(lse[h * TQ + i] - define_row(&d, h, i, s, p)));
    return verdict("two halves merged", worst);
}

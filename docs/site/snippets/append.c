/* One step of decoding: the new K, rotated, and V go into pages, Q is rotated too, then
 * attention reads the pages. */
#include "definition.h"

enum { LENGTH = 21, H = 2, D = 16, PAGE = 8, PAGES = 4 }; /* 20 tokens were there, one comes */
static float q[H * D], new_k[H * D], new_v[H * D], rotated_q[H * D], out[H * D];
static float k_pages[PAGES][PAGE][H][D], v_pages[PAGES][PAGE][H][D];
static const int32_t table[3] = {2, 0, 3}, lengths[1] = {LENGTH};

/* Channel c of a head at a position, as RoPE with pairs (c, c + D/2) defines it. */
static double rotate(const float *head, int c, double position)
{
    const int pair = c % (D / 2);
    const double angle = position * pow(10000, -2.0 * pair / D);
    const double a = head[pair], b = head[pair + D / 2];
    return c < D / 2 ? a * cos(angle) - b * sin(angle) : b * cos(angle) + a * sin(angle);
}

int main(void)
{
    fill(q, COUNT(q)), fill(new_k, COUNT(new_k)), fill(new_v, COUNT(new_v));
    fill(&k_pages[0][0][0][0], PAGES * PAGE * H * D),
        fill(&v_pages[0][0][0][0], PAGES * PAGE * H * D);
    attn_handle handle;
    attn_plan append, attend;
    CHECK(attn_create(NULL, &handle));
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, 1, H, D),
                rq = attn_tensor_4d(rotated_q, ATTN_FLOAT32, 1, 1, H, D);
    attn_tensor nk = attn_tensor_4d(new_k, ATTN_FLOAT32, 1, 1, H, D),
                nv = attn_tensor_4d(new_v, ATTN_FLOAT32, 1, 1, H, D);
    attn_tensor to = attn_tensor_4d(out, ATTN_FLOAT32, 1, 1, H, D);
    attn_tensor kp = attn_tensor_4d(k_pages, ATTN_FLOAT32, PAGES, PAGE, H, D);
    attn_tensor vp = attn_tensor_4d(v_pages, ATTN_FLOAT32, PAGES, PAGE, H, D);
    attn_tensor tt = attn_tensor_2d(table, ATTN_INT32, 1, 3),
                tl = attn_tensor_1d(lengths, ATTN_INT32, 1);
    /* [append] */
    const attn_bind append_binds[] = {
        {.slot = ATTN_SLOT_SEQLENS_KV}, {.slot = ATTN_SLOT_Q}, {.slot = ATTN_SLOT_OUT}};
    attn_problem rows = {.size = sizeof rows,
                         .binds = append_binds,
                         .bind_count = COUNT(append_binds),
                         .q_dtype = ATTN_FLOAT32,
                         .heads_q = H,
                         .dim_qk = D,
                         .max_q = 1,
                         .max_kv = 3 * PAGE,
                         .page_size = PAGE};
    attn_rope rope = {.size = sizeof rope}; /* all channels, pairs (c, c + D/2), base 10000 */
    attn_append new_row = {.size = sizeof new_row, .problem = &rows, .rope = &rope};
    const attn_arg append_args[] = {
        {ATTN_SLOT_K, 0, &nk},           {ATTN_SLOT_V, 0, &nv},
        {ATTN_SLOT_K_CACHE, 0, &kp},     {ATTN_SLOT_V_CACHE, 0, &vp},
        {ATTN_SLOT_Q, 0, &tq},           {ATTN_SLOT_OUT, 0, &rq},
        {ATTN_SLOT_BLOCK_TABLE, 0, &tt}, {ATTN_SLOT_SEQLENS_KV, 0, &tl}};
    CHECK(attn_plan_append(handle, &new_row, &append));
    execute_once(append, append_args, COUNT(append_args));
    /* [append] */
    /* [attend] */
    const attn_bind attend_binds[] = {{.slot = ATTN_SLOT_SEQLENS_KV}};
    attn_problem step = rows;
    step.binds = attend_binds, step.bind_count = COUNT(attend_binds);
    attn_dense dense = {.size = sizeof dense, .problem = &step, .causal = ATTN_BOTTOM_RIGHT};
    const attn_arg attend_args[] = {
        {ATTN_SLOT_Q, 0, &rq},           {ATTN_SLOT_K, 0, &kp},
        {ATTN_SLOT_V, 0, &vp},           {ATTN_SLOT_OUT, 0, &to},
        {ATTN_SLOT_BLOCK_TABLE, 0, &tt}, {ATTN_SLOT_SEQLENS_KV, 0, &tl}};
    CHECK(attn_plan_dense(handle, &dense, &attend));
    execute_once(attend, attend_args, COUNT(attend_args));
    /* [attend] */
    attn_destroy(handle);

    static float k[LENGTH][H][D], v[LENGTH][H][D];
    double worst = 0;
    for (int j = 0; j < LENGTH; ++j)
        for (int h = 0; h < H; ++h)
            for (int c = 0; c < D; ++c) {
                k[j][h][c] = k_pages[table[j / PAGE]][j % PAGE][h][c];
                v[j][h][c] = v_pages[table[j / PAGE]][j % PAGE][h][c];
            }
    for (int h = 0; h < H; ++h)
        for (int c = 0; c < D; ++c) {
            worst =
                fmax(worst, fabs(k[LENGTH - 1][h][c] - rotate(new_k + h * D, c, LENGTH - 1)));
            worst = fmax(worst, fabs(v[LENGTH - 1][h][c] - new_v[h * D + c]));
            worst = fmax(worst, fabs(rotated_q[h * D + c] - rotate(q + h * D, c, LENGTH - 1)));
        }
    const definition d = {.tq = 1,
                          .tk = LENGTH,
                          .heads_q = H,
                          .dim_qk = D,
                          .q = rotated_q,
                          .k = &k[0][0][0],
                          .v = &v[0][0][0]};
    return verdict("append and attend", fmax(worst, difference(&d, out)));
}

/* What no query may see has no effect on any bit: NaN past the length, and in a key of the
 * future. */
#include "definition.h"
#include <string.h>

enum { T = 64, USED = 50, H = 2, D = 16, FUTURE = 40 };
static float q[T][H][D], k[T][H][D], v[T][H][D], clean[T][H][D], dirty[T][H][D];
static const int32_t lengths[1] = {USED};

static void attend(float (*out)[H][D])
{
    const attn_bind binds[] = {{.slot = ATTN_SLOT_SEQLENS_KV}};
    attn_problem problem = {.size = sizeof problem,
                            .binds = binds,
                            .bind_count = COUNT(binds),
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = D,
                            .max_q = T};
    attn_dense dense = {.size = sizeof dense, .problem = &problem, .causal = ATTN_TOP_LEFT};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tl = attn_tensor_1d(lengths, ATTN_INT32, 1);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to},
                             {ATTN_SLOT_SEQLENS_KV, 0, &tl}};
    compute_dense(&dense, args, COUNT(args));
}

int main(void)
{
    fill(&q[0][0][0], T * H * D), fill(&k[0][0][0], T * H * D), fill(&v[0][0][0], T * H * D);
    /* [poison] */
    attend(clean);
    for (int j = 0; j < T; ++j)
        for (int n = 0; n < H * D; ++n)
            if (j == FUTURE || j >= USED) (&k[j][0][0])[n] = (&v[j][0][0])[n] = NAN;
    attend(dirty);
    /* rows before the poisoned key: not a bit differs; rows that see it are NaN, as they must
     * be */
    const int same = memcmp(clean, dirty, FUTURE * sizeof clean[0]) == 0;
    const int seen = isnan(dirty[FUTURE][0][0]) && isnan(dirty[T - 1][0][0]);
    /* [poison] */
    printf("rows before a NaN: %s\n", same ? "the same bits" : "different");
    return same && seen ? 0 : 1;
}

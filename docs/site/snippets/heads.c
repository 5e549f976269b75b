/* One head rule for MHA, GQA, MQA, SQA, reverse SQA and DiffQKV. */
#include "definition.h"

enum { T = 24, D = 16, MOST = 8 };
static float q[T * MOST * D], k[T * MOST * D], v[T * MOST * D], out[T * MOST * D];

static double attend(int64_t heads_q, int64_t heads_k, int64_t heads_v)
{
    /* [plan] */
    attn_problem problem = {.size = sizeof problem,
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = heads_q,
                            .heads_k = heads_k,
                            .heads_v = heads_v,
                            .dim_qk = D,
                            .max_q = T};
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    int64_t heads = heads_q; /* of OUT: the largest of the three */
    if (heads < heads_k) heads = heads_k;
    if (heads < heads_v) heads = heads_v;
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, heads_q, D);
    attn_tensor tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, heads_k, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, heads_v, D);
    attn_tensor to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, heads, D);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to}};
    compute_dense(&dense, args, COUNT(args));
    /* [plan] */
    const definition d = {.tq = T,
                          .heads_q = heads_q,
                          .heads_k = heads_k,
                          .heads_v = heads_v,
                          .dim_qk = D,
                          .q = q,
                          .k = k,
                          .v = v};
    return difference(&d, out);
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    /* [table] */
    static const struct {
        const char *name;
        int64_t heads_q, heads_k, heads_v;
    } kinds[] = {
        {"MHA, multi-head", 8, 8, 8},
        {"GQA, grouped-query", 8, 2, 2},
        {"MQA, multi-query", 8, 1, 1},
        {"SQA, half of the query heads of a model with 8", 4, 2, 2},
        {"rSQA, more key than query heads", 2, 8, 8},
        {"DiffQKV, fewer K than V heads", 8, 1, 4},
    };
    /* [table] */
    int failed = 0;
    for (size_t n = 0; n < COUNT(kinds); ++n)
        failed |= verdict(kinds[n].name,
                          attend(kinds[n].heads_q, kinds[n].heads_k, kinds[n].heads_v));
    return failed;
}

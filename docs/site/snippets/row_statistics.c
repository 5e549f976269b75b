/* What else a row has to tell: log-sum-exp, largest score and entropy of its weights. */
#include "definition.h"

enum { T = 40, H = 4, D = 16 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];
static float lse[H][T], row_max[H][T], entropy[H][T];

static bool causal(int64_t i, int64_t j)
{
    return j <= i;
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    /* [plan] */
    const attn_bind binds[] = {
        {.slot = ATTN_SLOT_LSE}, {.slot = ATTN_SLOT_ROW_MAX}, {.slot = ATTN_SLOT_ROW_ENTROPY}};
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
    attn_tensor tl = attn_tensor_3d(lse, ATTN_FLOAT32, 1, H, T); /* [batch, head, query] */
    attn_tensor tm = attn_tensor_3d(row_max, ATTN_FLOAT32, 1, H, T),
                te = attn_tensor_3d(entropy, ATTN_FLOAT32, 1, H, T);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},          {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},          {ATTN_SLOT_OUT, 0, &to},
                             {ATTN_SLOT_LSE, 0, &tl},        {ATTN_SLOT_ROW_MAX, 0, &tm},
                             {ATTN_SLOT_ROW_ENTROPY, 0, &te}};
    compute_dense(&dense, args, COUNT(args));
    /* [plan] */
    const definition d = {
        .tq = T, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v, .visible = causal};
    double worst = difference(&d, out), s[T], p[T];
    for (int h = 0; h < H; ++h)
        for (int i = 0; i < T; ++i) {
            const double log_sum = define_row(&d, h, i, s, p);
            double largest = -INFINITY, nats = 0;
            for (int j = 0; j < T; ++j) {
                largest = fmax(largest, s[j]);
                if (p[j] > 0) nats -= p[j] * log(p[j]);
            }
            worst = fmax(worst, fabs(lse[h][i] - log_sum));
            worst = fmax(worst, fabs(row_max[h][i] - largest));
            worst = fmax(worst, fabs(entropy[h][i] - nats));
        }
    return verdict("statistics of rows", worst);
}

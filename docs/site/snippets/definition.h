/* Attention by its definition, in double precision, which the snippets of the documentation are
 * checked against; and what each of them would repeat: plan, workspace, execute. */
#ifndef SNIPPETS_DEFINITION_H
#define SNIPPETS_DEFINITION_H

#include "reference.h"

#include <stdbool.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* One sequence. Arrays are row-major [token, head, channel]; h is a head of OUT, i a query, j a
 * key. 0 takes the default that attn_problem has, NULL means that the option is not in use. */
typedef struct definition {
    int64_t tq, tk, heads_q, heads_k, heads_v, dim_qk, dim_v;
    const float *q, *k, *v;
    double scale;
    double (*score)(double s, int64_t h, int64_t i,
                    int64_t j);            /* what the options make of scale * (q.k) */
    bool (*visible)(int64_t i, int64_t j); /* does query i see key j? */
    double (*weight)(double s);            /* activation without a sum; NULL: softmax */
    const float *sink_logits;              /* [h] */
    double (*finish)(double x, int64_t h, int64_t i, int64_t c); /* gate, head weight */
} definition;

static inline definition with_defaults(definition d)
{
    if (!d.tk) d.tk = d.tq;
    if (!d.heads_k) d.heads_k = d.heads_q;
    if (!d.heads_v) d.heads_v = d.heads_k;
    if (!d.dim_v) d.dim_v = d.dim_qk;
    if (d.scale == 0) d.scale = 1 / sqrt((double)d.dim_qk);
    return d;
}

static inline int64_t heads_out(const definition *d)
{
    const int64_t kv = d->heads_k > d->heads_v ? d->heads_k : d->heads_v;
    return d->heads_q > kv ? d->heads_q : kv;
}

/* Fills s[tk] with the scores that the activation sees, -inf where hidden, and p[tk] with the
 * weights; returns the logarithm of the sum of exponentials, sink included. */
static inline double define_row(const definition *given, int64_t h, int64_t i, double *s,
                                double *p)
{
    const definition d = with_defaults(*given);
    const int64_t heads = heads_out(&d), hq = h * d.heads_q / heads, hk = h * d.heads_k / heads;
    double sum = d.sink_logits ? exp(d.sink_logits[h]) : 0;
    for (int64_t j = 0; j < d.tk; ++j) {
        s[j] = -INFINITY, p[j] = 0;
        if (d.visible && !d.visible(i, j)) continue;
        double dot = 0;
        for (int64_t c = 0; c < d.dim_qk; ++c)
            dot += (double)d.q[(i * d.heads_q + hq) * d.dim_qk + c] *
                   d.k[(j * d.heads_k + hk) * d.dim_qk + c];
        s[j] = d.score ? d.score(d.scale * dot, h, i, j) : d.scale * dot;
        p[j] = d.weight ? d.weight(s[j]) : exp(s[j]);
        sum += p[j];
    }
    for (int64_t j = 0; j < d.tk && !d.weight && sum > 0; ++j) p[j] /= sum;
    return log(sum);
}

/* Largest difference between out[tq, heads, dim_v] and its definition; NaN if one of them is.
 */
static inline double difference(const definition *given, const float *out)
{
    const definition d = with_defaults(*given);
    const int64_t heads = heads_out(&d);
    double largest = 0, *s = malloc((size_t)(2 * d.tk + 1) * sizeof *s);
    if (!s) exit(1);
    for (int64_t i = 0; i < d.tq; ++i)
        for (int64_t h = 0; h < heads; ++h) {
            define_row(&d, h, i, s, s + d.tk);
            for (int64_t c = 0; c < d.dim_v; ++c) {
                double x = 0;
                for (int64_t j = 0; j < d.tk; ++j)
                    x += s[d.tk + j] *
                         d.v[(j * d.heads_v + h * d.heads_v / heads) * d.dim_v + c];
                if (d.finish) x = d.finish(x, h, i, c);
                const double error = fabs(out[(i * heads + h) * d.dim_v + c] - x);
                if (!(error <= largest)) largest = error;
            }
        }
    free(s);
    return largest;
}

/* Says what was compared; exit status of a snippet. */
static inline int verdict(const char *what, double error)
{
    printf("%s: largest difference from the definition %.1e\n", what, error);
    return error < 1e-5 ? 0 : 1; /* false for NaN */
}

/* Executes a plan once and destroys it. */
static inline void execute_once(attn_plan plan, const attn_arg *args, size_t count)
{
    size_t bytes;
    CHECK(attn_plan_workspace(plan, &bytes, NULL));
    void *workspace = malloc(bytes + 1);
    CHECK(attn_execute(plan, args, count, workspace, bytes, NULL));
    free(workspace);
    attn_plan_destroy(plan);
}

/* Plans, executes and destroys: a program that computes more than once keeps handle, plan and
 * workspace. */
static inline void compute_dense(const attn_dense *dense, const attn_arg *args, size_t count)
{
    attn_handle handle;
    attn_plan plan;
    CHECK(attn_create(NULL, &handle));
    CHECK(attn_plan_dense(handle, dense, &plan));
    execute_once(plan, args, count);
    attn_destroy(handle);
}

#endif

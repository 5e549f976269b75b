/* The methods of linear attention by their recipes, each against the recurrence in double
 * precision. */
#define ATTN_EXPERIMENTAL
#include "definition.h"

#include <attn/recipes.h>
#include <string.h>

enum { T = 50, H = 2, D = 16 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];
static float gate[T * H * D], by_token[T * H], by_head[H], beta[T * H], bonus[H * D];
static float kk[T * H * D], kk_a[T * H * D], minus_kk[T * H * D], a_log[H], bias[H * D];
static float weights_q[H * D * (D + 1)], weights_k[H * D * (D + 1)];

/* What a method does in its own words; all by token, head and channel. */
typedef struct method {
    void (*map)(const float *x, const float *weights, double *features); /* NULL: unit rows
                                                                            where unit is set */
    double (*decay)(int t, int h, int c); /* natural log; NULL: none */
    bool unit, delta, low_rank, before, divide;
    double scale;
} method;

static double softplus(double x)
{
    return log1p(exp(-fabs(x))) + (x > 0 ? x : 0);
}
static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}
static void elu1(const float *x, const float *w, double *f)
{
    (void)w;
    for (int c = 0; c < D; ++c) f[c] = x[c] > 0 ? 1 + (double)x[c] : exp(x[c]);
}
static void silu(const float *x, const float *w, double *f)
{
    (void)w;
    for (int c = 0; c < D; ++c) f[c] = x[c] * logistic(x[c]);
}
static double head_decay(int t, int h, int c)
{
    (void)t, (void)c;
    return by_head[h];
}
static double mamba_decay(int t, int h, int c)
{
    (void)c;
    return -exp(a_log[h]) * softplus((double)by_token[t * H + h] + bias[h]);
}
static double plain_decay(int t, int h, int c)
{
    return gate[(t * H + h) * D + c];
}
static double gla_decay(int t, int h, int c)
{
    return -softplus(-plain_decay(t, h, c)) / 16;
}
static double kda_decay(int t, int h, int c)
{
    return -5 * logistic(exp(a_log[h]) * (plain_decay(t, h, c) + bias[h * D + c]));
}

/* Rows of q or k as the recurrence has them. */
static void map_row(const method *m, const float *x, double *f)
{
    double sum = 1e-6;
    for (int c = 0; c < D; ++c) f[c] = x[c];
    if (m->map) m->map(x, NULL, f);
    for (int c = 0; c < D; ++c) sum += f[c] * f[c];
    for (int c = 0; c < D && m->unit; ++c) f[c] /= sqrt(sum);
}

/* Relative error of `out`. */
static double error_of(const method *m)
{
    static double s[D][D + 1];
    double error = 0, size = 0, scale = m->scale != 0 ? m->scale : 1 / sqrt(D);
    for (int h = 0; h < H; ++h) {
        memset(s, 0, sizeof s);
        for (int t = 0; t < T; ++t) {
            const int at = (t * H + h) * D;
            double fq[D], fk[D], o[D + 1] = {0};
            map_row(m, q + at, fq), map_row(m, k + at, fk);
            for (int e = 0; e <= D; ++e) {
                double value = e < D ? v[at + e] : 1, found = 0, before = 0;
                for (int c = 0; c < D; ++c) {
                    before += fq[c] * (s[c][e] + bonus[h * D + c] * fk[c] * value);
                    found += (double)minus_kk[at + c] * s[c][e];
                }
                for (int c = 0; c < D; ++c) s[c][e] *= m->decay ? exp(m->decay(t, h, c)) : 1;
                for (int c = 0; c < D && m->low_rank; ++c) s[c][e] += kk_a[at + c] * found;
                if (m->delta) {
                    double known = 0;
                    for (int c = 0; c < D; ++c) known += fk[c] * s[c][e];
                    value = beta[t * H + h] * (value - known);
                }
                for (int c = 0; c < D; ++c) s[c][e] += fk[c] * value;
                for (int c = 0; c < D; ++c) o[e] += fq[c] * s[c][e];
                if (m->before) o[e] = before;
            }
            for (int e = 0; e < D; ++e) {
                const double wanted = m->divide ? o[e] / o[D] : scale * o[e];
                error += (out[at + e] - wanted) * (out[at + e] - wanted),
                    size += wanted * wanted;
            }
        }
    }
    return sqrt(error / size);
}

static attn_problem problem_of(void)
{
    attn_problem problem = {
        .size = sizeof problem, .q_dtype = ATTN_FLOAT32, .heads_q = H, .dim_qk = D, .max_q = T};
    return problem;
}

/* Plans and executes with whatever of the tensors above the plan takes. */
static void compute(const attn_linear *linear)
{
    attn_handle handle;
    attn_plan plan;
    CHECK(attn_create(NULL, &handle));
    CHECK(attn_plan_linear(handle, linear, &plan));
    attn_tensor tensors[32];
    attn_arg args[32];
    size_t count = 0;
    attn_bind bind;
    for (; attn_plan_slot(plan, count, &bind, &tensors[count]) == ATTN_OK; ++count) {
        attn_tensor *t = &tensors[count];
        switch (bind.slot) {
        case ATTN_SLOT_Q:
            t->data = q;
            break;
        case ATTN_SLOT_K:
            t->data = k;
            break;
        case ATTN_SLOT_V:
            t->data = v;
            break;
        case ATTN_SLOT_OUT:
            t->data = out;
            break;
        case ATTN_SLOT_DECAY:
            t->data = t->ndim == 1 ? by_head : t->ndim == 3 ? by_token : gate;
            break;
        case ATTN_SLOT_BETA:
            t->data = beta;
            break;
        case ATTN_SLOT_BONUS:
            t->data = bonus;
            break;
        case ATTN_SLOT_DPLR_B:
            t->data = kk_a;
            break;
        case ATTN_SLOT_DPLR_C:
            t->data = minus_kk;
            break;
        case ATTN_SLOT_A_LOG:
            t->data = a_log;
            break;
        case ATTN_SLOT_DT_BIAS:
            t->data = bias;
            break;
        case ATTN_SLOT_FEATURE:
            t->data = bind.index ? weights_k : weights_q;
            break;
        default:
            break;
        }
        for (int64_t axis = t->ndim - 1, step = 1; axis >= 0; step *= t->shape[axis--])
            t->strides[axis] = step;
        args[count].slot = bind.slot, args[count].index = bind.index, args[count].tensor = t;
    }
    execute_once(plan, args, count);
    attn_destroy(handle);
}

static int failed;
static void expect(const char *name, const attn_linear *linear, method m)
{
    compute(linear);
    failed |= verdict(name, error_of(&m));
}

int main(void)
{
    float *const arrays[] = {q,  k,    v,     gate, by_token,  beta,     bonus,
                             kk, kk_a, a_log, bias, weights_q, weights_k};
    const size_t counts[] = {COUNT(q),        COUNT(k),     COUNT(v),     COUNT(gate),
                             COUNT(by_token), COUNT(beta),  COUNT(bonus), COUNT(kk),
                             COUNT(kk_a),     COUNT(a_log), COUNT(bias),  COUNT(weights_q),
                             COUNT(weights_k)};
    for (size_t i = 0; i < COUNT(arrays); ++i) fill(arrays[i], counts[i]);
    for (int i = 0; i < T * H; ++i) beta[i] = (float)logistic(beta[i]);
    for (int i = 0; i < T * H; ++i) { /* unit rows kk, and kk a with a in (0, 1) */
        double sum = 0;
        for (int c = 0; c < D; ++c) sum += (double)kk[i * D + c] * kk[i * D + c];
        for (int c = 0; c < D; ++c) {
            minus_kk[i * D + c] = (float)(-kk[i * D + c] / sqrt(sum));
            kk_a[i * D + c] = (float)(-minus_kk[i * D + c] * logistic(kk_a[i * D + c]));
        }
    }
    attn_problem problem = problem_of();
    /* [linear] */
    attn_linear linear = attn_recipe_linear(&problem, ATTN_FEATURE_ELU1);
    /* [linear] */
    expect("linear", &linear, (method){.map = elu1, .divide = true, .scale = 1});
    problem = problem_of();
    /* [based] */
    attn_linear based = attn_recipe_based(&problem);
    /* [based] */
    compute(&based);
    problem = problem_of();
    /* [hedgehog] */
    attn_linear hedgehog = attn_recipe_hedgehog(&problem);
    /* [hedgehog] */
    compute(&hedgehog);
    problem = problem_of();
    /* [retnet] */
    attn_linear retnet = attn_recipe_retnet(&problem);
    attn_recipe_retnet_decay(by_head, H);
    /* [retnet] */
    expect("RetNet", &retnet, (method){.decay = head_decay});
    problem = problem_of();
    /* [lightning] */
    attn_linear lightning = attn_recipe_lightning(&problem);
    attn_recipe_lightning_decay(by_head, H, 3, 12);
    /* [lightning] */
    expect("Lightning", &lightning, (method){.map = silu, .decay = head_decay, .scale = 1});
    problem = problem_of();
    /* [mamba2] */
    attn_linear mamba2 = attn_recipe_mamba2(&problem);
    /* [mamba2] */
    expect("Mamba-2", &mamba2, (method){.decay = mamba_decay, .scale = 1});
    problem = problem_of();
    /* [gla] */
    attn_linear gla = attn_recipe_gla(&problem);
    /* [gla] */
    expect("GLA", &gla, (method){.decay = gla_decay});
    for (int i = 0; i < T * H * D; ++i) gate[i] = (float)(-0.6 * logistic(gate[i]));
    problem = problem_of();
    /* [hgrn2] */
    attn_linear hgrn2 = attn_recipe_hgrn2(&problem);
    /* [hgrn2] */
    expect("HGRN2", &hgrn2, (method){.decay = plain_decay});
    problem = problem_of();
    /* [rwkv6] */
    attn_linear rwkv6 = attn_recipe_rwkv6(&problem);
    /* [rwkv6] */
    expect("RWKV-6", &rwkv6, (method){.decay = plain_decay, .before = true, .scale = 1});
    problem = problem_of();
    /* [rwkv7] */
    attn_linear rwkv7 = attn_recipe_rwkv7(&problem);
    /* [rwkv7] */
    expect("RWKV-7", &rwkv7, (method){.decay = plain_decay, .low_rank = true, .scale = 1});
    problem = problem_of();
    /* [deltanet] */
    attn_linear deltanet = attn_recipe_deltanet(&problem);
    /* [deltanet] */
    expect("DeltaNet", &deltanet, (method){.unit = true, .delta = true});
    problem = problem_of();
    /* [gated_deltanet] */
    attn_linear gated_deltanet = attn_recipe_gated_deltanet(&problem);
    /* [gated_deltanet] */
    expect("Gated DeltaNet", &gated_deltanet,
           (method){.unit = true, .delta = true, .decay = mamba_decay});
    problem = problem_of();
    /* [kda] */
    attn_linear kda = attn_recipe_kda(&problem, -5); /* the safe gate */
    /* [kda] */
    expect("KDA", &kda, (method){.unit = true, .delta = true, .decay = kda_decay});
    problem = problem_of();
    /* [inline] */
    attn_linear inline_product = attn_recipe_inline(&problem, T);
    /* [inline] */
    compute(&inline_product);
    problem = problem_of();
    /* [agent] */
    attn_dense stage =
        attn_recipe_agent(&problem); /* plan it twice: agents to keys, then queries to agents */
    /* [agent] */
    return failed | (stage.problem != &problem);
}

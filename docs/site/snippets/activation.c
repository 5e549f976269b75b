/* Weights without a softmax: sigmoid with a bias of -log(keys), and ReLU over the number of
 * keys. */
#include "definition.h"

enum { T = 48, H = 4, D = 16 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];

static double sigmoid(double s)
{
    return 1 / (1 + exp(-(s - log(T))));
}
static double relu(double s)
{
    return (s > 0 ? s : 0) / T;
}

static double attend(attn_dense dense, double (*weight)(double))
{
    attn_problem problem = {
        .size = sizeof problem, .q_dtype = ATTN_FLOAT32, .heads_q = H, .dim_qk = D, .max_q = T};
    dense.problem = &problem;
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to}};
    compute_dense(&dense, args, COUNT(args));
    const definition d = {
        .tq = T, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v, .weight = weight};
    return difference(&d, out);
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    /* [sigmoid] */
    attn_dense by_sigmoid = {
        .size = sizeof by_sigmoid, .activation = ATTN_SIGMOID, .activation_bias = -log(T)};
    /* [sigmoid] */
    /* [relu] */
    attn_dense by_relu = {
        .size = sizeof by_relu,
        .activation = ATTN_RELU,
        .activation_length = T}; /* 0 would be the key length of each sequence: here the same */
    /* [relu] */
    const int failed = verdict("sigmoid", attend(by_sigmoid, sigmoid));
    return failed | verdict("ReLU", attend(by_relu, relu));
}

/* Gated attention: a sigmoid gate for every element of OUT; and one for every head, whose
 * channel axis is broadcast. */
#include "definition.h"

enum { T = 40, H = 4, D = 16 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];
static float gates[T * H * D];
static int64_t gate_channels; /* D, or 1 for a gate by head */

static double gated(double x, int64_t h, int64_t i, int64_t c)
{
    const double g = gates[(i * H + h) * gate_channels + c % gate_channels];
    return x / (1 + exp(-g));
}

static double attend(int64_t channels)
{
    /* [plan] */
    const attn_bind binds[] = {
        {.slot = ATTN_SLOT_GATE,
         .flags = channels == 1 ? ATTN_BIND_BROADCAST_AXIS3 : 0}}; /* q_dtype unless said */
    attn_problem problem = {.size = sizeof problem,
                            .binds = binds,
                            .bind_count = COUNT(binds),
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = D,
                            .max_q = T};
    attn_dense dense = {.size = sizeof dense, .problem = &problem, .gate = ATTN_GATE_SIGMOID};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tg = attn_tensor_4d(gates, ATTN_FLOAT32, 1, T, H, channels);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},
                             {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_GATE, 0, &tg},
                             {ATTN_SLOT_OUT, 0, &to}};
    compute_dense(&dense, args, COUNT(args));
    /* [plan] */
    gate_channels = channels;
    const definition d = {
        .tq = T, .heads_q = H, .dim_qk = D, .q = q, .k = k, .v = v, .finish = gated};
    return difference(&d, out);
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v)), fill(gates, COUNT(gates));
    const int failed = verdict("gate by element", attend(D));
    return failed | verdict("gate by head", attend(1));
}

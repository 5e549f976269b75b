/* A convolution and a scan, in two calls with a state between them, against their equations in
 * double precision. */
#define ATTN_EXPERIMENTAL
#include "definition.h"

enum { T = 40, FIRST = 25, H = 2, C = 24, WIDTH = 4 };
static float x[T][H][C], out[T][H][C], weight[H][C][WIDTH], bias[H][C], log_decay[T][H][C];
static float last_tokens[WIDTH - 1][H][C], h[H][C];

/* Tokens first .. first + count - 1 of a tensor by token. */
static attn_tensor rows(float *data, int first, int count)
{
    return attn_tensor_4d(data + first * H * C, ATTN_FLOAT32, 1, count, H, C);
}

static void convolve(attn_handle handle)
{
    /* [conv] */
    attn_bind binds[] = {{.slot = ATTN_SLOT_CONV_BIAS},
                         {.slot = ATTN_SLOT_STATE_IN},
                         {.slot = ATTN_SLOT_STATE_OUT}};
    attn_problem problem = {.size = sizeof problem,
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = C,
                            .max_q = T,
                            .binds = binds,
                            .bind_count = 3};
    attn_conv conv = {
        .size = sizeof conv, .problem = &problem, .width = WIDTH, .activation = ATTN_CONV_SILU};
    attn_plan plan;
    CHECK(attn_plan_conv(handle, &conv, &plan));
    /* [conv] */
    size_t bytes;
    CHECK(attn_plan_workspace(plan, &bytes, NULL));
    void *workspace = malloc(bytes);
    attn_tensor w = attn_tensor_3d(weight, ATTN_FLOAT32, H, C, WIDTH);
    attn_tensor b = attn_tensor_2d(bias, ATTN_FLOAT32, H, C);
    /* [conv_execute] */
    attn_tensor state = attn_tensor_4d(last_tokens, ATTN_FLOAT32, 1, WIDTH - 1, H, C);
    for (int first = 0; first < T; first += FIRST) { /* a prompt, then what follows it */
        const int count = first + FIRST < T ? FIRST : T - first;
        attn_tensor tx = rows(**x, first, count), to = rows(**out, first, count);
        attn_arg args[] = {{ATTN_SLOT_X, 0, &tx},           {ATTN_SLOT_CONV_WEIGHT, 0, &w},
                           {ATTN_SLOT_CONV_BIAS, 0, &b},    {ATTN_SLOT_OUT, 0, &to},
                           {ATTN_SLOT_STATE_IN, 0, &state}, {ATTN_SLOT_STATE_OUT, 0, &state}};
        CHECK(attn_execute(plan, args, COUNT(args), workspace, bytes, NULL));
    }
    /* [conv_execute] */
    free(workspace);
    attn_plan_destroy(plan);
}

static void scan(attn_handle handle)
{
    /* [scan] */
    attn_bind binds[] = {{.slot = ATTN_SLOT_STATE_IN}, {.slot = ATTN_SLOT_STATE_OUT}};
    attn_problem problem = {.size = sizeof problem,
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = H,
                            .dim_qk = C,
                            .max_q = T,
                            .binds = binds,
                            .bind_count = 2};
    attn_scan hgrn = {.size = sizeof hgrn, .problem = &problem, .flags = ATTN_SCAN_LERP};
    attn_plan plan;
    CHECK(attn_plan_scan(handle, &hgrn, &plan));
    /* [scan] */
    size_t bytes;
    CHECK(attn_plan_workspace(plan, &bytes, NULL));
    void *workspace = malloc(bytes);
    attn_tensor state = attn_tensor_3d(h, ATTN_FLOAT32, 1, H, C);
    for (int first = 0; first < T; first += FIRST) {
        const int count = first + FIRST < T ? FIRST : T - first;
        attn_tensor tx = rows(**x, first, count), td = rows(**log_decay, first, count);
        attn_tensor to = rows(**out, first, count);
        attn_arg args[] = {{ATTN_SLOT_X, 0, &tx},
                           {ATTN_SLOT_DECAY, 0, &td},
                           {ATTN_SLOT_OUT, 0, &to},
                           {ATTN_SLOT_STATE_IN, 0, &state},
                           {ATTN_SLOT_STATE_OUT, 0, &state}};
        CHECK(attn_execute(plan, args, COUNT(args), workspace, bytes, NULL));
    }
    free(workspace);
    attn_plan_destroy(plan);
}

static double conv_error(void)
{
    double largest = 0;
    for (int t = 0; t < T; ++t)
        for (int head = 0; head < H; ++head)
            for (int c = 0; c < C; ++c) {
                double y = bias[head][c];
                for (int i = 0; i < WIDTH; ++i)
                    if (t - (WIDTH - 1) + i >= 0)
                        y += (double)weight[head][c][i] * x[t - (WIDTH - 1) + i][head][c];
                const double error = fabs(out[t][head][c] - y / (1 + exp(-y)));
                if (!(error <= largest)) largest = error;
            }
    return largest;
}

static double scan_error(void)
{
    double largest = 0;
    for (int head = 0; head < H; ++head)
        for (int c = 0; c < C; ++c) {
            double state = 0;
            for (int t = 0; t < T; ++t) {
                const double a = exp((double)log_decay[t][head][c]);
                state = a * state + (1 - a) * x[t][head][c];
                const double error = fabs(out[t][head][c] - state);
                if (!(error <= largest)) largest = error;
            }
        }
    return largest;
}

int main(void)
{
    attn_handle handle;
    CHECK(attn_create(NULL, &handle));
    fill(**x, T * H * C);
    fill(**weight, H * C * WIDTH);
    fill(*bias, H * C);
    fill(**log_decay, T * H * C);
    for (int i = 0; i < T * H * C; ++i) (**log_decay)[i] = -fabsf((**log_decay)[i]);
    convolve(handle);
    int failed = verdict("convolution", conv_error());
    scan(handle);
    failed |= verdict("scan", scan_error());
    attn_destroy(handle);
    return failed;
}

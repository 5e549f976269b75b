/* A state that survives its process: prefill of a Gated DeltaNet, save, and a child process that loads the bytes and
 * goes on. The outputs are those of one run, to the last bit. */
#define ATTN_EXPERIMENTAL
#define _POSIX_C_SOURCE 200809L
#include <attn/attn.h>
#include <attn/recipes.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HEADS = 4, DIM = 64, PREFILL = 300, STEPS = 20, TOKENS = PREFILL + STEPS };

static float q[TOKENS][HEADS][DIM], k[TOKENS][HEADS][DIM], v[TOKENS][HEADS][DIM];
static float gate[TOKENS][HEADS], beta[TOKENS][HEADS], a_log[HEADS], dt_bias[HEADS];

static void check(attn_status status)
{
    if (status == ATTN_OK) return;
    fprintf(stderr, "%s: %s\n", attn_status_name(status), attn_last_error());
    exit(1);
}

/* The same inputs in every process. */
static void draw(void)
{
    unsigned state = 7;
    float *const arrays[] = {&q[0][0][0], &k[0][0][0], &v[0][0][0], &gate[0][0], &beta[0][0]};
    const size_t counts[] = {sizeof q, sizeof k, sizeof v, sizeof gate, sizeof beta};
    for (int a = 0; a < 5; ++a)
        for (size_t i = 0; i < counts[a] / sizeof(float); ++i) {
            state = state * 1664525u + 1013904223u;
            arrays[a][i] = (float)(state >> 8) / (float)(1u << 24) - (a < 3 ? 0.5f : 0.0f);
        }
}

/* A plan and its states, in a descriptor that outlives the calls below. */
typedef struct model {
    attn_problem problem;
    attn_linear linear;
    attn_handle handle;
    attn_plan plan;
    void *workspace;
    size_t bytes;
    float state[HEADS][DIM][DIM];
} model;

static void open_model(model *m)
{
    static const attn_bind binds[] = {{.slot = ATTN_SLOT_STATE_IN}, {.slot = ATTN_SLOT_STATE_OUT}};
    memset(m, 0, sizeof *m);
    m->problem = (attn_problem){.size = sizeof m->problem,
                                .binds = binds,
                                .bind_count = 2,
                                .q_dtype = ATTN_FLOAT32,
                                .heads_q = HEADS,
                                .dim_qk = DIM,
                                .max_q = TOKENS};
    m->linear = attn_recipe_gated_deltanet(&m->problem);
    check(attn_create(NULL, &m->handle));
    check(attn_plan_linear(m->handle, &m->linear, &m->plan));
    check(attn_plan_workspace(m->plan, &m->bytes, NULL));
    m->workspace = malloc(m->bytes);
}

static attn_tensor state_of(model *m)
{
    return attn_tensor_4d(m->state, ATTN_FLOAT32, 1, HEADS, DIM, DIM);
}

/* Tokens first .. first + count; the state is updated in place. */
static void run(model *m, int first, int count, float out[][HEADS][DIM])
{
    const attn_tensor tq = attn_tensor_4d(q[first], ATTN_FLOAT32, 1, count, HEADS, DIM);
    const attn_tensor tk = attn_tensor_4d(k[first], ATTN_FLOAT32, 1, count, HEADS, DIM);
    const attn_tensor tv = attn_tensor_4d(v[first], ATTN_FLOAT32, 1, count, HEADS, DIM);
    const attn_tensor to = attn_tensor_4d(out, ATTN_FLOAT32, 1, count, HEADS, DIM);
    const attn_tensor tg = attn_tensor_3d(gate[first], ATTN_FLOAT32, 1, count, HEADS);
    const attn_tensor tb = attn_tensor_3d(beta[first], ATTN_FLOAT32, 1, count, HEADS);
    const attn_tensor ta = attn_tensor_1d(a_log, ATTN_FLOAT32, HEADS),
                      td = attn_tensor_1d(dt_bias, ATTN_FLOAT32, HEADS);
    const attn_tensor ts = state_of(m);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},        {ATTN_SLOT_K, 0, &tk},     {ATTN_SLOT_V, 0, &tv},
                             {ATTN_SLOT_OUT, 0, &to},      {ATTN_SLOT_DECAY, 0, &tg}, {ATTN_SLOT_A_LOG, 0, &ta},
                             {ATTN_SLOT_DT_BIAS, 0, &td},  {ATTN_SLOT_BETA, 0, &tb},  {ATTN_SLOT_STATE_IN, 0, &ts},
                             {ATTN_SLOT_STATE_OUT, 0, &ts}};
    check(attn_execute(m->plan, args, sizeof args / sizeof *args, m->workspace, m->bytes, NULL));
}

static void generate(model *m, float out[STEPS][HEADS][DIM])
{
    for (int t = 0; t < STEPS; ++t) run(m, PREFILL + t, 1, out + t);
}

static void close_model(model *m)
{
    free(m->workspace);
    attn_plan_destroy(m->plan);
    attn_destroy(m->handle);
}

/* The other process: knows the file and its inputs, nothing else. */
static int go_on(const char *path)
{
    static model m;
    static float out[STEPS][HEADS][DIM];
    static char bytes[1 << 20];
    open_model(&m);
    FILE *file = fopen(path, "rb");
    if (!file) return 1;
    const size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    const attn_tensor state = state_of(&m);
    /* [load] */
    int64_t tokens = 0;
    check(attn_state_load(&m.linear, bytes, size, &state, &tokens));
    /* [load] */
    printf("process 2: %zu bytes, the state after %lld tokens\n", size, (long long)tokens);
    generate(&m, out);
    close_model(&m);
    file = fopen(path, "wb");
    if (!file || fwrite(out, sizeof out, 1, file) != 1 || fclose(file) != 0) return 1;
    return 0;
}

int main(int argc, char **argv)
{
    static model m;
    static float prefill[PREFILL][HEADS][DIM], one_run[STEPS][HEADS][DIM], continued[STEPS][HEADS][DIM];
    static char bytes[1 << 20];
    draw();
    if (argc == 2) return go_on(argv[1]);

    open_model(&m);
    run(&m, 0, PREFILL, prefill);
    const attn_tensor state = state_of(&m);
    /* [save] */
    size_t size = 0;
    check(attn_state_save(&m.linear, &state, PREFILL, bytes, sizeof bytes, &size));
    /* [save] */
    char path[] = "/tmp/attn-state-XXXXXX";
    const int descriptor = mkstemp(path);
    FILE *file = descriptor >= 0 ? fdopen(descriptor, "wb") : NULL;
    if (!file || fwrite(bytes, size, 1, file) != 1 || fclose(file) != 0) return perror(path), 1;
    printf("process 1: prefill of %d tokens, state saved in %zu bytes\n", PREFILL, size);
    generate(&m, one_run); /* what one run gives */
    close_model(&m);

    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        execl(argv[0], argv[0], path, (char *)NULL);
        _exit(127);
    }
    int status = 1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        return fprintf(stderr, "process 2 failed\n"), 1;
    file = fopen(path, "rb");
    const int read = file && fread(continued, sizeof continued, 1, file) == 1;
    if (file) fclose(file);
    remove(path);
    const int same = read && memcmp(one_run, continued, sizeof one_run) == 0;
    printf("%d steps in process 2: %s\n", STEPS, same ? "the same bits as one run" : "OTHER BITS than one run");
    return same ? 0 : 1;
}

/* Mask programs: causal documents packed into one row, whose first tokens every query sees; and
 * windows that differ by head and grow with the keys. */
#include "definition.h"

enum { T = 90, H = 4, D = 16, FIRST = 3 };
static float q[T * H * D], k[T * H * D], v[T * H * D], out[T * H * D];
static int32_t document[T];

static bool same_document(int64_t i, int64_t j)
{
    return (document[i] == document[j] && j <= i) || j < FIRST;
}

static bool none(int64_t i, int64_t j)
{
    return i < 0 || j < 0;
}

static int64_t window(int64_t h)
{
    return h == 0 ? 4 : h == 1 ? T : h == 2 ? 10 + T / 4 : 0;
}
static double in_window(double s, int64_t h, int64_t i, int64_t j)
{
    return j <= i && i - j <= window(h) ? s : -INFINITY;
}

static void attend(const attn_program *mask, attn_align align)
{
    attn_problem problem = {
        .size = sizeof problem, .q_dtype = ATTN_FLOAT32, .heads_q = H, .dim_qk = D, .max_q = T};
    attn_dense dense = {
        .size = sizeof dense, .problem = &problem, .mask = mask, .align = align};
    attn_tensor tq = attn_tensor_4d(q, ATTN_FLOAT32, 1, T, H, D),
                tk = attn_tensor_4d(k, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor tv = attn_tensor_4d(v, ATTN_FLOAT32, 1, T, H, D),
                to = attn_tensor_4d(out, ATTN_FLOAT32, 1, T, H, D);
    attn_tensor ids = attn_tensor_2d(document, ATTN_INT32, 1, T);
    const attn_arg args[] = {{ATTN_SLOT_Q, 0, &tq},      {ATTN_SLOT_K, 0, &tk},
                             {ATTN_SLOT_V, 0, &tv},      {ATTN_SLOT_OUT, 0, &to},
                             {ATTN_SLOT_IDS_Q, 0, &ids},   /* implied by ID terms: */
                             {ATTN_SLOT_IDS_KV, 0, &ids}}; /* those of pair 0 */
    compute_dense(&dense, args, mask->terms[0].op == ATTN_MASK_ID_EQ ? 6 : 4);
}

static double by_definition(bool (*visible)(int64_t, int64_t),
                            double (*score)(double, int64_t, int64_t, int64_t))
{
    const definition d = {.tq = T,
                          .heads_q = H,
                          .dim_qk = D,
                          .q = q,
                          .k = k,
                          .v = v,
                          .visible = visible,
                          .score = score};
    return difference(&d, out);
}

int main(void)
{
    fill(q, COUNT(q)), fill(k, COUNT(k)), fill(v, COUNT(v));
    for (int i = 0; i < T; ++i) document[i] = i < 20 ? 7 : i < 55 ? 3 : 4;

    /* [documents] */
    const attn_term documents[] = {{.op = ATTN_MASK_ID_EQ}, /* slots IDS_Q and IDS_KV */
                                   {.op = ATTN_MASK_CAUSAL, .flags = ATTN_TOP_LEFT},
                                   {.op = ATTN_OP_AND},
                                   {.op = ATTN_MASK_PREFIX, .p = {FIRST}},
                                   {.op = ATTN_OP_OR}};
    const attn_program packed = {
        .size = sizeof packed, .terms = documents, .term_count = COUNT(documents)};
    /* [documents] */
    attend(&packed, ATTN_ALIGN_NONE);
    int failed = verdict("documents", by_definition(same_document, NULL));

    /* [table] */
    const double before[H] = {4, INFINITY, 10, 0}; /* keys before the diagonal, by head */
    const double growth[H] = {0, 0, 0.25, 0};      /* and for each key of the sequence */
    const attn_table widths = {.values = before, .slopes = growth, .rows = H, .columns = 1};
    const attn_term windows[] = {
        {.op = ATTN_MASK_BAND, .table = 1}}; /* p[0] by the table, p[1] 0 */
    const attn_program by_head = {.size = sizeof by_head,
                                  .terms = windows,
                                  .term_count = 1,
                                  .tables = &widths,
                                  .table_count = 1};
    /* [table] */
    attend(&by_head, ATTN_TOP_LEFT);
    failed |= verdict("windows by head", by_definition(NULL, in_window));

    const attn_term nothing[] = {{.op = ATTN_MASK_PREFIX}};
    const attn_program empty = {.size = sizeof empty, .terms = nothing, .term_count = 1};
    attend(&empty, ATTN_ALIGN_NONE);
    return failed | verdict("no key at all", by_definition(none, NULL));
}

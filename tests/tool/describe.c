/* Prints the description of a plan, one line: what `attn replay` reads. usage: describe varlen|paged|options|merge */
#include <attn/attn.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static attn_status make_plan(const char *what, attn_handle handle, attn_plan *plan)
{
    attn_problem problem = {0};
    attn_dense dense = {0};
    attn_merge merge = {0};
    attn_bias_table table = {0};
    attn_bind binds[4] = {{0}};
    problem.size = sizeof problem;
    problem.binds = binds;
    problem.q_dtype = ATTN_FLOAT32;
    problem.heads_q = 4;
    problem.heads_k = 2;
    problem.dim_qk = 40;
    problem.batch = 3;
    problem.max_q = 70;
    dense.size = sizeof dense;
    dense.problem = &problem;
    if (strcmp(what, "varlen") == 0) {
        binds[0].slot = ATTN_SLOT_CU_SEQLENS_Q;
        binds[1].slot = ATTN_SLOT_CU_SEQLENS_KV;
        binds[2].slot = ATTN_SLOT_LSE;
        problem.bind_count = 3;
        problem.total_q = 100; /* less than batch * max_q: not all sequences can be long */
        problem.total_kv = 130;
        problem.q_dtype = ATTN_FLOAT16;
        dense.causal = ATTN_BOTTOM_RIGHT;
        dense.flags = ATTN_WINDOW_LEFT;
        dense.window_left = 20;
        dense.sink_tokens = 2;
    } else if (strcmp(what, "paged") == 0) {
        binds[0].slot = ATTN_SLOT_SEQLENS_KV;
        binds[0].dtype = ATTN_INT64;
        binds[1].slot = ATTN_SLOT_BLOCK_TABLE;
        binds[1].dtype = ATTN_INT64;
        problem.bind_count = 2;
        problem.max_q = 1;
        problem.max_kv = 5000;
        problem.page_size = 16;
        problem.k_dtype = ATTN_BFLOAT16;
        problem.scale = 0.1;
    } else if (strcmp(what, "options") == 0) {
        binds[0].slot = ATTN_SLOT_GATE;
        binds[0].flags = ATTN_BIND_BROADCAST_AXIS3;
        binds[1].slot = ATTN_SLOT_SINK_LOGITS;
        binds[2].slot = ATTN_SLOT_ROW_ENTROPY;
        problem.bind_count = 3;
        problem.flags = ATTN_STRICT_NONFINITE;
        table.size = sizeof table;
        table.kind = ATTN_TABLE_BUCKET;
        dense.bias_table = &table;
        dense.align = ATTN_TOP_LEFT;
        dense.softcap = 30;
        dense.gate = ATTN_GATE_SILU;
    } else {
        problem.heads_k = problem.dim_qk = 0;
        problem.dim_v = 40;
        merge.size = sizeof merge;
        merge.problem = &problem;
        merge.parts = 2;
        return attn_plan_merge(handle, &merge, plan);
    }
    return attn_plan_dense(handle, &dense, plan);
}

int main(int argc, char **argv)
{
    attn_handle handle = NULL;
    attn_plan plan = NULL;
    char *text;
    size_t bytes;
    if (argc != 2) return 2;
    if (attn_create(NULL, &handle) || make_plan(argv[1], handle, &plan) || attn_plan_describe(plan, NULL, 0, &bytes))
        return fprintf(stderr, "%s\n", attn_last_error()), 1;
    text = malloc(bytes);
    if (!text || attn_plan_describe(plan, text, bytes, NULL)) return 1;
    puts(text);
    free(text);
    attn_plan_destroy(plan);
    attn_destroy(handle);
    return 0;
}

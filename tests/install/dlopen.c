/* Loads two copies of the library with dlopen and runs attention in both. Arguments: their paths. */
#include <attn/attn.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* POSIX lets the object pointer of dlsym be read as a function pointer; ISO C has no cast for it. */
#define LOAD(name) \
    void *name##_address = dlsym(library, #name); \
    __typeof__(&name) p_##name; \
    memcpy(&p_##name, &name##_address, sizeof p_##name); \
    if (!p_##name) return fprintf(stderr, "%s\n", dlerror()), NAN

static float attend(void *library)
{
    LOAD(attn_create);
    LOAD(attn_destroy);
    LOAD(attn_plan_dense);
    LOAD(attn_plan_workspace);
    LOAD(attn_plan_destroy);
    LOAD(attn_execute);
    LOAD(attn_last_error);

    const float q[] = {1, 0}, k[] = {0, 0, 1.0986123f, 0}, v[] = {0, 4};
    float out = NAN;
    const attn_tensor q_view = attn_tensor_4d(q, ATTN_FLOAT32, 1, 1, 1, 2);
    const attn_tensor k_view = attn_tensor_4d(k, ATTN_FLOAT32, 1, 2, 1, 2);
    const attn_tensor v_view = attn_tensor_4d(v, ATTN_FLOAT32, 1, 2, 1, 1);
    const attn_tensor out_view = attn_tensor_4d(&out, ATTN_FLOAT32, 1, 1, 1, 1);
    const attn_arg args[] = {
        {ATTN_SLOT_Q, 0, &q_view}, {ATTN_SLOT_K, 0, &k_view}, {ATTN_SLOT_V, 0, &v_view}, {ATTN_SLOT_OUT, 0, &out_view}};
    attn_problem problem = {.size = sizeof problem,
                            .q_dtype = ATTN_FLOAT32,
                            .heads_q = 1,
                            .dim_qk = 2,
                            .dim_v = 1,
                            .max_q = 1,
                            .max_kv = 2,
                            .scale = 1};
    attn_dense dense = {.size = sizeof dense, .problem = &problem};
    attn_handle handle = NULL;
    attn_plan plan = NULL;
    size_t bytes = 0;
    if (p_attn_create(NULL, &handle) || p_attn_plan_dense(handle, &dense, &plan) ||
        p_attn_plan_workspace(plan, &bytes, NULL))
        return fprintf(stderr, "%s\n", p_attn_last_error()), NAN;
    void *workspace = bytes ? malloc(bytes) : NULL;
    if (p_attn_execute(plan, args, 4, workspace, bytes, NULL)) fprintf(stderr, "%s\n", p_attn_last_error());
    free(workspace);
    p_attn_plan_destroy(plan);
    p_attn_destroy(handle);
    return out;
}

int main(int argc, char **argv)
{
    void *libraries[2];
    if (argc != 3) return fprintf(stderr, "usage: dlopen LIBRARY COPY\n"), 2;
    for (int i = 0; i < 2; ++i) {
        libraries[i] = dlopen(argv[1 + i], RTLD_NOW | RTLD_LOCAL);
        if (!libraries[i]) return fprintf(stderr, "%s\n", dlerror()), 1;
    }
    int distinct = dlsym(libraries[0], "attn_create") != dlsym(libraries[1], "attn_create");
    float first = attend(libraries[0]), second = attend(libraries[1]), again = attend(libraries[0]);
    dlclose(libraries[0]);
    float after = attend(libraries[1]);
    dlclose(libraries[1]);
    printf("two copies: %g %g %g %g\n", first, second, again, after);
    return distinct && fabsf(first - 3) < 1e-5f && second == first && again == first && after == first ? 0 : 1;
}

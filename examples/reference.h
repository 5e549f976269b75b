/* What the examples share: stopping at an error, input to compute on, and attention written down from its definition.
 */
#ifndef EXAMPLES_REFERENCE_H
#define EXAMPLES_REFERENCE_H

#include <attn/attn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(call) \
    do { \
        if ((call) != ATTN_OK) { \
            fprintf(stderr, "%s\n", attn_last_error()); \
            exit(1); \
        } \
    } while (0)

/* Writes `count` floats in -1 .. 1, the same in every run. */
static inline void fill(float *values, int64_t count)
{
    static uint32_t state = 1;
    for (int64_t n = 0; n < count; ++n) {
        state = state * 1664525u + 1013904223u;
        values[n] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
}

/* Memory filled so. */
static inline float *noise(int64_t count)
{
    float *values = malloc((size_t)count * sizeof *values);
    if (!values) exit(1);
    fill(values, count);
    return values;
}

/* Largest difference between out[channels] and softmax(k q / sqrt(channels)) v over `count` visible keys, whose rows
 * k[j], v[j] may lie anywhere; and between *lse (may be NULL) and the logarithm of the sum. No key: the result is 0. */
static inline double row_error(const float *out, const float *lse, const float *q, const float *const *k,
                               const float *const *v, int64_t count, int64_t channels)
{
    double sum = 0, largest = 0, *weight = malloc((size_t)(count + 1) * sizeof *weight);
    if (!weight) exit(1);
    for (int64_t j = 0; j < count; ++j) {
        double score = 0;
        for (int64_t c = 0; c < channels; ++c) score += (double)q[c] * k[j][c];
        sum += weight[j] = exp(score / sqrt((double)channels));
    }
    if (lse) largest = fabs(*lse - log(sum));
    for (int64_t c = 0; c < channels; ++c) {
        double expected = 0;
        for (int64_t j = 0; j < count; ++j) expected += weight[j] / sum * v[j][c];
        largest = fmax(largest, fabs(out[c] - expected));
    }
    free(weight);
    return largest;
}

#endif

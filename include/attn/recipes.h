/**
 * @file recipes.h
 * @brief Descriptors of the methods of linear attention, with the defaults of their publications.
 *
 * Each function takes a problem whose dtypes, heads, dims and bounds are set, gives it the scale of the method where it
 * has none, and returns a descriptor that points to it. Bind what the call brings beyond that: STATE_IN, STATE_OUT,
 * CU_SEQLENS_Q. The comment names the slots that the descriptor implies, and what is left to the caller: projections,
 * short convolutions, norms and gates of the output. Inline functions: not part of the ABI.
 *
 * @code
 * attn_problem problem = {.size = sizeof problem, .q_dtype = ATTN_BFLOAT16, .heads_q = 8, .dim_qk = 128, .max_q =
 * 4096}; attn_linear kda = attn_recipe_kda(&problem, -5); attn_plan_linear(handle, &kda, &plan);
 * @endcode
 */
#ifndef ATTN_RECIPES_H
#define ATTN_RECIPES_H

#ifndef ATTN_EXPERIMENTAL
#error "attn/recipes.h is experimental: define ATTN_EXPERIMENTAL before including it"
#endif

#include <attn/attn.h>

#include <math.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * @defgroup c_recipes Recipes
 * @brief Inline functions that fill an ::attn_linear for a method.
 * @{
 */

/** @brief What all recipes start from. @param problem the problem @param scale of the method, 0: `1 / sqrt(dim_qk)`
 *  @return an empty descriptor of the problem */
static inline attn_linear attn_recipe_start(attn_problem *problem, double scale)
{
    attn_linear linear;
    memset(&linear, 0, sizeof linear);
    linear.size = sizeof linear;
    linear.problem = problem;
    if (problem->scale == 0) problem->scale = scale;
    return linear;
}

/** @brief Causal linear attention (Katharopoulos et al. 2020): `phi(q).phi(k)`, divided by their sum; eps 1e-10,
 * scale 1.
 *  @param problem the problem @param map ATTN_FEATURE_ELU1 in the paper @return descriptor */
static inline attn_linear attn_recipe_linear(attn_problem *problem, attn_feature_map map)
{
    attn_linear linear = attn_recipe_start(problem, 1);
    linear.feature_map = map;
    linear.flags = ATTN_LINEAR_NORMALISER;
    linear.normaliser_eps = 1e-10;
    return linear;
}

/** @brief Based (Arora et al. 2024): second order Taylor features of 16 channels, normaliser with eps 1e-12.
 *  @param problem the problem @return descriptor */
static inline attn_linear attn_recipe_based(attn_problem *problem)
{
    attn_linear linear = attn_recipe_linear(problem, ATTN_FEATURE_TAYLOR2);
    linear.normaliser_eps = 1e-12;
    return linear;
}

/** @brief Hedgehog (Zhang et al. 2024): learned softmax features, normaliser. Takes FEATURE, index 0 and 1.
 *  @param problem the problem @return descriptor */
static inline attn_linear attn_recipe_hedgehog(attn_problem *problem)
{
    return attn_recipe_linear(problem, ATTN_FEATURE_HEDGEHOG);
}

/** @brief RetNet (Sun et al. 2023). Takes DECAY `[Hv]`, see attn_recipe_retnet_decay(). Q and K come rotated (xPos);
 * the output wants GroupNorm and a swish gate. @param problem the problem @return descriptor */
static inline attn_linear attn_recipe_retnet(attn_problem *problem)
{
    attn_linear linear = attn_recipe_start(problem, 0);
    linear.decay = ATTN_DECAY_HEAD;
    return linear;
}

/** @brief The log decays of RetNet: `log(1 - 2^(-5-h))`. @param[out] decay `[heads]` @param heads their number */
static inline void attn_recipe_retnet_decay(float *decay, int64_t heads)
{
    int64_t h;
    for (h = 0; h < heads; ++h) decay[h] = (float)log1p(-ldexp(1.0, -5 - (int)h));
}

/** @brief Lightning attention of TransNormerLLM (Qin et al. 2024): silu on Q and K here, on V by the caller; scale 1.
 *  Takes DECAY `[Hv]`, see attn_recipe_lightning_decay(). @param problem the problem @return descriptor */
static inline attn_linear attn_recipe_lightning(attn_problem *problem)
{
    attn_linear linear = attn_recipe_start(problem, 1);
    linear.decay = ATTN_DECAY_HEAD;
    linear.feature_map = ATTN_FEATURE_SILU;
    return linear;
}

/** @brief The log decays of TransNormerLLM: `-m_h (1 - layer / (layers - 1) + 1e-5)`, m_h the slopes of ALiBi.
 *  @param[out] decay `[heads]` @param heads their number @param layer from 0 @param layers of the model */
static inline void attn_recipe_lightning_decay(float *decay, int64_t heads, int64_t layer, int64_t layers)
{
    const double depth = layers > 1 ? (double)layer / (double)(layers - 1) : 0;
    int64_t h, power = 1;
    while (power * 2 <= heads) power *= 2;
    for (h = 0; h < heads; ++h) {
        /* Beyond a power of two: every second slope of twice as many heads. */
        const double slope = h < power ? pow(2, -8.0 * (double)(h + 1) / (double)power)
                                       : pow(2, -4.0 * (double)(2 * (h - power) + 1) / (double)power);
        decay[h] = (float)(-slope * (1 - depth + 1e-5));
    }
}

/** @brief Gated linear attention (Yang et al. 2024): DECAY per channel comes as a logit x, `log(sigmoid(x)) / 16`.
 *  @param problem the problem @return descriptor */
static inline attn_linear attn_recipe_gla(attn_problem *problem)
{
    attn_linear linear = attn_recipe_start(problem, 0);
    linear.decay = ATTN_DECAY_CHANNEL;
    linear.decay_form = ATTN_DECAY_LOG_SIGMOID;
    linear.decay_scale = 1.0 / 16;
    return linear;
}

/** @brief HGRN2 (Qin et al. 2024): DECAY per channel is the log of the forget gate f; K is `1 - f`, Q has swish.
 *  @param problem the problem @return descriptor */
static inline attn_linear attn_recipe_hgrn2(attn_problem *problem)
{
    attn_linear linear = attn_recipe_start(problem, 0);
    linear.decay = ATTN_DECAY_CHANNEL;
    return linear;
}

/** @brief Mamba-2 (Dao and Gu 2024): Q is C, K is B, V is `dt x`; DECAY per token is dt before its softplus, with
 * DT_BIAS and A_LOG. Scale 1. The caller adds `D x`. @param problem the problem @return descriptor */
static inline attn_linear attn_recipe_mamba2(attn_problem *problem)
{
    attn_linear linear = attn_recipe_start(problem, 1);
    linear.decay = ATTN_DECAY_TOKEN;
    linear.decay_form = ATTN_DECAY_SOFTPLUS;
    return linear;
}

/** @brief RWKV-6 (Peng et al. 2024): DECAY per channel is `-exp(w)`, BONUS is u; scale 1.
 *  @param problem the problem @return descriptor */
static inline attn_linear attn_recipe_rwkv6(attn_problem *problem)
{
    attn_linear linear = attn_recipe_start(problem, 1);
    linear.decay = ATTN_DECAY_CHANNEL;
    linear.read = ATTN_READ_BEFORE;
    return linear;
}

/** @brief RWKV-7 (Peng et al. 2025): DPLR_B is `kk a`, DPLR_C is `-kk` with kk normalised, K is `k (1 + (a - 1) k_a)`,
 *  DECAY per channel is `-exp(-1/2) sigmoid(w)`; scale 1. @param problem the problem @return descriptor */
static inline attn_linear attn_recipe_rwkv7(attn_problem *problem)
{
    attn_linear linear = attn_recipe_start(problem, 1);
    linear.decay = ATTN_DECAY_CHANNEL;
    linear.decay_lower_bound = -0.60653066;
    linear.update = ATTN_UPDATE_DPLR;
    return linear;
}

/** @brief DeltaNet (Schlag et al. 2021; Yang et al. 2024): BETA in (0, 1) or (0, 2); Q and K are normalised.
 *  @param problem the problem @return descriptor */
static inline attn_linear attn_recipe_deltanet(attn_problem *problem)
{
    attn_linear linear = attn_recipe_start(problem, 0);
    linear.update = ATTN_UPDATE_DELTA;
    linear.flags = ATTN_LINEAR_QK_L2NORM;
    return linear;
}

/** @brief Gated DeltaNet (Yang et al. 2025): as DeltaNet, with DECAY per token `-exp(A_LOG) softplus(x + DT_BIAS)`.
 *  @param problem the problem @return descriptor */
static inline attn_linear attn_recipe_gated_deltanet(attn_problem *problem)
{
    attn_linear linear = attn_recipe_deltanet(problem);
    linear.decay = ATTN_DECAY_TOKEN;
    linear.decay_form = ATTN_DECAY_SOFTPLUS;
    return linear;
}

/** @brief Kimi Delta Attention (Kimi Team 2025): as Gated DeltaNet with DECAY per channel; with a lower bound
 *  `lower_bound sigmoid(exp(A_LOG) (x + DT_BIAS))`. @param problem the problem
 *  @param lower_bound -5 for the safe gate, 0: the softplus form @return descriptor */
static inline attn_linear attn_recipe_kda(attn_problem *problem, double lower_bound)
{
    attn_linear linear = attn_recipe_deltanet(problem);
    linear.decay = ATTN_DECAY_CHANNEL;
    linear.decay_form = lower_bound != 0 ? ATTN_DECAY_SIGMOID : ATTN_DECAY_SOFTPLUS;
    linear.decay_lower_bound = lower_bound;
    return linear;
}

/** @brief Linear attention in both directions, also across sequences: `phi(q).phi(k)`, divided by their sum plus 1e-6.
 *  @param problem the problem @param map ATTN_FEATURE_ELU1 in the literature @return descriptor */
static inline attn_linear attn_recipe_bidirectional(attn_problem *problem, attn_feature_map map)
{
    attn_linear linear = attn_recipe_linear(problem, map);
    linear.flags |= ATTN_LINEAR_BIDIRECTIONAL;
    linear.normaliser_eps = 1e-6;
    return linear;
}

/** @brief InLine attention (Han et al. 2024), its product: OUT is `s/n Q (K^T V)` for n keys, s = `1 / sqrt(dim_qk)`.
 * The caller adds `(1 - s q.mean(k)) mean(v)` to each row, then the convolution.
 *  @param problem the problem @param keys n @return descriptor */
static inline attn_linear attn_recipe_inline(attn_problem *problem, int64_t keys)
{
    attn_linear linear = attn_recipe_start(problem, 1 / (sqrt((double)problem->dim_qk) * (double)keys));
    linear.flags = ATTN_LINEAR_BIDIRECTIONAL;
    return linear;
}

/** @brief Agent attention (Han et al. 2024): dense attention twice, `attention(Q, A, attention(A, K, V))` with agents
 * A; bind BIAS for the biases of a stage. @param problem of one stage: max_q queries (or agents), max_kv agents (or
 * keys)
 *  @return descriptor of a stage, for attn_plan_dense() */
static inline attn_dense attn_recipe_agent(const attn_problem *problem)
{
    attn_dense dense;
    memset(&dense, 0, sizeof dense);
    dense.size = sizeof dense;
    dense.problem = problem;
    return dense;
}

/** @} */

#ifdef __cplusplus
}
#endif

#endif /* ATTN_RECIPES_H */

// Rows of tokens mapped to features and normalised. And log decays of channels after their activation.
// Internal linkage: see simd.h.
#ifndef ATTN_BACKENDS_CPU_LINEAR_CHUNK_ROWS_H
#define ATTN_BACKENDS_CPU_LINEAR_CHUNK_ROWS_H

#include "backends/cpu/linear/kernel.h"
#include "backends/cpu/token_rows.h"

namespace attn::cpu {
namespace {

ATTN_INLINE Vec magnitude(Vec x)
{
    return from_bits(bits(x) & 0x7fffffff);
}

/// log(1 + y) for y in [0, 1]: 2 atanh(y / (2 + y)), relative error below 3e-8 before rounding.
ATTN_INLINE Vec log1p_unit(Vec y)
{
    const Vec s = y / (2.0f + y);
    const Vec square = s * s;
    Vec p = splat(2.0f / 15);
    p = p * square + 2.0f / 13;
    p = p * square + 2.0f / 11;
    p = p * square + 2.0f / 9;
    p = p * square + 2.0f / 7;
    p = p * square + 2.0f / 5;
    p = p * square + 2.0f / 3;
    return s * (2.0f + square * p);
}

ATTN_INLINE Vec softplus(Vec x)
{
    return larger(x, Vec{}) + log1p_unit(exp(-magnitude(x)));
}

/// Zeros from `count` to the end of its vector.
ATTN_INLINE void clear_tail(float *row, int64_t count)
{
    for (int64_t c = count; c < padded(count); ++c) row[c] = 0;
}

inline float sum_of_squares(const float *row, int64_t count)
{
    Vec sum = {};
    for (int64_t c = 0; c < count; c += kWidth) sum += load(row + c) * load(row + c);
    return reduce_add(sum);
}

/// exp(x - max) / sum, in place.
inline void soften_row(float *x, int64_t count)
{
    float top = x[0];
    for (int64_t c = 1; c < count; ++c) top = x[c] > top ? x[c] : top;
    for (int64_t c = count; c < padded(count); ++c) x[c] = kLowest;
    Vec sum = {};
    for (int64_t c = 0; c < count; c += kWidth) {
        const Vec weight = exp(load(x + c) - top);
        store(x + c, weight);
        sum += weight;
    }
    const float factor = 1 / reduce_add(sum);
    for (int64_t c = 0; c < count; c += kWidth) store(x + c, load(x + c) * factor);
}

template <class Function>
ATTN_INLINE void map_each(const float *x, int64_t count, float *out, Function function)
{
    for (int64_t c = 0; c < count; c += kWidth) store(out + c, function(load(x + c)));
}

/// 1, x_i, x_i x_j for i <= j, so weighted that products of two rows are 1 + s + s^2 / 2, s = q.k / sqrt(d).
inline void expand_taylor(const float *x, int64_t d, float *out)
{
    const double root = __builtin_sqrt(static_cast<double>(d));
    const float first = static_cast<float>(1 / __builtin_sqrt(root)), second = static_cast<float>(1 / root);
    const float diagonal = second * 0.70710678118654752f;
    float *next = out;
    *next++ = 1;
    for (int64_t i = 0; i < d; ++i) *next++ = x[i] * first;
    for (int64_t i = 0; i < d; ++i) {
        *next++ = x[i] * x[i] * diagonal;
        const float factor = x[i] * second;
        for (int64_t j = i + 1; j < d; ++j) *next++ = factor * x[j];
    }
}

/// 2 (Wx + b) and its negative. `weights` has rows of W with the entry of b after each.
inline void project_hedgehog(const TokenView &weights, const float *x, int64_t d, float *out)
{
    for (int64_t i = 0; i < d; ++i) {
        const char *row = token_address(weights, i);
        const int64_t step = weights.channel_step * element_bytes(weights.type);
        Vec sum = {};
        for (int64_t c = 0; c < d; c += kWidth) {
            const int64_t some = d - c < kWidth ? d - c : kWidth;
            sum += load(x + c) * read_some(row + c * step, weights.type, weights.channel_step, some);
        }
        const float y = 2 * (reduce_add(sum) + read_float(row + d * step, weights.type));
        out[i] = y, out[d + i] = -y;
    }
}

/// Features of a row: `x` has dim_qk channels, `out` gets dim_k, both with zeros up to a whole vector.
inline void map_row(const LinearShape &shape, const TokenView &weights, const float *x, float *out)
{
    const int64_t d = shape.dim_qk;
    switch (shape.feature_map) {
    case FeatureMap::identity:
        map_each(x, d, out, [](Vec v) { return v; });
        break;
    case FeatureMap::elu1:
        map_each(x, d, out, [](Vec v) { return v > 0 ? v + 1.0f : exp(v); });
        break;
    case FeatureMap::relu:
        map_each(x, d, out, [](Vec v) { return v < 0 ? Vec{} : v; });
        break;
    case FeatureMap::silu:
        map_each(x, d, out, [](Vec v) { return v * sigmoid(v); });
        break;
    case FeatureMap::softmax:
        map_each(x, d, out, [](Vec v) { return v; });
        soften_row(out, d);
        break;
    case FeatureMap::taylor2:
        expand_taylor(x, d, out);
        break;
    case FeatureMap::hedgehog:
        project_hedgehog(weights, x, d, out);
        soften_row(out, 2 * d);
        break;
    }
    clear_tail(out, shape.dim_k);
    if (!shape.l2norm) return;
    const float factor = 1 / __builtin_sqrtf(sum_of_squares(out, shape.dim_k) + 1e-6f);
    for (int64_t c = 0; c < shape.dim_k; c += kWidth) store(out + c, load(out + c) * factor);
}

/// Natural log decays of all channels of a token.
inline void read_log_decays(const LinearShape &shape, const LinearTask &task, float rate, int64_t token,
                            const float *dt_bias, float *out)
{
    read_row(task.decay, token, shape.dim_k, out);
    switch (shape.decay_form) {
    case DecayForm::log:
        return;
    case DecayForm::softplus:
        for (int64_t c = 0; c < shape.dim_k; c += kWidth)
            store(out + c, -rate * softplus(load(out + c) + load(dt_bias + c)));
        break;
    case DecayForm::sigmoid:
        for (int64_t c = 0; c < shape.dim_k; c += kWidth)
            store(out + c, shape.lower_bound * sigmoid(rate * (load(out + c) + load(dt_bias + c))));
        break;
    case DecayForm::log_sigmoid:
        for (int64_t c = 0; c < shape.dim_k; c += kWidth) store(out + c, -shape.decay_scale * softplus(-load(out + c)));
        break;
    }
    clear_tail(out, shape.dim_k);
}

} // namespace
} // namespace attn::cpu

#endif

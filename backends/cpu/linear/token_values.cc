#include "backends/cpu/linear/token_values.h"

#include "backends/cpu/element_vectors.h"

#include <algorithm>
#include <cmath>

namespace attn::cpu {
namespace {

double softplus(double x)
{
    return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

double sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}

void soften(double *x, int64_t count)
{
    const double top = *std::max_element(x, x + count);
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += x[i] = std::exp(x[i] - top);
    for (int64_t i = 0; i < count; ++i) x[i] /= sum;
}

void map_features(const LinearShape &shape, const TokenView &weights, const double *x, double *out)
{
    const int64_t d = shape.dim_qk;
    switch (shape.feature_map) {
    case FeatureMap::identity:
        std::copy(x, x + d, out);
        break;
    case FeatureMap::elu1:
        for (int64_t i = 0; i < d; ++i) out[i] = x[i] > 0 ? x[i] + 1 : std::exp(x[i]);
        break;
    case FeatureMap::relu:
        for (int64_t i = 0; i < d; ++i) out[i] = x[i] < 0 ? 0 : x[i];
        break;
    case FeatureMap::silu:
        for (int64_t i = 0; i < d; ++i) out[i] = x[i] * sigmoid(x[i]);
        break;
    case FeatureMap::softmax:
        std::copy(x, x + d, out);
        soften(out, d);
        break;
    case FeatureMap::taylor2: {
        const double root = std::sqrt(static_cast<double>(d));
        double *next = out;
        *next++ = 1;
        for (int64_t i = 0; i < d; ++i) *next++ = x[i] / std::sqrt(root);
        for (int64_t i = 0; i < d; ++i) {
            *next++ = x[i] * x[i] / (root * std::sqrt(2.0));
            for (int64_t j = i + 1; j < d; ++j) *next++ = x[i] * x[j] / root;
        }
        break;
    }
    case FeatureMap::hedgehog:
        for (int64_t i = 0; i < d; ++i) {
            double y = value_at(weights, i, d);
            for (int64_t j = 0; j < d; ++j) y += value_at(weights, i, j) * x[j];
            out[i] = 2 * y, out[d + i] = -2 * y;
        }
        soften(out, 2 * d);
        break;
    }
    if (!shape.l2norm) return;
    double sum = 1e-6;
    for (int64_t i = 0; i < shape.dim_k; ++i) sum += out[i] * out[i];
    for (int64_t i = 0; i < shape.dim_k; ++i) out[i] /= std::sqrt(sum);
}

} // namespace

double read_real(const char *p, Element type) noexcept
{
    return static_cast<double>(read_float(p, type));
}

double value_at(const TokenView &view, int64_t token, int64_t channel) noexcept
{
    return read_real(token_address(view, token) + channel * view.channel_step * element_bytes(view.type), view.type);
}

void read_query(const LinearShape &shape, const LinearTask &task, int64_t r, int64_t token, double *row,
                double *features) noexcept
{
    TokenView q = task.q, weights = task.q_feature;
    q.base += r * task.q_head_step;
    if (weights.base) weights.base += r * task.q_feature_head_step;
    for (int64_t i = 0; i < shape.dim_qk; ++i) row[i] = value_at(q, token, i);
    map_features(shape, weights, row, features);
}

void read_key(const LinearShape &shape, const LinearTask &task, int64_t token, double *row, double *features) noexcept
{
    for (int64_t i = 0; i < shape.dim_qk; ++i) row[i] = value_at(task.k, token, i);
    map_features(shape, task.k_feature, row, features);
}

double log_decay(const LinearShape &shape, const LinearTask &task, int64_t token, int64_t channel) noexcept
{
    if (shape.decay == Decay::none) return 0;
    const double x = value_at(task.decay, token, channel);
    switch (shape.decay_form) {
    case DecayForm::log:
        return x;
    case DecayForm::softplus:
        return -std::exp(value_at(task.a_log, 0, 0)) * softplus(x + value_at(task.dt_bias, 0, channel));
    case DecayForm::sigmoid:
        return static_cast<double>(shape.lower_bound) *
               sigmoid(std::exp(value_at(task.a_log, 0, 0)) * (x + value_at(task.dt_bias, 0, channel)));
    case DecayForm::log_sigmoid:
        return -static_cast<double>(shape.decay_scale) * softplus(-x);
    }
    return x;
}

} // namespace attn::cpu

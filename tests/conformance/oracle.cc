#include "oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace conformance {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

double dot(const double *a, const double *b, std::int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t c = 0; c < n; ++c) sum += a[c] * b[c];
    return sum;
}

double sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}

double gate_factor(attn_gate kind, double g)
{
    if (kind == ATTN_GATE_LINEAR) return g;
    return kind == ATTN_GATE_SILU ? g * sigmoid(g) : sigmoid(g);
}

// Biases that have a stage: tensor, ALiBi, table.
struct StagedBias {
    double tensor = 0, alibi = 0, table = 0;
};

StagedBias staged_bias(const Options &o, const Sequence &s, std::int64_t h, std::int64_t i, std::int64_t j)
{
    StagedBias bias;
    if (!s.bias.empty()) bias.tensor = s.bias[(h * s.tq + i) * s.tk + j];
    if (!s.alibi_slopes.empty())
        bias.alibi = -s.alibi_slopes[h] * std::abs(static_cast<double>(distance(s, o.diagonal(), i, j)));
    if (o.bias_table) bias.table = s.bias_table[table_entry(*o.bias_table, s, o.diagonal(), i, j) * s.heads_out() + h];
    return bias;
}

struct Score {
    double value; // what the activation sees
    // What its rounding follows: the sizes of all that is added up, however small the sum.
    double product_size; // before softcap and bias
    double size;
};

// A sum of products, and its size: what it is, or would be if its terms were independent and did not happen to cancel.
struct Product {
    double value, size;
    Product(const double *a, const double *b, std::int64_t n, double factor) : value(factor * dot(a, b, n))
    {
        double squares = 0;
        for (std::int64_t c = 0; c < n; ++c) squares += (a[c] * b[c]) * (a[c] * b[c]);
        size = std::max(std::abs(value), std::abs(factor) * std::sqrt(squares));
    }
};

// scale * temperature * (q.k) + low-rank bias, softcap, bias
Score score(const Options &o, const Sequence &s, std::int64_t h, std::int64_t i, std::int64_t j)
{
    const std::int64_t ho = s.heads_out(), hq = s.q_head(h), hk = s.k_head(h);
    const double temperature = s.q_temperature.empty() ? 1.0 : s.q_temperature[i * s.heads_q + hq];
    const Product product(&s.q[(i * s.heads_q + hq) * s.dim_qk], &s.k[(j * s.heads_k + hk) * s.dim_qk], s.dim_qk,
                          o.scale * temperature);
    double x = product.value, size = product.size;
    if (o.bias_rank > 0) {
        const Product lowrank(&s.lowrank_q[(i * ho + h) * o.bias_rank], &s.lowrank_k[(j * ho + h) * o.bias_rank],
                              o.bias_rank, 1);
        x += lowrank.value, size += lowrank.size;
    }
    const double product_size = size;
    const StagedBias staged = staged_bias(o, s, h, i, j);
    const double bias = staged.tensor + staged.alibi + staged.table;
    const double bias_size = std::abs(staged.tensor) + std::abs(staged.alibi) + std::abs(staged.table);
    if (o.bias_stage == ATTN_BIAS_PRE_SOFTCAP) x += bias, size += bias_size;
    if (o.softcap != 0) { // passes rounding on as its slope says, and adds its own
        const double capped = std::tanh(x / o.softcap);
        x = o.softcap * capped;
        size = std::max(size * (1 - capped * capped), std::abs(x));
    }
    if (o.bias_stage == ATTN_BIAS_POST_SOFTCAP) x += bias, size += bias_size;
    if (o.activation == ATTN_SIGMOID) size += std::abs(o.activation_bias);
    return {x, product_size, size};
}

// The weight of a key as far as its rounding goes. ReLU passes the rounding of the score on, unless the score is
// clearly negative.
double weight_size(const Options &o, const Sequence &s, const Score &score, double weight)
{
    if (o.activation != ATTN_RELU) return weight;
    if (score.value < -1e-4 * score.size) return 0;
    return score.size / static_cast<double>(o.activation_length ? o.activation_length : s.tk);
}

// Turns the scores of the visible keys of a row into weights, in place, and fills the row's statistics.
void activate(const Options &o, const Sequence &s, std::int64_t h, std::int64_t i, std::vector<double> &p, Result &r)
{
    const std::int64_t at = h * s.tq + i;
    const double largest = p.empty() ? -infinity : *std::max_element(p.begin(), p.end());
    r.row_max[at] = largest;
    if (o.activation == ATTN_SIGMOID) {
        for (double &x : p) x = sigmoid(x + o.activation_bias);
        return;
    }
    if (o.activation == ATTN_RELU) {
        const double length = static_cast<double>(o.activation_length ? o.activation_length : s.tk);
        for (double &x : p) x = std::max(x, 0.0) / length;
        return;
    }
    const double sink = s.sink_logits.empty() ? -infinity : s.sink_logits[h];
    const double top = std::max(largest, sink);
    if (top == -infinity) { // an empty row, or one whose every score is -inf
        r.lse[at] = -infinity;
        std::fill(p.begin(), p.end(), 0.0);
        return;
    }
    double sum = std::exp(sink - top);
    for (double x : p) sum += std::exp(x - top);
    r.lse[at] = top + std::log(sum);
    for (double &x : p) {
        const double weight = std::exp(x - r.lse[at]);
        if (weight > 0) r.row_entropy[at] -= weight * (x - r.lse[at]);
        x = weight;
    }
}

} // namespace

std::int64_t Sequence::heads_out() const
{
    return std::max({heads_q, heads_k, heads_v});
}

Result attention(const Options &o, const Sequence &s)
{
    const std::int64_t ho = s.heads_out();
    Result r;
    r.out.assign(s.tq * ho * s.dim_v, 0.0);
    r.natural_size.assign(s.tq * ho, 0.0);
    r.lse.assign(ho * s.tq, 0.0);
    r.row_max.assign(ho * s.tq, -infinity);
    r.row_entropy.assign(ho * s.tq, 0.0);
    r.largest_score.assign(ho * s.tq, 0.0);
    r.column_mass.assign(ho * s.tk, 0.0);
    r.largest_biased.assign(ho * s.tq, 0.0);

    std::vector<std::int64_t> keys; // that the row sees
    std::vector<double> p;          // their scores, then their weights
    std::vector<Score> scores;
    for (std::int64_t h = 0; h < ho; ++h) {
        for (std::int64_t i = 0; i < s.tq; ++i) {
            keys.clear(), p.clear(), scores.clear();
            for (std::int64_t j = 0; j < s.tk; ++j) {
                if (!visible(o, s, h, i, j)) continue;
                const Score x = score(o, s, h, i, j);
                keys.push_back(j), p.push_back(x.value), scores.push_back(x);
                double &largest = r.largest_score[h * s.tq + i];
                largest = std::max(largest, x.product_size);
            }
            activate(o, s, h, i, p, r);
            const double heaviest = p.empty() ? 0.0 : *std::max_element(p.begin(), p.end());
            for (std::size_t n = 0; n < p.size(); ++n) {
                double &largest = r.largest_biased[h * s.tq + i];
                if (p[n] > 0 && p[n] >= heaviest / 1000) largest = std::max(largest, scores[n].size);
            }

            double *out = &r.out[(i * ho + h) * s.dim_v];
            double squares = 0;
            for (std::size_t n = 0; n < keys.size(); ++n) {
                const std::int64_t j = keys[n], hv = s.v_head(h);
                const double sigma = s.v_temperature.empty() ? 1.0 : s.v_temperature[j * s.heads_v + hv];
                const double weight = p[n] * sigma, *v = &s.v[(j * s.heads_v + hv) * s.dim_v];
                for (std::int64_t c = 0; c < s.dim_v; ++c) out[c] += weight * v[c];
                const double size = weight_size(o, s, scores[n], p[n]) * sigma;
                squares += size * size * dot(v, v, s.dim_v);
                r.column_mass[h * s.tk + j] += p[n];
            }
            const double head_weight = s.head_weight.empty() ? 1.0 : s.head_weight[i * ho + h];
            double largest_factor = std::abs(head_weight);
            for (std::int64_t c = 0; c < s.dim_v; ++c) {
                double factor = head_weight;
                if (!s.gate.empty()) factor *= gate_factor(o.gate, s.gate[(i * ho + h) * s.dim_v + c]);
                out[c] *= factor;
                largest_factor = c == 0 ? std::abs(factor) : std::max(largest_factor, std::abs(factor));
            }
            r.natural_size[i * ho + h] = std::sqrt(squares) * largest_factor;
        }
    }
    return r;
}

} // namespace conformance

// From the sums of a row to its results: normalisation with the sink, LSE and statistics, gate and head weight. Used by
// the forward kernel and by the one that combines splits.
#ifndef ATTN_BACKENDS_GPU_DENSE_RESULTS_CUH
#define ATTN_BACKENDS_GPU_DENSE_RESULTS_CUH

#include "backends/gpu/dense/sequence.cuh"

namespace attn::gpu {

/// Weights of sigmoid that are multiplied as halves are so many times as large, as those end at 2^-14: at most 2^15.
/// What is summed is divided again; both are exact.
template <Element type>
constexpr float kSigmoidUnit = type == kFloat16 ? 32768.0f : 1.0f;

/// What the keys of a row leave: the reference of its weights in units of 1 / log2(e) (the largest score), the sum of
/// weights, and the sum of weight times distance of the score from the reference.
struct RowSums {
    float max, sum, spread;
};

/// What multiplies the unnormalised output of a row; `zero`: nothing does, it is 0.
struct RowFactor {
    float factor;
    bool zero;
};

ATTN_DEVICE void write_statistic(const ForwardParams &p, const ScoreView &v, const Sequence &s, int token, int head,
                                 float value)
{
    if (!v.base) return;
    *reinterpret_cast<float *>(const_cast<char *>(score_row(p, v, s, token, head))) = value;
}

/// Element of [batch, token, head] of a tensor by token and head.
ATTN_DEVICE const char *token_address(const ForwardParams &p, const TokenView &v, const Sequence &s, int token,
                                      int head)
{
    const i64 row =
        p.sequences.cu_q.base ? (s.q_first + token) * v.token_step : s.index * v.batch_step + token * v.token_step;
    return v.base + row + head * v.head_step;
}

/// Finishes a row: its factor, and where `writes`, its LSE and statistics.
template <bool general>
ATTN_DEVICE RowFactor finish_row(const ForwardParams &p, const Sequence &s, int token, int head, RowSums row,
                                 bool writes)
{
    const bool softmax = !general || p.activation == kSoftmax;
    RowFactor result = {1.0f, softmax && row.sum == 0.0f};
    float lse = -infinity(), entropy = 0.0f;
    if (softmax) {
        float total = row.sum, max = row.max, factor = 1.0f;
        if (general && p.sinks) {
            const float sink = *reinterpret_cast<const float *>(p.sinks + head * p.sink_step);
            const float sink2 = sink * kLog2e;
            if (result.zero) {
                lse = sink;
            } else if (sink2 > max) { // the sink is the reference
                factor = exp2_fast(max - sink2);
                total = fmaf(total, factor, 1.0f);
                max = sink2;
            } else {
                total += exp2_fast(sink2 - max);
            }
        }
        if (!result.zero) {
            lse = (max + log2_fast(total)) * kLn2;
            // Sum of p (LSE - s), s = row.max + distance.
            if (general && p.has_entropy)
                entropy =
                    ((log2_fast(total) + max - row.max) * (row.sum * factor) - row.spread * factor) / total * kLn2;
            result.factor = factor / total;
        }
    }
    if (writes) {
        write_statistic(p, p.lse, s, token, head, lse);
        if (general) {
            write_statistic(p, p.row_max, s, token, head, row.max / p.unit);
            write_statistic(p, p.row_entropy, s, token, head, entropy);
            if (p.row_scales) { // a row that saw nothing gets a reference that leaves its weights 0
                float *scale =
                    p.row_scales + 2 * ((static_cast<i64>(s.index) * p.heads_out + head) * p.sequences.max_q + token);
                scale[0] = row.max == -infinity() ? 0.0f : row.max;
                scale[1] = result.factor;
            }
        }
    }
    if (general && p.head_weight.base) {
        const float weight = read_element(token_address(p, p.head_weight, s, token, head), p.head_weight.type);
        result.factor *= weight;
        result.zero |= weight == 0.0f; // exactly 0, whatever the row holds
    }
    return result;
}

ATTN_DEVICE float gate_factor(const ForwardParams &p, const char *gate, int channel)
{
    const float g = read_element(gate + channel * p.gate_values.channel_step, p.gate_values.type);
    if (p.gate == kGateLinear) return g;
    const float sigmoid = sigmoid2(g * kLog2e);
    return p.gate == kGateSilu ? g * sigmoid : sigmoid;
}

/// One element of OUT.
template <bool general>
ATTN_DEVICE float finish_element(const ForwardParams &p, const RowFactor &row, const char *gate, int channel, float o)
{
    if (row.zero) return 0.0f;
    float x = o * row.factor;
    if (general && gate) x *= gate_factor(p, gate, channel);
    return x;
}

} // namespace attn::gpu

#endif

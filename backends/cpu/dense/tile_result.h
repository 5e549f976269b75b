// Results of a row: normalised, gated output with its LSE and statistics, or a partial result.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_RESULT_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_RESULT_H

#include "backends/cpu/dense/tile_memory.h"

namespace attn::cpu {
namespace {

/// What the passes over the keys leave of a row: unnormalised output, maximum, sum of weights, and the sum of weight
/// times distance of the score from the maximum.
struct RowState {
    const float *o;
    float max, sum, spread;
};

constexpr double kLn2 = 0.69314718055994531;

/// Gate of kWidth channels, from channel c.
inline Vec gate_vector(const ForwardShape &shape, const TokenRows &gate, const char *row, int64_t c)
{
    const int64_t count = smaller_of(kWidth, shape.dim_v - c);
    const int64_t step = gate.channel_step / element_bytes(gate.type);
    return gate_value(shape.gate, read_some(row + c * gate.channel_step, gate.type, step, count));
}

ATTN_INLINE void write_statistic(const TokenOutput &output, const RowPlace &at, double value)
{
    if (!output.base) return;
    write_element(output.base + at.token * output.token_step + at.head * output.head_step, Element::float32,
                  static_cast<float>(value));
}

/// Sum of weights with the sink logit in it, relative to 2^max as `sum` is; the factor of the output, LSE and entropy.
struct Normaliser {
    bool empty; ///< No key seen; a NaN is not empty.
    float factor;
    double lse = -__builtin_inf(), entropy = 0;

    Normaliser(const ForwardShape &shape, const ForwardTile &tile, const RowPlace &at, const RowState &row)
        : empty(shape.weight == Weight::softmax && row.sum == 0.0f), factor(1.0f)
    {
        if (shape.weight != Weight::softmax) return; // such weights sum to what they are
        double total = row.sum, max = row.max;
        if (tile.sinks) {
            const double sink =
                static_cast<double>(read_float(tile.sinks + at.head * tile.sink_step, Element::float32)) *
                static_cast<double>(shape.unit);
            if (empty) {
                lse = sink * kLn2;
            } else if (sink > max) { // the sink is the maximum
                const double shrink = __builtin_exp2(max - sink);
                total = total * shrink + 1;
                factor = static_cast<float>(shrink);
                max = sink;
            } else {
                total += __builtin_exp2(sink - max);
            }
        }
        if (empty) return;
        lse = (max + __builtin_log2(total)) * kLn2;
        // sum of p (LSE - s), s = row.max + distance
        const double kept = static_cast<double>(row.sum) * static_cast<double>(factor);
        const double spread = static_cast<double>(row.spread) * static_cast<double>(factor);
        if (shape.has_entropy)
            entropy = ((__builtin_log2(total) + max - static_cast<double>(row.max)) * kept - spread) / total * kLn2;
        factor = static_cast<float>(static_cast<double>(factor) / total);
    }
};

/// A row that saw no key, or only keys of score -inf, gets a reference that leaves their weights 0.
ATTN_INLINE void write_scale(const TokenOutput &output, const RowPlace &at, float max, float factor)
{
    if (!output.base) return;
    const RowScale scale = {max == kLowest ? 0.0f : max, factor};
    __builtin_memcpy(output.base + at.token * output.token_step + at.head * output.head_step, &scale, sizeof scale);
}

/// Normalises one row and writes it, with what else is wanted of it.
inline void write_row(const ForwardShape &shape, const ForwardTile &tile, int64_t row, const RowState &state)
{
    const RowPlace at(shape, tile, row);
    const Normaliser normaliser(shape, tile, at, state);
    float factor = normaliser.factor;
    bool zero = normaliser.empty;
    if (tile.head_weight.base) {
        const float weight = read_float(token_row(tile.head_weight, at.token, at.head), Element::float32);
        factor *= weight;
        zero |= weight == 0.0f; // exactly 0, whatever the row holds
    }
    const char *gate = tile.gate.base ? token_row(tile.gate, at.token, at.head) : nullptr;
    char *out = tile.out + at.token * tile.out_token_step + at.head * tile.out_head_step;
    const int64_t step = tile.out_channel_step * element_bytes(shape.out_type);
    for (int64_t c = 0; c < shape.dim_v; c += kWidth) {
        Vec value = load(state.o + c) * factor;
        if (zero)
            value = Vec{};
        else if (gate)
            value *= gate_vector(shape, tile.gate, gate, c);
        write_some(out + c * step, shape.out_type, tile.out_channel_step, smaller_of(kWidth, shape.dim_v - c), value);
    }
    write_statistic(tile.lse, at, normaliser.lse);
    write_statistic(tile.row_max, at, static_cast<double>(state.max) / static_cast<double>(shape.unit));
    write_statistic(tile.row_entropy, at, normaliser.entropy);
    write_scale(tile.row_scale, at, state.max, normaliser.factor);
}

inline void write_partial(const ForwardShape &shape, const ForwardTile &tile, int64_t row, const RowState &state)
{
    float *out = tile.partial + row * shape.dim_v;
    for (int64_t c = 0; c < shape.dim_v; ++c) out[c] = state.o[c];
    float *statistics = tile.partial + shape.partial_rows * shape.dim_v + row;
    statistics[0] = state.max;
    statistics[shape.partial_rows] = state.sum;
    statistics[2 * shape.partial_rows] = state.spread;
}

} // namespace
} // namespace attn::cpu

#endif

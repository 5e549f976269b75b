// Decays of a chunk: sums of log decays from its start, and the factors that follow from them.
//
// Every factor of a chunk is relative to the state before it: a query (or what is read of the state) is multiplied by
// e^G, a key that is written by e^-G, G being the sum of log decays up to its token. So that no factor leaves the range
// of float a chunk ends before the first token that would bring |G| of any channel beyond kLargestExponent; which token
// that is depends on the tokens before it alone. A token that is beyond by itself is a step of the recurrence.
//
// Sums are kept in double and as powers of 2: the whole part of an exponent is exact, the rest within [-1/2, 1/2], so a
// factor has the accuracy of a float however many tokens it spans. Internal linkage: see simd.h.
#ifndef ATTN_BACKENDS_CPU_LINEAR_CHUNK_DECAY_H
#define ATTN_BACKENDS_CPU_LINEAR_CHUNK_DECAY_H

#include "backends/cpu/linear/chunk_rows.h"
#include "backends/cpu/linear/token_values.h"

namespace attn::cpu {
namespace {

constexpr float kLargestExponent = 60; ///< Of 2: leaves 2^67 for the values that a factor multiplies.
constexpr double kLog2e = 1.44269504088896340736;

/// Factors by channel of the state, whole vectors; all alike where the decay is not by channel.
struct Decays {
    double *sums;   ///< [channels], in units of log(2).
    float *whole;   ///< [channels], the nearest integers.
    float *rest;    ///< [channels], sums - whole.
    float *row;     ///< [channels], log decays of a token.
    float *dt_bias; ///< [channels].
    float *before;  ///< [channels], 2^sums without the last token.
    float *forward; ///< [channels], 2^sums.
    float *back;    ///< [channels], 2^-sums.
    int64_t channels;
    float rate; ///< exp(A_LOG).
};

ATTN_INLINE void fill(float *p, int64_t count, float x)
{
    for (int64_t c = 0; c < count; c += kWidth) store(p + c, splat(x));
}

/// Reads what all tokens share.
inline void start_decays(const LinearShape &shape, const LinearTask &task, Decays *d)
{
    d->rate = 1;
    if (shape.decay != Decay::channel) return;
    if (shape.decay_form != DecayForm::softplus && shape.decay_form != DecayForm::sigmoid) return;
    d->rate = static_cast<float>(__builtin_exp(static_cast<double>(read_one(task.a_log, 0))));
    read_row(task.dt_bias, 0, shape.dim_k, d->dt_bias);
}

/// Sums start at 0, a new chunk.
inline void reset_decays(Decays *d)
{
    for (int64_t c = 0; c < d->channels; ++c) d->sums[c] = 0;
    fill(d->before, d->channels, 1);
    fill(d->forward, d->channels, 1);
    fill(d->back, d->channels, 1);
}

/// 2^(whole + rest) for integers |whole| < 127 and |rest| <= 1/2.
ATTN_INLINE Vec power_of_two(Vec whole, Vec rest)
{
    const VecI exponent = __builtin_convertvector(whole, VecI) + 127;
    return exp2_fraction<6>(rest) * from_bits(exponent << 23);
}

/// Splits sums into integers and the rest. Adding 1.5 * 2^52 rounds a double.
inline void split_sums(const double *sums, int64_t count, float *whole, float *rest)
{
    constexpr double kRound = 6755399441055744.0;
    for (int64_t c = 0; c < count; ++c) {
        const double nearest = (sums[c] + kRound) - kRound;
        whole[c] = static_cast<float>(nearest);
        rest[c] = static_cast<float>(sums[c] - nearest);
    }
}

/// Adds the log decay of a token. False, with no factor changed, where a sum leaves the range (or is not a number).
inline bool add_decays(const LinearShape &shape, const LinearTask &task, int64_t token, Decays *d)
{
    if (shape.decay == Decay::none) return true;
    float *before = d->before;
    if (shape.decay != Decay::channel) {
        const double sum = d->sums[0] + log_decay(shape, task, token, 0) * kLog2e;
        if (!(sum <= kLargestExponent && sum >= -kLargestExponent)) return false;
        d->sums[0] = sum;
        const double factor = __builtin_exp(sum / kLog2e);
        d->before = d->forward, d->forward = before;
        fill(d->forward, d->channels, static_cast<float>(factor));
        fill(d->back, d->channels, static_cast<float>(1 / factor));
        return true;
    }
    read_log_decays(shape, task, d->rate, token, d->dt_bias, d->row);
    for (int64_t c = 0; c < d->channels; ++c) d->sums[c] += static_cast<double>(d->row[c]) * kLog2e;
    split_sums(d->sums, d->channels, d->whole, d->rest);
    VecI within = VecI{} - 1;
    for (int64_t c = 0; c < d->channels; c += kWidth) within &= magnitude(load(d->whole + c)) <= kLargestExponent;
    for (int i = 0; i < kWidth; ++i)
        if (!within[i]) return false;
    d->before = d->forward, d->forward = before;
    for (int64_t c = 0; c < d->channels; c += kWidth) {
        const Vec whole = load(d->whole + c), rest = load(d->rest + c);
        store(d->forward + c, power_of_two(whole, rest));
        store(d->back + c, power_of_two(-whole, -rest));
    }
    return true;
}

/// The decays of all tokens of a task together, for each channel of the state.
inline void multiply_decays(const LinearShape &shape, const LinearTask &task, Decays *d, float *out)
{
    start_decays(shape, task, d);
    for (int64_t c = 0; c < d->channels; ++c) d->sums[c] = 0;
    if (shape.decay == Decay::head) d->sums[0] = static_cast<double>(task.keys) * log_decay(shape, task, 0, 0);
    if (shape.decay == Decay::token)
        for (int64_t token = 0; token < task.keys; ++token) d->sums[0] += log_decay(shape, task, token, 0);
    if (shape.decay == Decay::channel)
        for (int64_t token = 0; token < task.keys; ++token) {
            read_log_decays(shape, task, d->rate, token, d->dt_bias, d->row);
            for (int64_t c = 0; c < d->channels; ++c) d->sums[c] += static_cast<double>(d->row[c]);
        }
    for (int64_t c = 0; c < shape.dim_k; ++c)
        out[c] = static_cast<float>(__builtin_exp(d->sums[shape.decay == Decay::channel ? c : 0]));
}

/// The decay of one token by itself, in `forward`; any log decay.
inline void single_decay(const LinearShape &shape, const LinearTask &task, int64_t token, Decays *d)
{
    if (shape.decay == Decay::none) return;
    if (shape.decay != Decay::channel)
        return fill(d->forward, d->channels, static_cast<float>(__builtin_exp(log_decay(shape, task, token, 0))));
    read_log_decays(shape, task, d->rate, token, d->dt_bias, d->row);
    for (int64_t c = 0; c < d->channels; ++c) d->sums[c] = static_cast<double>(d->row[c]) * kLog2e;
    split_sums(d->sums, d->channels, d->whole, d->rest);
    // The whole part alone is a power of 2; multiplied one by one nothing overflows that the product does not.
    for (int64_t c = 0; c < d->channels; c += kWidth) {
        const Vec rest = load(d->rest + c);
        const Vec finite = rest == rest ? rest : Vec{};
        store(d->forward + c, exp2(load(d->whole + c)) * exp2_fraction<6>(finite));
    }
}

} // namespace
} // namespace attn::cpu

#endif

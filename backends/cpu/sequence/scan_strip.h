// Vector gated scan of a strip of channels: h = a h + b x, or h + (1 - a)(x - h), whose rounding does not grow where a
// is near 1.
//
// A sequence goes in segments. Within one the recurrence runs token by token; the state at its start follows from the
// segments before, each by its scan from zero and the product of its decays:
//
//     tokens    |---- segment 0 ----|---- segment 1 ----|---- segment 2 ----|
//     sums       local_0 product_0   local_1 product_1
//     start      STATE_IN            local_0 + product_0 STATE_IN           ...
//
// Whether the sums come with the outputs or from a pass before is no matter of bits. Internal linkage: see simd.h.
#ifndef ATTN_BACKENDS_CPU_SEQUENCE_SCAN_STRIP_H
#define ATTN_BACKENDS_CPU_SEQUENCE_SCAN_STRIP_H

#include "backends/cpu/sequence/strip.h"

namespace attn::cpu {
namespace {

constexpr int64_t kScanTokensAhead = 4;

/// Decay and weight of X of a token.
struct Gates {
    Vec decay, weight;
};

/// The decay a of a gate and 1 - a, both with the accuracy of a float.
ATTN_INLINE Gates complementary(bool log, Vec gate)
{
    if (!log) return {gate, 1.0f - gate};
    const Vec x = gate * 1.44269504088896341f;
    const Vec decay = exp2(x);
    // 2^x - 1 of small x without the 1: the polynomial of exp2_fraction from its linear term on.
    Vec p = splat(0.00015353366325143725f);
    p = p * x + 0.0013398875016719103f;
    p = p * x + 0.00961843691766262f;
    p = p * x + 0.055503323674201965f;
    p = p * x + 0.24022647738456726f;
    p = p * x + 0.6931471824645996f;
    return {decay, x > -0.5f && x < 0.5f ? -(p * x) : 1.0f - decay};
}

template <bool Lerp>
ATTN_INLINE Vec advance(Vec h, const Gates &gates, Vec x)
{
    if constexpr (Lerp) return h + gates.weight * (x - h);
    // Left to the compiler, which product of the two is fused with the sum might differ from one pass to the other.
    const Vec input = in_register(gates.weight * x);
    return gates.decay * h + input;
}

/// `Write`: OUT and h; `Sums`: local and product.
template <bool Lerp, bool Write, bool Sums>
inline void scan_tokens(const ScanShape &shape, const SequenceStrip &strip, int64_t first, int64_t end, float *h,
                        float *local, float *product)
{
    const int64_t channels = strip.channels;
    for (int64_t token = first; token < end; ++token) {
        if (token + kScanTokensAhead < end) {
            fetch_row(strip.x, token + kScanTokensAhead, channels);
            fetch_row(strip.decay, token + kScanTokensAhead, channels);
            if (strip.write.base) fetch_row(strip.write, token + kScanTokensAhead, channels);
        }
        const char *x_row = token_address(strip.x, token), *decay_row = token_address(strip.decay, token);
        const char *write_row = strip.write.base ? token_address(strip.write, token) : nullptr;
        char *out = Write ? token_address(strip.out, token) : nullptr;
        for (int64_t c = 0; c < channels; c += kWidth) {
            const Vec x = read_channels(strip.x, x_row, c, channels);
            const Vec gate = read_channels(strip.decay, decay_row, c, channels);
            Gates gates;
            if constexpr (Lerp)
                gates = complementary(shape.log, gate);
            else
                gates = {shape.log ? exp(gate) : gate,
                         write_row ? read_channels(strip.write, write_row, c, channels) : splat(1)};
            if constexpr (Sums) {
                store(local + c, advance<Lerp>(load(local + c), gates, x));
                store(product + c, load(product + c) * gates.decay);
            }
            if constexpr (Write) {
                const Vec next = advance<Lerp>(load(h + c), gates, x);
                store(h + c, next);
                write_channels(strip.out, out, c, channels, next);
            }
        }
    }
}

inline void scan(const ScanShape &shape, const SequenceStrip &strip, int64_t first, int64_t end, float *h, float *local,
                 float *product)
{
    if (shape.lerp)
        (local ? scan_tokens<true, true, true> : scan_tokens<true, true, false>)(shape, strip, first, end, h, local,
                                                                                 product);
    else
        (local ? scan_tokens<false, true, true> : scan_tokens<false, true, false>)(shape, strip, first, end, h, local,
                                                                                   product);
}

inline void clear_sums(int64_t channels, float *local, float *product)
{
    for (int64_t c = 0; c < channels; c += kWidth) {
        store(local + c, Vec{});
        store(product + c, splat(1));
    }
}

inline void scan_local(const ScanShape &shape, const SequenceStrip &strip, int64_t first, int64_t end, float *local,
                       float *product)
{
    clear_sums(strip.channels, local, product);
    (shape.lerp ? scan_tokens<true, false, true> : scan_tokens<false, false, true>)(shape, strip, first, end, nullptr,
                                                                                    local, product);
}

/// scan() with sums begins them, too.
inline void scan_segment(const ScanShape &shape, const SequenceStrip &strip, int64_t first, int64_t end, float *h,
                         float *local, float *product)
{
    if (local) clear_sums(strip.channels, local, product);
    scan(shape, strip, first, end, h, local, product);
}

inline void carry(const float *local, const float *product, int64_t channels, float *h)
{
    for (int64_t c = 0; c < channels; c += kWidth) store(h + c, load(local + c) + load(product + c) * load(h + c));
}

inline void read_state(const SequenceStrip &strip, float *h)
{
    if (strip.state_in.base)
        read_row(strip.state_in, 0, strip.channels, h);
    else
        for (int64_t c = 0; c < strip.channels; c += kWidth) store(h + c, Vec{});
}

inline void write_state(const SequenceStrip &strip, const float *h)
{
    write_row(strip.state_out, 0, strip.channels, h);
}

} // namespace
} // namespace attn::cpu

#endif

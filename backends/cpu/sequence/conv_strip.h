// Causal depthwise convolution of a strip of channels: every token multiplies the rows of the last `width` tokens,
// which are kept as floats, by the taps. Sums begin with the bias and go from the oldest row to the newest, so their
// bits depend on those rows alone. Internal linkage: see simd.h.
#ifndef ATTN_BACKENDS_CPU_SEQUENCE_CONV_STRIP_H
#define ATTN_BACKENDS_CPU_SEQUENCE_CONV_STRIP_H

#include "backends/cpu/sequence/strip.h"

namespace attn::cpu {
namespace {

/// Tokens between fetching a row and reading it.
constexpr int64_t kConvTokensAhead = 4;

inline void load_taps(const TokenView &weight, const TokenView &bias, int64_t width, int64_t channels, float *taps)
{
    for (int64_t c = 0; c < channels; ++c) {
        const char *p = token_address(weight, c);
        const int64_t step = weight.channel_step * element_bytes(weight.type);
        for (int64_t i = 0; i < width; ++i) taps[i * kStripChannels + c] = read_float(p + i * step, weight.type);
    }
    for (int64_t i = 0; i < width; ++i)
        for (int64_t c = channels; c < padded(channels); ++c) taps[i * kStripChannels + c] = 0;
    float *last = taps + width * kStripChannels;
    if (bias.base)
        read_row(bias, 0, channels, last);
    else
        for (int64_t c = 0; c < channels; c += kWidth) store(last + c, Vec{});
}

/// Row of a token, which may lie before the first: in the state, or zero.
inline void read_past(const ConvShape &shape, const SequenceStrip &strip, int64_t token, float *row)
{
    if (token >= 0)
        read_row(strip.x, token, strip.channels, row);
    else if (strip.state_in.base)
        read_row(strip.state_in, token + shape.width - 1, strip.channels, row);
    else
        for (int64_t c = 0; c < strip.channels; c += kWidth) store(row + c, Vec{});
}

/// One token: `past` are the rows of the last Width tokens, the oldest first.
template <int Width>
ATTN_INLINE void convolve_token(const ConvShape &shape, const SequenceStrip &strip, int64_t token, const float *taps,
                                const float *const (&past)[Width])
{
    char *out = token_address(strip.out, token);
    const char *residual = strip.residual.base ? token_address(strip.residual, token) : nullptr;
    for (int64_t c = 0; c < strip.channels; c += kWidth) {
        Vec sum = load(taps + Width * kStripChannels + c);
        ATTN_UNROLL
        for (int i = 0; i < Width; ++i) sum += load(taps + i * kStripChannels + c) * load(past[i] + c);
        if (shape.silu) sum = sum * sigmoid(sum);
        if (residual) sum += read_channels(strip.residual, residual, c, strip.channels);
        write_channels(strip.out, out, c, strip.channels, sum);
    }
}

template <int Width>
inline void convolve_width(const ConvShape &shape, const SequenceStrip &strip, int64_t first, int64_t end,
                           const float *taps, float *rows)
{
    const float *past[Width];
    for (int i = 0; i < Width - 1; ++i) read_past(shape, strip, first - (Width - 1) + i, rows + i * kStripChannels);
    int64_t newest = Width - 1; // of the ring of rows
    for (int64_t token = first; token < end; ++token) {
        if (token + kConvTokensAhead < end) fetch_row(strip.x, token + kConvTokensAhead, strip.channels);
        read_row(strip.x, token, strip.channels, rows + newest * kStripChannels);
        for (int64_t i = 0; i < Width; ++i) past[i] = rows + (newest + 1 + i) % Width * kStripChannels;
        convolve_token<Width>(shape, strip, token, taps, past);
        newest = (newest + 1) % Width;
    }
}

inline void convolve(const ConvShape &shape, const SequenceStrip &strip, int64_t first, int64_t end, const float *taps,
                     float *rows)
{
    static constexpr decltype(&convolve_width<1>) kWidths[] = {convolve_width<1>, convolve_width<2>, convolve_width<3>,
                                                               convolve_width<4>, convolve_width<5>, convolve_width<6>,
                                                               convolve_width<7>, convolve_width<8>};
    kWidths[shape.width - 1](shape, strip, first, end, taps, rows);
}

inline void keep_tokens(const ConvShape &shape, const SequenceStrip &strip, float *rows)
{
    // Row i comes from row i + tokens or from X: in ascending order none is overwritten before it is read.
    for (int64_t i = 0; i < shape.width - 1; ++i) {
        read_past(shape, strip, strip.tokens - (shape.width - 1) + i, rows);
        write_row(strip.state_out, i, strip.channels, rows);
    }
}

} // namespace
} // namespace attn::cpu

#endif

// Vectors of a strip of channels, read from and written to tensors. Internal linkage: see simd.h.
#ifndef ATTN_BACKENDS_CPU_SEQUENCE_STRIP_H
#define ATTN_BACKENDS_CPU_SEQUENCE_STRIP_H

#include "backends/cpu/sequence/kernel.h"
#include "backends/cpu/token_rows.h"

namespace attn::cpu {
namespace {

/// The vector of channels c .. of a row that begins at p; lanes beyond `channels` are 0.
ATTN_INLINE Vec read_channels(const TokenView &view, const char *p, int64_t c, int64_t channels)
{
    const char *first = p + c * view.channel_step * element_bytes(view.type);
    if (view.channel_step == 1 && c + kWidth <= channels) return read_vector(first, view.type);
    if (view.channel_step == 0 && c + kWidth <= channels) return splat(read_float(first, view.type));
    const int64_t some = channels - c < kWidth ? channels - c : kWidth;
    return read_some(first, view.type, view.channel_step, some);
}

ATTN_INLINE void write_channels(const TokenOutput &out, char *p, int64_t c, int64_t channels, Vec v)
{
    const int64_t some = channels - c < kWidth ? channels - c : kWidth;
    write_some(p + c * out.channel_step * element_bytes(out.type), out.type, out.channel_step, some, v);
}

ATTN_INLINE char *token_address(const TokenOutput &out, int64_t token)
{
    return out.base + token * out.token_step;
}

inline void write_row(const TokenOutput &out, int64_t token, int64_t channels, const float *row)
{
    char *p = token_address(out, token);
    for (int64_t c = 0; c < channels; c += kWidth) write_channels(out, p, c, channels, load(row + c));
}

} // namespace
} // namespace attn::cpu

#endif

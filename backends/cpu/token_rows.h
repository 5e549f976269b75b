// Rows of tokens as floats. Internal linkage: see simd.h.
#ifndef ATTN_BACKENDS_CPU_TOKEN_ROWS_H
#define ATTN_BACKENDS_CPU_TOKEN_ROWS_H

#include "backends/cpu/element_vectors.h"
#include "backends/cpu/token_view.h"

namespace attn::cpu {
namespace {

/// Up to a whole number of vectors.
ATTN_INLINE int64_t padded(int64_t count)
{
    return (count + kWidth - 1) / kWidth * kWidth;
}

ATTN_INLINE Vec sigmoid(Vec x)
{
    return 1.0f / (1.0f + exp(-x));
}

/// Channels of a token as floats, zeros up to a whole vector.
inline void read_row(const TokenView &view, int64_t token, int64_t count, float *out)
{
    const char *p = token_address(view, token);
    const int64_t bytes = element_bytes(view.type);
    int64_t c = 0;
    if (view.channel_step == 1)
        for (; c + kWidth <= count; c += kWidth) store(out + c, read_vector(p + c * bytes, view.type));
    for (; c < count; c += kWidth) {
        const int64_t some = count - c < kWidth ? count - c : kWidth;
        store(out + c, read_some(p + c * view.channel_step * bytes, view.type, view.channel_step, some));
    }
}

/// Fetches a row that is read later: the tokens of a head lie apart, no processor guesses which come next.
ATTN_INLINE void fetch_row(const TokenView &view, int64_t token, int64_t count)
{
    if (view.channel_step != 1) return;
    const char *p = token_address(view, token);
    const int64_t bytes = count * element_bytes(view.type);
    for (int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(p + byte);
}

ATTN_INLINE float read_one(const TokenView &view, int64_t token)
{
    return read_float(token_address(view, token), view.type);
}

} // namespace
} // namespace attn::cpu

#endif

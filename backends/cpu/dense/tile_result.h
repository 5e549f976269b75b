// Results of a row: normalised output and LSE, or a partial result.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_RESULT_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_RESULT_H

#include "backends/cpu/dense/tile_memory.h"

namespace attn::cpu {
namespace {

ATTN_INLINE void write_element(char *p, Element type, float x)
{
    if (type == Element::float32) {
        __builtin_memcpy(p, &x, 4);
        return;
    }
    const uint16_t half = type == Element::float16 ? to_float16(x) : to_bfloat16(x);
    __builtin_memcpy(p, &half, 2);
}

/// Normalises one row and writes it with its LSE.
inline void write_row(const ForwardShape &shape, const ForwardTile &tile, int64_t row, const float *o, float max,
                      float sum)
{
    const int64_t token = (tile.first_row + row) / shape.group;
    const int64_t head = tile.head0 + (tile.first_row + row) % shape.group;
    const bool empty = sum == 0.0f; // no key seen; a NaN is not empty
    const float factor = empty ? 0.0f : 1.0f / sum;
    char *out = tile.out + token * tile.out_token_step + head * tile.out_head_step;
    const int64_t step = tile.out_channel_step * element_bytes(shape.out_type);
    int64_t c = 0;
    if (!empty && shape.out_type == Element::float32 && tile.out_channel_step == 1)
        for (; c + kWidth <= shape.dim_v; c += kWidth) {
            const Vec value = load(o + c) * factor;
            __builtin_memcpy(out + c * 4, &value, sizeof value);
        }
    for (; c < shape.dim_v; ++c) write_element(out + c * step, shape.out_type, empty ? 0.0f : o[c] * factor);
    if (tile.lse) {
        const double lse = (static_cast<double>(max) + __builtin_log2(static_cast<double>(sum))) * 0.6931471805599453;
        write_element(tile.lse + token * tile.lse_token_step + head * tile.lse_head_step, Element::float32,
                      empty ? kLowest : static_cast<float>(lse));
    }
}

inline void write_partial(const ForwardShape &shape, const ForwardTile &tile, int64_t row, const float *o, float max,
                          float sum)
{
    float *out = tile.partial_out + row * shape.dim_v;
    for (int64_t c = 0; c < shape.dim_v; ++c) out[c] = o[c];
    tile.partial_max[row] = max;
    tile.partial_sum[row] = sum;
}

} // namespace
} // namespace attn::cpu

#endif

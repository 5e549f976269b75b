// Kernel of a merge: weighted sums of rows of channels, gated and written in the type of OUT.
//
// A step keeps kVectors vectors of sums in registers while it goes through the parts, so every element is loaded once
// and nothing but the result is stored:
//
//     part 0   [ c .. c + kVectors * kWidth )  * weight 0  --+
//     part 1   [ c .. c + kVectors * kWidth )  * weight 1  --+--> sum --> * gate * factor --> OUT
//     ...                                                  --+
//
// Everything has internal linkage: see simd.h.
#ifndef ATTN_BACKENDS_CPU_MERGE_MERGE_ROW_H
#define ATTN_BACKENDS_CPU_MERGE_MERGE_ROW_H

#include "backends/cpu/merge/kernel.h"
#include "backends/cpu/simd.h"

namespace attn::cpu {
namespace {

constexpr int kVectors = 4; ///< Of sums in registers.
static_assert(kChannelsPerSum % (kVectors * kWidth) == 0);

template <Element Type>
ATTN_INLINE Vec read_vector(const char *p)
{
    if constexpr (Type == Element::float32) {
        Vec v;
        __builtin_memcpy(&v, p, sizeof v);
        return v;
    } else {
        const uint16_t *half = reinterpret_cast<const uint16_t *>(p);
        return Type == Element::float16 ? from_float16(half) : from_bfloat16(half);
    }
}

/// Up to kWidth elements, `step` elements apart; the lanes beyond are 0.
template <Element Type>
ATTN_INLINE Vec read_some(const char *p, int64_t step, int64_t count)
{
    if constexpr (Type == Element::float32) {
        float lanes[kWidth] = {};
        for (int64_t i = 0; i < count; ++i) __builtin_memcpy(&lanes[i], p + i * step * 4, 4);
        return load(lanes);
    } else {
        uint16_t lanes[kWidth] = {};
        for (int64_t i = 0; i < count; ++i) __builtin_memcpy(&lanes[i], p + i * step * 2, 2);
        return Type == Element::float16 ? from_float16(lanes) : from_bfloat16(lanes);
    }
}

/// Sums `Count` vectors of channels from `channel` on; only the last may be shorter, it has `tail` channels.
template <Element Type, int Count>
ATTN_INLINE void sum_vectors(const MergePart *parts, int64_t count, int64_t channel, int64_t tail, bool fresh,
                             float *sum)
{
    Vec sums[Count];
    ATTN_UNROLL
    for (int v = 0; v < Count; ++v) sums[v] = -Vec{}; // -0, not 0: added to -0 it changes nothing
    for (int64_t p = 0; p < count; ++p) {
        const MergePart &part = parts[p];
        const bool whole = part.channel_step == 1 && tail == kWidth;
        const char *row = part.row + channel * part.channel_step * element_bytes(Type);
        const int64_t step = kWidth * part.channel_step * element_bytes(Type);
        ATTN_UNROLL
        for (int v = 0; v < Count; ++v) {
            const Vec x = whole ? read_vector<Type>(row + v * step)
                                : read_some<Type>(row + v * step, part.channel_step, v + 1 < Count ? kWidth : tail);
            sums[v] += part.weight * x;
        }
    }
    ATTN_UNROLL
    for (int v = 0; v < Count; ++v) store(sum + v * kWidth, fresh ? sums[v] : load(sum + v * kWidth) + sums[v]);
}

template <Element Type>
inline void add_parts_of(const MergePart *parts, int64_t count, int64_t first, int64_t channels, bool fresh, float *sum)
{
    int64_t c = 0;
    for (; c + kVectors * kWidth <= channels; c += kVectors * kWidth)
        sum_vectors<Type, kVectors>(parts, count, first + c, kWidth, fresh, sum + c);
    for (; c < channels; c += kWidth) {
        const int64_t tail = channels - c < kWidth ? channels - c : kWidth;
        sum_vectors<Type, 1>(parts, count, first + c, tail, fresh, sum + c);
    }
}

void add_parts(const MergeShape &shape, const MergePart *parts, int64_t count, int64_t first, int64_t channels,
               bool fresh, float *sum)
{
    switch (shape.part_type) {
    case Element::float32:
        return add_parts_of<Element::float32>(parts, count, first, channels, fresh, sum);
    case Element::float16:
        return add_parts_of<Element::float16>(parts, count, first, channels, fresh, sum);
    case Element::bfloat16:
        return add_parts_of<Element::bfloat16>(parts, count, first, channels, fresh, sum);
    }
}

ATTN_INLINE Vec gate_value(Gate gate, Vec g)
{
    if (gate == Gate::linear) return g;
    const Vec sigmoid = 1.0f / (1.0f + exp(-g));
    return gate == Gate::silu ? g * sigmoid : sigmoid;
}

template <Element Type>
ATTN_INLINE Vec read_gate_of(const char *p, int64_t step, int64_t count)
{
    return step == 1 && count == kWidth ? read_vector<Type>(p) : read_some<Type>(p, step, count);
}

ATTN_INLINE Vec read_gate(const MergeShape &shape, const char *p, int64_t step, int64_t count)
{
    switch (shape.gate_type) {
    case Element::float16:
        return read_gate_of<Element::float16>(p, step, count);
    case Element::bfloat16:
        return read_gate_of<Element::bfloat16>(p, step, count);
    default:
        return read_gate_of<Element::float32>(p, step, count);
    }
}

/// kWidth adjacent elements.
ATTN_INLINE void write_vector(char *p, Element type, Vec v)
{
    if (type == Element::float32) {
        __builtin_memcpy(p, &v, sizeof v);
        return;
    }
    if (type == Element::bfloat16) { // nearest even; NaN stays a NaN
        const VecU u = reinterpret_cast<VecU>(v);
        const VecU rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
        const VecU quiet = (u >> 16) | 0x40;
        const VecHalf half = __builtin_convertvector((u & 0x7fffffff) > 0x7f800000 ? quiet : rounded, VecHalf);
        __builtin_memcpy(p, &half, sizeof half);
        return;
    }
#if defined(__AVX512F__)
    const __m256i half = _mm512_maskz_cvtps_ph(0xffff, v, _MM_FROUND_TO_NEAREST_INT);
    __builtin_memcpy(p, &half, sizeof half);
#elif defined(__F16C__)
    const __m128i half = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
    __builtin_memcpy(p, &half, sizeof half);
#else
    for (int i = 0; i < kWidth; ++i) {
        const uint16_t half = to_float16(v[i]);
        __builtin_memcpy(p + 2 * i, &half, 2);
    }
#endif
}

ATTN_INLINE void write_element(char *p, Element type, float x)
{
    if (type == Element::float32) {
        __builtin_memcpy(p, &x, 4);
        return;
    }
    const uint16_t half = type == Element::float16 ? to_float16(x) : to_bfloat16(x);
    __builtin_memcpy(p, &half, 2);
}

void write_channels(const MergeShape &shape, const MergeRow &row, int64_t first, int64_t channels, const float *sum)
{
    const int64_t bytes = element_bytes(shape.out_type), gate_bytes = element_bytes(shape.gate_type);
    const bool gated = sum && shape.gate != Gate::none;
    const bool one_gate = row.gate_step == 0; // for all channels
    const char *gate = gated ? row.gate + first * row.gate_step * gate_bytes : nullptr;
    Vec factor = splat(row.factor);
    if (gated && one_gate) factor *= gate_value(shape.gate, read_gate(shape, gate, 0, kWidth));
    char *out = row.out + first * row.out_step * bytes;
    for (int64_t c = 0; c < channels; c += kWidth) {
        const int64_t count = channels - c < kWidth ? channels - c : kWidth;
        Vec v = {};
        if (sum) v = load(sum + c) * factor;
        if (gated && !one_gate)
            v *= gate_value(shape.gate, read_gate(shape, gate + c * row.gate_step * gate_bytes, row.gate_step, count));
        if (count == kWidth && row.out_step == 1) {
            write_vector(out + c * bytes, shape.out_type, v);
            continue;
        }
        float lanes[kWidth];
        store(lanes, v);
        for (int64_t i = 0; i < count; ++i)
            write_element(out + (c + i) * row.out_step * bytes, shape.out_type, lanes[i]);
    }
}

} // namespace
} // namespace attn::cpu

#endif

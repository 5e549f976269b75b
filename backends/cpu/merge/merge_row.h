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

#include "backends/cpu/element_vectors.h"
#include "backends/cpu/merge/kernel.h"

namespace attn::cpu {
namespace {

constexpr int kVectors = 4; ///< Of sums in registers.
static_assert(kChannelsPerSum % (kVectors * kWidth) == 0);

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
            const Vec x = whole ? read_vector(row + v * step, Type)
                                : read_some(row + v * step, Type, part.channel_step, v + 1 < Count ? kWidth : tail);
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

ATTN_INLINE Vec read_gate(const MergeShape &shape, const char *p, int64_t step, int64_t count)
{
    return step == 1 && count == kWidth ? read_vector(p, shape.gate_type) : read_some(p, shape.gate_type, step, count);
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
        write_some(out + c * row.out_step * bytes, shape.out_type, row.out_step, count, v);
    }
}

} // namespace
} // namespace attn::cpu

#endif

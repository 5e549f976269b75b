// The border between the executor of merges and its kernels: one kernel per instruction set sums and writes rows of
// channels.
#ifndef ATTN_BACKENDS_CPU_MERGE_KERNEL_H
#define ATTN_BACKENDS_CPU_MERGE_KERNEL_H

#include "backends/cpu/elements.h"

#include <stdint.h>

namespace attn::cpu {

/// Parts that are summed by themselves: so rounding grows with their number and that of the sums, not with all parts.
constexpr int kPartsPerSum = 32;
/// Channels whose sums are held at a time, a multiple of every vector.
constexpr int kChannelsPerSum = 256;

/// What the plan fixes for all rows.
struct MergeShape {
    Element part_type, out_type, gate_type;
    Gate gate;
};

/// One part of a row.
struct MergePart {
    const char *row;      ///< Channel 0.
    int64_t channel_step; ///< Elements.
    float weight;
};

/// Where the result of a row goes, and what multiplies it.
struct MergeRow {
    char *out; ///< Channel 0.
    int64_t out_step;
    const char *gate; ///< Channel 0; unused where there is no gate.
    int64_t gate_step;
    float factor;
};

/// A kernel, compiled for one instruction set. Both functions serve channels [first, first + channels), of which `sum`
/// holds the results; it has room for kChannelsPerSum.
struct MergeKernel {
    const char *name;
    /// Adds weight * row of `count` parts, 1 .. kPartsPerSum, to `sum`; `fresh`: overwrites it.
    void (*add)(const MergeShape &shape, const MergePart *parts, int64_t count, int64_t first, int64_t channels,
                bool fresh, float *sum);
    /// Writes sum * gate * factor; sum NULL: zeros, whatever the gate.
    void (*write)(const MergeShape &shape, const MergeRow &row, int64_t first, int64_t channels, const float *sum);
};

extern const MergeKernel kMergeBaseline;
#if defined(__x86_64__)
extern const MergeKernel kMergeAvx2;
extern const MergeKernel kMergeAvx512;
#elif defined(__aarch64__)
extern const MergeKernel kMergeNeon;
#endif

} // namespace attn::cpu

#endif

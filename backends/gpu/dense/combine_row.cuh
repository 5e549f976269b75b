// Combines the parts that splits of a row's keys left: one warp for a row, channels over its lanes. Parts are added in
// their order, so results do not change from run to run.
#ifndef ATTN_BACKENDS_GPU_DENSE_COMBINE_ROW_CUH
#define ATTN_BACKENDS_GPU_DENSE_COMBINE_ROW_CUH

#include "backends/gpu/dense/results.cuh"

namespace attn::gpu {

constexpr int kCombineChannels = 8; ///< Of a lane at a time.

/// `parts(split)` has sums(), and value(channel), which is not normalised.
template <class Parts>
ATTN_DEVICE void combine_row(const ForwardParams &p, const Parts &parts, const Sequence &s, int token, int head,
                             int lane)
{
    float max = -infinity();
    for (int split = lane; split < p.splits; split += 32) max = fmaxf(max, parts(split).max());
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, lanes));
    const bool softmax = p.activation == kSoftmax;
    const float reference = max == -infinity() ? 0.0f : max;
    const auto scale_of = [&](float part) { return softmax ? exp2_fast(part - reference) : 1.0f; };
    RowSums total = {max, 0.0f, 0.0f};
    for (int split = 0; split < p.splits; ++split) {
        const RowSums part = parts(split).sums();
        if (part.max == -infinity()) continue; // saw nothing
        const float scale = scale_of(part.max);
        total.sum = fmaf(part.sum, scale, total.sum);
        total.spread = fmaf(part.spread + (part.max - max) * part.sum, scale, total.spread);
    }
    const RowFactor factor = finish_row<true>(p, s, token, head, total, lane == 0);
    const char *gate = p.gate_values.base ? token_address(p, p.gate_values, s, token, head) : nullptr;
    char *out = const_cast<char *>(token_address(p, p.out, s, token, head));
    for (int c = lane; c < p.dim_v; c += 32 * kCombineChannels) {
        float sum[kCombineChannels] = {};
        for (int split = 0; split < p.splits; ++split) {
            const auto part = parts(split);
            const float part_max = part.max();
            if (part_max == -infinity()) continue;
            const float scale = scale_of(part_max);
#pragma unroll
            for (int i = 0; i < kCombineChannels; ++i)
                if (c + 32 * i < p.dim_v) sum[i] = fmaf(part.value(c + 32 * i), scale, sum[i]);
        }
#pragma unroll
        for (int i = 0; i < kCombineChannels; ++i) {
            const int channel = c + 32 * i;
            if (channel < p.dim_v)
                write_element(out + channel * p.out.channel_step, p.out.type,
                              finish_element<true>(p, factor, gate, channel, sum[i]));
        }
    }
}

} // namespace attn::gpu

#endif

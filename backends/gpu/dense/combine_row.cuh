// Combines the parts that splits of a row's keys left: one warp for a row, channels over its lanes. Parts are added in
// their order, so results do not change from run to run.
#ifndef ATTN_BACKENDS_GPU_DENSE_COMBINE_ROW_CUH
#define ATTN_BACKENDS_GPU_DENSE_COMBINE_ROW_CUH

#include "backends/gpu/dense/results.cuh"

namespace attn::gpu {

constexpr int kCombineChannels = 4; ///< Of a lane at a time.
constexpr int kCombineSplits = 8;   ///< Whose values a lane asks for at once.

/// `parts(split)` has sums(), and value(channel), which is not normalised. Parts of many splits are asked for at once:
/// a warp waits for memory a few times, not once for each.
template <class Parts>
ATTN_DEVICE void combine_row(const ForwardParams &p, const Parts &parts, const Sequence &s, int token, int head,
                             int lane)
{
    float max = -infinity();
#pragma unroll 1
    for (int split = lane; split < p.splits; split += 32) max = fmaxf(max, parts(split).max());
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, lanes));
    const bool softmax = p.activation == kSoftmax;
    const float reference = max == -infinity() ? 0.0f : max;
    const auto scale_of = [&](float part) { return softmax ? exp2_fast(part - reference) : 1.0f; };
    RowSums total = {max, 0.0f, 0.0f};
#pragma unroll 1
    for (int split = lane; split < p.splits; split += 32) {
        const RowSums part = parts(split).sums();
        if (part.max == -infinity()) continue; // saw nothing
        const float scale = scale_of(part.max);
        total.sum = fmaf(part.sum, scale, total.sum);
        total.spread = fmaf(part.spread + (part.max - max) * part.sum, scale, total.spread);
    }
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        total.sum += __shfl_xor_sync(kAllLanes, total.sum, lanes);
        total.spread += __shfl_xor_sync(kAllLanes, total.spread, lanes);
    }
    const RowFactor factor = finish_row<true>(p, s, token, head, total, lane == 0);
    const char *gate = p.gate_values.base ? token_address(p, p.gate_values, s, token, head) : nullptr;
    char *out = const_cast<char *>(token_address(p, p.out, s, token, head));
#pragma unroll 1
    for (int first_channel = 0; first_channel < p.dim_v; first_channel += 32 * kCombineChannels) {
        const int c = first_channel + lane;
        float sum[kCombineChannels] = {};
#pragma unroll 1
        for (int first = 0; first < p.splits; first += 32) {
            const float part_max = first + lane < p.splits ? parts(first + lane).max() : -infinity();
            const float own = scale_of(part_max);
            const u32 seen = __ballot_sync(kAllLanes, part_max != -infinity());
            const int count = smaller(32, p.splits - first);
#pragma unroll 1
            for (int split = 0; split < count; split += kCombineSplits) {
                float value[kCombineSplits][kCombineChannels];
#pragma unroll
                for (int j = 0; j < kCombineSplits; ++j)
#pragma unroll
                    for (int i = 0; i < kCombineChannels; ++i)
                        value[j][i] = seen >> (split + j) & 1 && c + 32 * i < p.dim_v
                                          ? parts(first + split + j).value(c + 32 * i)
                                          : 0.0f;
#pragma unroll
                for (int j = 0; j < kCombineSplits; ++j) {
                    const float scale = __shfl_sync(kAllLanes, own, split + j);
#pragma unroll
                    for (int i = 0; i < kCombineChannels; ++i) sum[i] = fmaf(value[j][i], scale, sum[i]);
                }
            }
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

// Combines the parts that splits of a row's keys left: one warp for a row, channels over its lanes. The order in which
// parts are added depends on their number alone, so results do not change from run to run. Parts of many splits are
// asked for at once: a warp waits for memory a few times, not once for each.
#ifndef ATTN_BACKENDS_GPU_DENSE_COMBINE_ROW_CUH
#define ATTN_BACKENDS_GPU_DENSE_COMBINE_ROW_CUH

#include "backends/gpu/dense/results.cuh"

namespace attn::gpu {

/// Sum over the lanes of a warp.
ATTN_DEVICE float warp_sum(float x)
{
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kAllLanes, x, lanes);
    return x;
}

/// A row in `count` parts: `parts(i)` has max(), sums(), and value(channel), which is not normalised. All lanes of a
/// warp work on the same row, on `lane_channels` each at a time, for which they ask `at_once` parts at once.
template <class Parts, int lane_channels, int at_once>
class MergedRow {
public:
    RowSums sums;

    ATTN_DEVICE MergedRow(const Parts &parts, int count, bool softmax, int lane)
        : parts_(parts), count_(count), lane_(lane), softmax_(softmax)
    {
        const RowSums own = lane < count ? parts(lane).sums() : RowSums{-infinity(), 0.0f, 0.0f};
        float max = first_max_ = own.max;
#pragma unroll 1
        for (int i = lane + 32; i < count; i += 32) max = fmaxf(max, parts(i).max());
#pragma unroll
        for (int lanes = 16; lanes > 0; lanes /= 2) max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, lanes));
        sums = {max, 0.0f, 0.0f};
        const auto add = [&](const RowSums &part) {
            if (part.max == -infinity()) return; // saw nothing
            const float scale = scale_of(part.max);
            sums.sum = fmaf(part.sum, scale, sums.sum);
            sums.spread = fmaf(part.spread + (part.max - max) * part.sum, scale, sums.spread);
        };
        add(own);
#pragma unroll 1
        for (int i = lane + 32; i < count; i += 32) add(parts(i).sums());
        sums.sum = warp_sum(sums.sum), sums.spread = warp_sum(sums.spread);
    }

    /// Channels first + lane + 32 i; 0 from `channels` on.
    ATTN_DEVICE void values(int first, int channels, float (&sum)[lane_channels]) const
    {
#pragma unroll
        for (int i = 0; i < lane_channels; ++i) sum[i] = 0.0f;
#pragma unroll 1
        for (int begin = 0; begin < count_; begin += 32) {
            float max = first_max_;
            if (begin > 0) max = begin + lane_ < count_ ? parts_(begin + lane_).max() : -infinity();
            const float own = scale_of(max);
            const u32 seen = __ballot_sync(kAllLanes, max != -infinity());
            const int here = smaller(32, count_ - begin);
#pragma unroll 1
            for (int split = 0; split < here; split += at_once) {
                float value[at_once][lane_channels];
#pragma unroll
                for (int j = 0; j < at_once; ++j)
#pragma unroll
                    for (int i = 0; i < lane_channels; ++i) {
                        const int channel = first + lane_ + 32 * i;
                        value[j][i] = (seen >> (split + j) & 1) && channel < channels
                                          ? parts_(begin + split + j).value(channel)
                                          : 0.0f;
                    }
#pragma unroll
                for (int j = 0; j < at_once; ++j) {
                    const float scale = __shfl_sync(kAllLanes, own, split + j);
#pragma unroll
                    for (int i = 0; i < lane_channels; ++i) sum[i] = fmaf(value[j][i], scale, sum[i]);
                }
            }
        }
    }

private:
    ATTN_DEVICE float scale_of(float part) const
    {
        return softmax_ ? exp2_fast(part - (sums.max == -infinity() ? 0.0f : sums.max)) : 1.0f;
    }

    const Parts &parts_;
    const int count_, lane_;
    const bool softmax_;
    float first_max_; ///< Of part `lane`.
};

/// Merges a row and writes its channels [begin, end), and with the first of them its statistics.
template <bool general, int lane_channels, int at_once, class Parts>
ATTN_DEVICE void combine_row(const ForwardParams &p, const Parts &parts, int count, const Sequence &s, int token,
                             int head, int begin, int end, int lane)
{
    const MergedRow<Parts, lane_channels, at_once> row(parts, count, !general || p.activation == kSoftmax, lane);
    const RowFactor factor = finish_row<general>(p, s, token, head, row.sums, lane == 0 && begin == 0);
    const char *gate = general && p.gate_values.base ? token_address(p, p.gate_values, s, token, head) : nullptr;
    char *out = const_cast<char *>(token_address(p, p.out, s, token, head));
#pragma unroll 1
    for (int first = begin; first < end; first += 32 * lane_channels) {
        float sum[lane_channels];
        row.values(first, end, sum);
#pragma unroll
        for (int i = 0; i < lane_channels; ++i) {
            const int channel = first + lane + 32 * i;
            if (channel < end)
                write_element(out + channel * p.out.channel_step, p.out.type,
                              finish_element<general>(p, factor, gate, channel, sum[i]));
        }
    }
}

} // namespace attn::gpu

#endif

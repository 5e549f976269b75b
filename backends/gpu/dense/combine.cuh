// Combines the splits of dense attention: one warp for each row of OUT, channels over its lanes. Splits are added in
// their order, so results do not change from run to run.
#include "backends/gpu/dense/results.cuh"

namespace attn::gpu {

constexpr int kCombineWarps = 4;
constexpr int kCombineChannels = 8; ///< Of a lane at a time.

ATTN_DEVICE void combine_row(const ForwardParams &p, int rows, const Sequence &s, i64 tile, int row_in_tile, int token,
                             int head, int lane)
{
    const i64 floats = partial_floats(rows, p.dim_v);
    const float *first = p.partials + tile * p.splits * floats;
    const i64 statistics = static_cast<i64>(rows) * p.dim_v + row_in_tile;

    float max = -infinity();
    for (int split = lane; split < p.splits; split += 32) max = fmaxf(max, first[split * floats + statistics]);
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, lanes));
    const bool softmax = p.activation == kSoftmax;
    const float reference = max == -infinity() ? 0.0f : max;
    const auto scale_of = [&](int split) {
        return softmax ? exp2_fast(first[split * floats + statistics] - reference) : 1.0f;
    };
    RowSums total = {max, 0.0f, 0.0f};
    for (int split = 0; split < p.splits; ++split) {
        const float *part = first + split * floats + statistics;
        if (part[0] == -infinity()) continue; // saw nothing
        const float scale = scale_of(split), sum = part[rows];
        total.sum = fmaf(sum, scale, total.sum);
        total.spread = fmaf(part[2 * rows] + (part[0] - max) * sum, scale, total.spread);
    }
    const RowFactor factor = finish_row<true>(p, s, token, head, total, lane == 0);
    const char *gate = p.gate_values.base ? token_address(p, p.gate_values, s, token, head) : nullptr;
    char *out = const_cast<char *>(token_address(p, p.out, s, token, head));
    for (int c = lane; c < p.dim_v; c += 32 * kCombineChannels) {
        float sum[kCombineChannels] = {};
        for (int split = 0; split < p.splits; ++split) {
            const float *part = first + split * floats;
            if (part[statistics] == -infinity()) continue;
            const float scale = scale_of(split);
            const float *o = part + static_cast<i64>(row_in_tile) * p.dim_v;
#pragma unroll
            for (int i = 0; i < kCombineChannels; ++i)
                if (c + 32 * i < p.dim_v) sum[i] = fmaf(o[c + 32 * i], scale, sum[i]);
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

/// `rows`: of a tile of the forward kernel. One warp for each of the row_tiles * rows places of a sequence and head
/// group.
extern "C" __global__ void __launch_bounds__(128)
    attn_dense_combine(const __grid_constant__ attn::gpu::ForwardParams p, const int rows)
{
    using namespace attn::gpu;
    const i64 index = static_cast<i64>(blockIdx.x) * kCombineWarps + threadIdx.x / 32;
    const i64 tile = index / rows;
    const int row_in_tile = static_cast<int>(index - tile * rows);
    const int groups = p.heads_out / p.group;
    const i64 pair = tile / p.row_tiles;
    const int batch = static_cast<int>(pair / groups);
    if (batch >= p.sequences.batch) return;
    const Sequence s = sequence_of(p.sequences, batch);
    const int row = static_cast<int>(tile - pair * p.row_tiles) * rows + row_in_tile;
    if (row >= s.q_length * p.group) return;
    const int token = row / p.group, head = static_cast<int>(pair % groups) * p.group + row - token * p.group;
    combine_row(p, rows, s, tile, row_in_tile, token, head, threadIdx.x % 32);
}

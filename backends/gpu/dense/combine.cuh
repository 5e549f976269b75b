// Combines the splits of dense attention that were written to the workspace.
#include "backends/gpu/dense/combine_row.cuh"

namespace attn::gpu {

constexpr int kCombineWarps = 4;

/// The parts of one row in memory.
class Partials {
public:
    ATTN_DEVICE Partials(const ForwardParams &p, int rows, i64 tile, int row)
        : floats_(partial_floats(rows, p.dim_v)),
          first_(p.partials + tile * p.splits * floats_),
          rows_(rows),
          values_(static_cast<i64>(row) * p.dim_v),
          statistics_(static_cast<i64>(rows) * p.dim_v + row)
    {
    }
    struct Part {
        const float *values, *statistics;
        int rows;
        ATTN_DEVICE float max() const { return statistics[0]; }
        ATTN_DEVICE RowSums sums() const { return {statistics[0], statistics[rows], statistics[2 * rows]}; }
        ATTN_DEVICE float value(int channel) const { return values[channel]; }
    };
    ATTN_DEVICE Part operator()(int split) const
    {
        const float *part = first_ + split * floats_;
        return {part + values_, part + statistics_, rows_};
    }

private:
    const i64 floats_;
    const float *first_;
    const int rows_;
    const i64 values_, statistics_;
};

} // namespace attn::gpu

/// `rows`: of a tile of the forward kernel. A warp for each of the row_tiles * rows places of a sequence and head group
/// and each 32 channels: enough of them that none waits for memory often.
extern "C" __global__ void __launch_bounds__(128)
    attn_dense_combine(const __grid_constant__ attn::gpu::ForwardParams p, const int rows)
{
    using namespace attn::gpu;
#if defined(ATTN_PROGRAMMATIC)
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
    const int pieces = (p.dim_v + 31) / 32;
    const i64 warp = static_cast<i64>(blockIdx.x) * kCombineWarps + threadIdx.x / 32;
    const i64 index = warp / pieces, tile = index / rows;
    const int channel = static_cast<int>(warp - index * pieces) * 32;
    const int row_in_tile = static_cast<int>(index - tile * rows);
    const int groups = p.heads_out / p.group;
    const i64 pair = tile / p.row_tiles;
    const int batch = static_cast<int>(pair / groups);
    if (batch >= p.sequences.batch) return;
    const Sequence s = sequence_of(p.sequences, batch);
    const int row = static_cast<int>(tile - pair * p.row_tiles) * rows + row_in_tile;
    if (row >= s.q_length * p.group) return;
    const int token = row / p.group, head = static_cast<int>(pair % groups) * p.group + row - token * p.group;
    const Partials partials(p, rows, tile, row_in_tile);
    combine_row<true, 1, 16>(p, partials, p.splits, s, token, head, channel, smaller(channel + 32, p.dim_v),
                             threadIdx.x % 32);
}

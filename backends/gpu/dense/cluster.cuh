// Splits of a tile's keys as a cluster of blocks of threads (sm_90 and newer): they combine what they found through each
// other's shared memory, so that no second kernel is needed.
#ifndef ATTN_BACKENDS_GPU_DENSE_CLUSTER_CUH
#define ATTN_BACKENDS_GPU_DENSE_CLUSTER_CUH

#include "backends/gpu/dense/combine_row.cuh"
#include "backends/gpu/dense/memory.cuh"
#include "backends/gpu/dense/softmax.cuh"

namespace attn::gpu {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr bool kHasClusters = kWarpsK > 1; ///< Kernels of few rows.

/// What all threads of the cluster wrote to shared memory before is seen by all after. Threads that have ended count as
/// arrived.
ATTN_DEVICE void cluster_barrier()
{
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
/// The same place in the shared memory of another block of the cluster.
ATTN_DEVICE u32 place_in_block(u32 address, int rank)
{
    u32 there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}
ATTN_DEVICE float load_from_block(u32 address)
{
    float x;
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(address) : "memory");
    return x;
}

/// The parts of one row, which the blocks of the cluster hold at the same place: channels, maximum, sum, spread.
struct ClusterParts {
    u32 row;
    struct Part {
        u32 row;
        ATTN_DEVICE float max() const { return load_from_block(row + kDimV * 4); }
        ATTN_DEVICE RowSums sums() const
        {
            return {max(), load_from_block(row + kDimV * 4 + 4), load_from_block(row + kDimV * 4 + 8)};
        }
        ATTN_DEVICE float value(int channel) const { return load_from_block(row + channel * 4); }
    };
    ATTN_DEVICE Part operator()(int split) const { return {place_in_block(row, split)}; }
};

/// By the one warp of each block that is left: writes its rows for the others, then combines every n-th row of the tile,
/// n being the blocks of the cluster. Their numbers in it are those of the splits.
ATTN_DEVICE void combine_cluster(const ForwardParams &p, const Sequence &s, const Tile &tile, int split, char *shared,
                                 const Place &at, const Pieces<kWarpChannels> &o,
                                 const RowSums (&sums)[kRowsOfThread])
{
    float *rows = reinterpret_cast<float *>(shared);
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
        float *row = rows + (at.row + 8 * i) * kMergeStep;
#pragma unroll
        for (int j = 0; j < kWarpChannels / 8; ++j)
#pragma unroll
            for (int side = 0; side < 2; ++side)
                row[8 * j + at.column + side] = o[i / 2][j][i % 2 * 2 + side];
        if (at.lane % 4 == 0)
            row[kDimV] = sums[i].max, row[kDimV + 1] = sums[i].sum, row[kDimV + 2] = sums[i].spread;
    }
    cluster_barrier();
    for (int r = split; r < kRows && tile.first + r < tile.total; r += p.splits) {
        const int row = tile.first + r, token = row / p.group;
        const ClusterParts parts = {shared_address(shared) + static_cast<u32>(r * kMergeStep * 4)};
        combine_row(p, parts, s, token, tile.head0 + row - token * p.group, at.lane);
    }
    cluster_barrier(); // until then others read what is here
}
#else
constexpr bool kHasClusters = false;
#endif

} // namespace attn::gpu

#endif

// The shape that this kernel is compiled for, from the definitions of its request, and the place of a thread in it.
#ifndef ATTN_BACKENDS_GPU_DENSE_CONFIG_CUH
#define ATTN_BACKENDS_GPU_DENSE_CONFIG_CUH

#include "backends/gpu/dense/params.h"
#include "backends/gpu/dense/shape.h"
#include "backends/gpu/platform.cuh"

namespace attn::gpu {

constexpr Shape kShape = {ATTN_TYPE,    ATTN_GENERAL, ATTN_DIM_QK, ATTN_DIM_V,  ATTN_ROW_TILES, ATTN_WARPS_M,
                          ATTN_WARPS_N, ATTN_WARPS_K, ATTN_KEYS,   ATTN_STAGES, ATTN_BLOCKS};
static_assert(kShape.fault() == nullptr, "no kernel can have this shape");

constexpr Element kType = static_cast<Element>(kShape.type);
constexpr bool kFloats = kShape.floats();
constexpr bool kGeneral = kShape.general != 0;
constexpr int kDimQk = kShape.dim_qk, kDimV = kShape.dim_v;
constexpr int kRowTiles = kShape.row_tiles;
constexpr int kWarpsM = kShape.warps_m, kWarpsN = kShape.warps_n, kWarpsK = kShape.warps_k;
constexpr int kKeys = kShape.keys, kStages = kShape.stages;
constexpr int kThreads = kShape.threads();
constexpr int kWarpRows = 16 * kRowTiles;
constexpr int kRows = kShape.rows();
constexpr int kWarpKeys = kShape.warp_keys(); ///< Whose scores a warp computes.
constexpr int kStepKeys = kKeys / kWarpsK;    ///< Whose weights it multiplies with V.
constexpr int kWarpChannels = kShape.warp_channels();
constexpr bool kSharedWeights = kShape.shares_weights(); ///< Weights pass through shared memory.
constexpr int kBytes = kShape.element_bytes();
constexpr int kQkStep = kShape.qk_step(), kVStep = kShape.v_step(), kWeightStep = kShape.weight_step();
constexpr bool kSwizzlesQk = kShape.swizzles_qk(), kSwizzlesV = kShape.swizzles_v();
constexpr int kKBytes = kShape.k_bytes(), kVBytes = kShape.v_bytes();
constexpr int kFactSlots = Shape::kFactSlots;
constexpr int kMergeStep = kShape.merge_step();
constexpr SharedLayout kAt = kShape.shared();

/// Byte of channel `channel`, a multiple of 8, of row `row` in shared memory.
template <bool swizzles, int step>
ATTN_DEVICE int place_of(int row, int channel)
{
    return row * step + (swizzles ? channel ^ (row & 7) * 8 : channel) * kBytes;
}

/// Address of the same row, 16 `pieces` channels further: `at` is one of the first 16 channels of a warp.
template <bool swizzles>
ATTN_DEVICE u32 further(u32 at, int pieces)
{
    return swizzles ? (at ^ static_cast<u32>(pieces % 4 * 32)) + static_cast<u32>(pieces / 4 * 128)
                    : at + static_cast<u32>(pieces * 32);
}

/// The place of this thread: its warp in the grid, its row (lane / 4, and 8 below it) and column (2 (lane % 4), + 1) in
/// a product.
struct Place {
    int lane, warp_m, warp_n, warp_k;
    int row, column;

    ATTN_DEVICE Place()
    {
        const int warp = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / 32, 0);
        lane = threadIdx.x % 32;
        warp_m = warp % kWarpsM;
        warp_n = warp / kWarpsM % kWarpsN;
        warp_k = warp / (kWarpsM * kWarpsN);
        row = lane / 4;
        column = 2 * (lane % 4);
    }
};

} // namespace attn::gpu

#endif

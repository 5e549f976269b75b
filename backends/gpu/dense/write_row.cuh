// Rows of OUT from products in registers, where the rows are aligned to 16 bytes: the four lanes of a row hold pairs of
// each group of eight channels; they exchange them, so that each writes 16 bytes of four groups.
#ifndef ATTN_BACKENDS_GPU_DENSE_WRITE_ROW_CUH
#define ATTN_BACKENDS_GPU_DENSE_WRITE_ROW_CUH

#include "backends/gpu/platform.cuh"

namespace attn::gpu {

/// The first `channels` (a multiple of 8) of a row, times `factor`: row lane / 4 + 8 `half` of a product in pieces of
/// 16 rows and 8 channels. All lanes of the warp take part.
template <Element type, int pieces>
ATTN_DEVICE void write_aligned(const float (&o)[pieces][4], int half, char *row, float factor, int lane, int channels)
{
    const int quad = lane % 4;
#pragma unroll
    for (int i = 0; i < pieces / 4; ++i) { // eight channels of each lane
        u32 w[4];
#pragma unroll
        for (int j = 0; j < 4; ++j)
            w[j] = pack_pair<type>(o[4 * i + j][2 * half] * factor, o[4 * i + j][2 * half + 1] * factor);
        // Lane q ends with words 0 .. 3 of group q: a transpose of 4 x 4, in two steps of pairs.
        const bool odd = quad & 1, high = quad & 2;
        const u32 first = __shfl_xor_sync(kAllLanes, odd ? w[0] : w[1], 1);
        const u32 second = __shfl_xor_sync(kAllLanes, odd ? w[2] : w[3], 1);
        const u32 a0 = odd ? first : w[0], a1 = odd ? w[1] : first;
        const u32 b0 = odd ? second : w[2], b1 = odd ? w[3] : second;
        const u32 c0 = __shfl_xor_sync(kAllLanes, high ? a0 : b0, 2);
        const u32 c1 = __shfl_xor_sync(kAllLanes, high ? a1 : b1, 2);
        const uint4 words = make_uint4(high ? c0 : a0, high ? c1 : a1, high ? b0 : c0, high ? b1 : c1);
        if (32 * i + 8 * quad < channels) *reinterpret_cast<uint4 *>(row + 64 * i + 16 * quad) = words;
    }
}

} // namespace attn::gpu

#endif

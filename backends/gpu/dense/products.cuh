// The two products of a step, for one warp: scores from Q and K, output from weights and V.
//
// A warp holds products in pieces of 16 x 8: element e of piece j belongs to row lane / 4 + 8 (e / 2) and column
// 8 j + 2 (lane % 4) + e % 2, on the matrix units and in float32 arithmetic alike.
#ifndef ATTN_BACKENDS_GPU_DENSE_PRODUCTS_CUH
#define ATTN_BACKENDS_GPU_DENSE_PRODUCTS_CUH

#include "backends/gpu/dense/config.cuh"

namespace attn::gpu {

template <int columns>
using Pieces = float[kRowTiles][columns / 8][4];

template <int columns>
ATTN_DEVICE void clear(Pieces<columns> &x)
{
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
        for (int j = 0; j < columns / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) x[t][j][e] = 0.0f;
}

/// Scores of the rows of a warp and kWarpKeys keys, from key `first` of the block at `k_at`.
ATTN_DEVICE void multiply_qk(Pieces<kWarpKeys> &s, const char *shared, const Place &at, int k_at, int first)
{
    clear<kWarpKeys>(s);
    if constexpr (!kFloats) {
        // Lanes 0-15 name the rows of Q, lanes 16-31 the same 8 channels on; K: keys by lane % 8 and lane / 16.
        const u32 q =
            shared_address(shared + kAt.q) +
            static_cast<u32>(place_of<kSwizzlesQk, kQkStep>(at.warp_m * kWarpRows + at.lane % 16, at.lane / 16 * 8));
        const u32 k = shared_address(shared + k_at) + static_cast<u32>(place_of<kSwizzlesQk, kQkStep>(
                                                          first + at.lane % 8 + at.lane / 16 * 8, at.lane / 8 % 2 * 8));
#pragma unroll
        for (int c = 0; c < kDimQk / 16; ++c) {
            u32 a[kRowTiles][4];
#pragma unroll
            for (int t = 0; t < kRowTiles; ++t) load_matrices(a[t], further<kSwizzlesQk>(q, c) + t * 16 * kQkStep);
#pragma unroll
            for (int j = 0; j < kWarpKeys / 16; ++j) {
                u32 b[4];
                load_matrices(b, further<kSwizzlesQk>(k, c) + j * 16 * kQkStep);
#pragma unroll
                for (int t = 0; t < kRowTiles; ++t) {
                    multiply<kType>(s[t][2 * j], a[t], b[0], b[1]);
                    multiply<kType>(s[t][2 * j + 1], a[t], b[2], b[3]);
                }
            }
        }
    } else {
        const char *q = shared + kAt.q + (at.warp_m * kWarpRows + at.row) * kQkStep;
        const char *k = shared + k_at + (first + at.column) * kQkStep;
        // Channels are summed in pieces, which keeps the rounding of long sums near that of short ones.
        constexpr int kPiece = kDimQk % 32 == 0 ? 32 : 16;
#pragma unroll 1
        for (int piece = 0; piece < kDimQk; piece += kPiece) {
            Pieces<kWarpKeys> sum;
            clear<kWarpKeys>(sum);
#pragma unroll
            for (int c = 0; c < kPiece; c += 4) {
                float4 a[kRowTiles][2];
#pragma unroll
                for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
                    for (int half = 0; half < 2; ++half)
                        a[t][half] =
                            *reinterpret_cast<const float4 *>(q + (16 * t + 8 * half) * kQkStep + (piece + c) * 4);
#pragma unroll
                for (int j = 0; j < kWarpKeys / 8; ++j)
#pragma unroll
                    for (int side = 0; side < 2; ++side) {
                        const float4 b =
                            *reinterpret_cast<const float4 *>(k + (8 * j + side) * kQkStep + (piece + c) * 4);
#pragma unroll
                        for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
                            for (int half = 0; half < 2; ++half) {
                                float &x = sum[t][j][2 * half + side];
                                x = fmaf(a[t][half].x, b.x, x);
                                x = fmaf(a[t][half].y, b.y, x);
                                x = fmaf(a[t][half].z, b.z, x);
                                x = fmaf(a[t][half].w, b.w, x);
                            }
                    }
            }
#pragma unroll
            for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
                for (int j = 0; j < kWarpKeys / 8; ++j)
#pragma unroll
                    for (int e = 0; e < 4; ++e) s[t][j][e] += sum[t][j][e];
        }
    }
}

/// Weights into shared memory, for the warps that multiply them with V.
ATTN_DEVICE void share_weights(const Pieces<kWarpKeys> &w, char *shared, const Place &at)
{
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
        for (int j = 0; j < kWarpKeys / 8; ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = at.warp_m * kWarpRows + 16 * t + at.row + 8 * half;
                const int column = at.warp_n * kWarpKeys + 8 * j + at.column;
                char *to = shared + kAt.weights + row * kWeightStep + column * kBytes;
                if constexpr (kFloats)
                    *reinterpret_cast<float2 *>(to) = make_float2(w[t][j][2 * half], w[t][j][2 * half + 1]);
                else
                    *reinterpret_cast<u32 *>(to) = pack_pair<kType>(w[t][j][2 * half], w[t][j][2 * half + 1]);
            }
}

/// Output of the rows of a warp and kWarpChannels channels += weights times V, on the matrix units. Weights come from
/// shared memory, or from `w` where the warp has all of them.
ATTN_DEVICE void multiply_pv_pairs(Pieces<kWarpChannels> &o, const Pieces<kWarpKeys> &w, const char *shared,
                                   const Place &at, int v_at)
{
    const u32 weights = shared_address(shared + kAt.weights) +
                        static_cast<u32>((at.warp_m * kWarpRows + at.lane % 16) * kWeightStep + at.lane / 16 * 16);
    const u32 v = shared_address(shared + v_at) +
                  static_cast<u32>(place_of<kSwizzlesV, kVStep>(at.warp_k * kStepKeys + at.lane % 16,
                                                                at.warp_n * kWarpChannels + at.lane / 16 * 8));
    constexpr int kPieces = kWarpChannels / 16, kLoads = kStepKeys / 16 * kPieces;
    u32 a[kStepKeys / 16][kRowTiles][4];
    if constexpr (!kSharedWeights)
#pragma unroll
        for (int k = 0; k < kStepKeys / 16; ++k)
#pragma unroll
            for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
                for (int half = 0; half < 4; ++half) {
                    const float *pair = w[t][2 * k + half / 2] + half % 2 * 2;
                    a[k][t][half] = pack_pair<kType>(pair[0], pair[1]);
                }
    // Matrices of V are loaded one ahead.
    u32 b[2][4];
    const auto load = [&](int i) {
        load_matrices_transposed(b[i % 2], further<kSwizzlesV>(v, i % kPieces) + i / kPieces * 16 * kVStep);
    };
    load(0);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
        const int k = i / kPieces, j = i % kPieces;
        if (i + 1 < kLoads) load(i + 1);
        if constexpr (kSharedWeights)
            if (j == 0)
#pragma unroll
                for (int t = 0; t < kRowTiles; ++t) load_matrices(a[k][t], weights + t * 16 * kWeightStep + k * 32);
#pragma unroll
        for (int t = 0; t < kRowTiles; ++t) {
            multiply<kType>(o[t][2 * j], a[k][t], b[i % 2][0], b[i % 2][1]);
            multiply<kType>(o[t][2 * j + 1], a[k][t], b[i % 2][2], b[i % 2][3]);
        }
    }
}

/// In place of the weight of a key that the row does not see: a NaN that no arithmetic makes.
constexpr u32 kHidden = 0xffffffffu;

/// Likewise in float32 arithmetic. Of a hidden key nothing is added, whatever V holds.
ATTN_DEVICE void multiply_pv_floats(Pieces<kWarpChannels> &o, const char *shared, const Place &at, int v_at)
{
    constexpr int kColumns = kWarpChannels % 32 == 0 ? 32 : 16; // at a time: their sums of one block are apart
    const char *weights = shared + kAt.weights + (at.warp_m * kWarpRows + at.row) * kWeightStep;
#pragma unroll
    for (int column = 0; column < kWarpChannels; column += kColumns) {
        const char *v = shared + v_at + (at.warp_n * kWarpChannels + column + at.column) * 4;
        Pieces<kColumns> sum;
        clear<kColumns>(sum);
#pragma unroll 4
        for (int k = 0; k < kKeys; ++k) {
            float a[kRowTiles][2];
#pragma unroll
            for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
                for (int half = 0; half < 2; ++half)
                    a[t][half] = *reinterpret_cast<const float *>(weights + (16 * t + 8 * half) * kWeightStep + k * 4);
#pragma unroll
            for (int j = 0; j < kColumns / 8; ++j) {
                const float2 b = *reinterpret_cast<const float2 *>(v + k * kVStep + j * 32);
#pragma unroll
                for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        if (__float_as_uint(a[t][half]) == kHidden) continue;
                        sum[t][j][2 * half] = fmaf(a[t][half], b.x, sum[t][j][2 * half]);
                        sum[t][j][2 * half + 1] = fmaf(a[t][half], b.y, sum[t][j][2 * half + 1]);
                    }
            }
        }
#pragma unroll
        for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
            for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
                for (int e = 0; e < 4; ++e) o[t][column / 8 + j][e] += sum[t][j][e];
    }
}

} // namespace attn::gpu

#endif

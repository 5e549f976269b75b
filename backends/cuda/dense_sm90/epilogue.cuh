// From the sums of a tile to OUT and LSE, by registers alone: shared memory stays with the tiles that come.
#ifndef ATTN_BACKENDS_CUDA_DENSE_SM90_EPILOGUE_CUH
#define ATTN_BACKENDS_CUDA_DENSE_SM90_EPILOGUE_CUH

#include "backends/cuda/dense_sm90/rows.cuh"
#include "backends/gpu/dense/write_row.cuh"

namespace attn::sm90 {

/// As the portable kernel's gate_factor(), without branches: a tile has many elements.
ATTN_DEVICE void multiply_by_gate(const ForwardParams &p, const char *gate, const Place &at, int half, Output &o)
{
    const TokenView &v = p.gate_values;
#pragma unroll
    for (int j = 0; j < kDimV / 8; ++j)
#pragma unroll
        for (int side = 0; side < 2; ++side) {
            const int channel = 8 * j + at.column + side;
            if (channel >= p.dim_v) continue;
            const float g = read_element(gate + channel * v.channel_step, v.type);
            const float sigmoid = __fdividef(1.0f, 1.0f + exp2_fast(-g * kLog2e));
            const float linear = p.gate == kGateSigmoid ? 1.0f : g;
            o[j][2 * half + side] *= linear * (p.gate == kGateLinear ? 1.0f : sigmoid);
        }
}

/// Writes the rows of a tile. `o`, which is used up, holds sums of weights times V.
ATTN_DEVICE void write_tile(const ForwardParams &p, const Tile &tile, const Place &at, const RowState &state, Output &o)
{
    const Sequence &s = tile.sequence;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int token = tile.first + at.row + 8 * half;
        const bool is_row = token < s.q_length;
        const RowSums sums = {state.max[half] * (kFinishesScores ? 1.0f : p.score_factor), row_sum(state.sum[half]),
                              0.0f};
        RowFactor factor = {0.0f, true};
        char *out = nullptr;
        if (is_row) {
            factor = finish_row<kHasEpilogue>(p, s, token, tile.head, sums, at.lane % 4 == 0);
            out = const_cast<char *>(token_address(p, p.out, s, token, tile.head));
        }
        if (factor.zero) { // exactly, whatever V holds
#pragma unroll
            for (int j = 0; j < kDimV / 8; ++j) o[j][2 * half] = o[j][2 * half + 1] = 0.0f;
        }
        if constexpr (kHasGate)
            if (is_row && !factor.zero)
                multiply_by_gate(p, token_address(p, p.gate_values, s, token, tile.head), at, half, o);
        write_aligned<kType>(o, half, out, factor.zero ? 0.0f : factor.factor, at.lane, is_row ? p.dim_v : 0);
    }
}

/// Writes the rows of a tile that sees no key, by one warp that has few registers.
ATTN_DEVICE void write_nothing(const ForwardParams &p, const Tile &tile)
{
    int lane;
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    const Sequence &s = tile.sequence;
    const int end = smaller(tile.first + kRows, s.q_length);
    const RowSums none = {-infinity(), 0.0f, 0.0f};
#pragma unroll 1
    for (int token = tile.first + lane; token < end; token += 32)
        finish_row<kHasEpilogue>(p, s, token, tile.head, none, true);
#pragma unroll 1
    for (int token = tile.first; token < end; ++token) {
        char *out = const_cast<char *>(token_address(p, p.out, s, token, tile.head));
        if (8 * lane < p.dim_v) *reinterpret_cast<uint4 *>(out + 16 * lane) = make_uint4(0, 0, 0, 0);
    }
}

} // namespace attn::sm90

#endif

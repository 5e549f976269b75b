// From the sums of a tile to OUT and LSE: through shared memory, where there is room beside the tiles that come and all
// rows of a consumer are written; else from registers.
#ifndef ATTN_BACKENDS_CUDA_DENSE_SM90_EPILOGUE_CUH
#define ATTN_BACKENDS_CUDA_DENSE_SM90_EPILOGUE_CUH

#include "backends/cuda/dense_sm90/rows.cuh"
#include "backends/cuda/ptx/named_barrier.cuh"
#include "backends/cuda/ptx/store_matrices.cuh"
#include "backends/cuda/ptx/tma.cuh"
#include "backends/gpu/dense/write_row.cuh"

namespace attn::sm90 {

/// As the portable kernel's gate_factor(), without branches: a tile has many elements.
ATTN_DEVICE void multiply_by_gate(const ForwardParams &p, const char *gate, const Place &at, int half, Output &o)
{
    const TokenView &v = p.gate_values;
    // Relative to the thread's own channel: what differs from channel to channel is the same for all threads, and takes
    // none of their registers.
    const int end = p.dim_v - at.column;
    gate += at.column * v.channel_step;
#pragma unroll
    for (int j = 0; j < kDimV / 8; ++j)
#pragma unroll
        for (int side = 0; side < 2; ++side) {
            const int channel = 8 * j + side;
            if (channel >= end) continue;
            const float g = read_element(gate + channel * v.channel_step, v.type);
            const float sigmoid = __fdividef(1.0f, 1.0f + exp2_fast(-g * kLog2e));
            const float linear = p.gate == kGateSigmoid ? 1.0f : g;
            o[j][2 * half + side] *= linear * (p.gate == kGateLinear ? 1.0f : sigmoid);
        }
}

/// From the sums of a row to what multiplies it, and where `writes`, its statistics.
ATTN_DEVICE RowFactor finish_row(const ForwardParams &p, const Tile &tile, int token, const RowSums &sums, bool writes)
{
    const Sequence &s = tile.sequence;
    RowFactor factor = {1.0f, false};
    if constexpr (kHasSoftmax || kHasEpilogue)
        factor = gpu::finish_row<kHasEpilogue>(p, s, token, tile.head, sums, writes);
    if constexpr (kHasRelu) {
        const float length = static_cast<float>(p.weight_length ? p.weight_length : s.k_length);
        factor.factor *= unit_of_scores(p) / length;
    }
    if constexpr (kHasSigmoid) factor.factor *= 1.0f / kSigmoidUnit<kType>;
    return factor;
}

/// Writes the rows of a tile. `o`, which is used up, holds sums of weights times V.
ATTN_DEVICE void write_tile(const ForwardParams &p, const Tile &tile, const Place &at, const RowState &state, Output &o)
{
    const Sequence &s = tile.sequence;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int token = tile.first + at.row + 8 * half;
        const bool is_row = token < s.q_length;
        const RowSums sums = state.sums(p, half);
        RowFactor factor = {0.0f, true};
        char *out = nullptr;
        if (is_row) {
            factor = finish_row(p, tile, token, sums, at.lane % 4 == 0);
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

/// As write_tile(), for a consumer whose rows are all of the sequence; by way of its part of the buffer at `buffer`.
ATTN_DEVICE void store_tile(const ForwardParams &p, const ptx::TensorMap &map, const Tile &tile, const Place &at,
                            const RowState &state, Output &o, u32 buffer)
{
    const Sequence &s = tile.sequence;
    float scale[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int token = tile.first + at.row + 8 * half;
        const RowFactor factor = finish_row(p, tile, token, state.sums(p, half), at.lane % 4 == 0);
        if (factor.zero) { // exactly, whatever V holds
#pragma unroll
            for (int j = 0; j < kDimV / 8; ++j) o[j][2 * half] = o[j][2 * half + 1] = 0.0f;
        }
        if constexpr (kHasGate)
            if (!factor.zero) multiply_by_gate(p, token_address(p, p.gate_values, s, token, tile.head), at, half, o);
        scale[half] = factor.zero ? 0.0f : factor.factor;
    }
    const bool copies = threadIdx.x % kWarpgroup == 0;
    const u32 part = buffer + at.consumer * (64 * 128 * kVBlocks);
    if (copies) ptx::tma_store_wait_read(); // the tile before
    ptx::named_barrier_wait(kConsumerBarrier + at.consumer, kWarpgroup);
    const u32 row = part + (at.row - 64 * at.consumer - at.lane / 4 + at.lane % 16) * 128;
#pragma unroll
    for (int j = 0; j < kDimV / 16; ++j)
        ptx::store_matrices(row + j / 4 * (64 * 128) + ((2 * (j % 4) + at.lane / 16) ^ (at.lane % 8)) * 16,
                            pack_pair<kType>(o[2 * j][0] * scale[0], o[2 * j][1] * scale[0]),
                            pack_pair<kType>(o[2 * j][2] * scale[1], o[2 * j][3] * scale[1]),
                            pack_pair<kType>(o[2 * j + 1][0] * scale[0], o[2 * j + 1][1] * scale[0]),
                            pack_pair<kType>(o[2 * j + 1][2] * scale[1], o[2 * j + 1][3] * scale[1]));
    ptx::fence_shared_for_engines();
    ptx::named_barrier_wait(kConsumerBarrier + at.consumer, kWarpgroup);
    if (!copies) return;
    const int first = static_cast<int>(s.q_first) + tile.first + 64 * at.consumer;
#pragma unroll
    for (int b = 0; b < kVBlocks; ++b)
        ptx::tma_store(map, part + b * (64 * 128), 64 * b, first, tile.head, p.sequences.cu_q.base ? 0 : s.index);
    ptx::tma_store_commit();
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
    for (int token = tile.first + lane; token < end; token += 32) finish_row(p, tile, token, none, true);
#pragma unroll 1
    for (int token = tile.first; token < end; ++token) {
        char *out = const_cast<char *>(token_address(p, p.out, s, token, tile.head));
        if (8 * lane < p.dim_v) *reinterpret_cast<uint4 *>(out + 16 * lane) = make_uint4(0, 0, 0, 0);
    }
}

} // namespace attn::sm90

#endif

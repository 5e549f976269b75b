// Scores to weights, and the state of the rows of a thread over the blocks of their keys.
#ifndef ATTN_BACKENDS_GPU_DENSE_SOFTMAX_CUH
#define ATTN_BACKENDS_GPU_DENSE_SOFTMAX_CUH

#include "backends/gpu/dense/products.cuh"
#include "backends/gpu/dense/scores.cuh"

namespace attn::gpu {

/// Running state of the rows of a thread. Sums are of the thread's own columns until the end.
struct RowState {
    float max[kRowsOfThread];    ///< Of the scores as they come.
    float sum[kRowsOfThread];    ///< Of weights.
    float spread[kRowsOfThread]; ///< Of weight times distance from the maximum.

    ATTN_DEVICE RowState()
    {
#pragma unroll
        for (int i = 0; i < kRowsOfThread; ++i) max[i] = -infinity(), sum[i] = spread[i] = 0.0f;
    }
};

/// Largest scores of the rows of a thread, of its own columns.
ATTN_DEVICE void own_largest_scores(const Pieces<kWarpKeys> &x, float (&top)[kRowsOfThread])
{
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) top[i] = -infinity();
    each_score([&](int r, int t, int j, int e, int) { top[r] = fmaxf(top[r], x[t][j][e]); });
}

/// From those to the largest over all lanes and warps that share a row.
ATTN_DEVICE void share_largest_scores(char *shared, const Place &at, float (&top)[kRowsOfThread])
{
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) top[i] = row_max(top[i]);
    if constexpr (kWarpsN > 1) {
        float *all = reinterpret_cast<float *>(shared + kAt.reduce);
        const int row = at.warp_m * kWarpRows + at.row;
        if (at.lane % 4 == 0)
#pragma unroll
            for (int i = 0; i < kRowsOfThread; ++i) all[at.warp_n * kRows + row + 8 * i] = top[i];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < kRowsOfThread; ++i)
#pragma unroll
            for (int n = 0; n < kWarpsN; ++n) top[i] = fmaxf(top[i], all[n * kRows + row + 8 * i]);
    }
}

/// A row of the plain operator keeps its reference until a score exceeds it by so much, in units of log2(e): weights of
/// up to 2^8 lose nothing, and what was summed before need not be multiplied.
constexpr float kSlack = 8.0f;

/// One step of the online softmax: scores to weights. Returns whether what was summed before is to be multiplied by
/// `alpha`: false in most steps of the plain operator.
ATTN_DEVICE bool soften(const ForwardParams &p, Pieces<kWarpKeys> &x, RowState &state, char *shared, const Place &at,
                        float (&alpha)[kRowsOfThread])
{
    // The plain operator keeps products as they are; their factor joins the exponent.
    const float factor = kGeneral ? 1.0f : p.score_factor;
    float top[kRowsOfThread], reference[kRowsOfThread], added[kRowsOfThread], spread[kRowsOfThread];
    own_largest_scores(x, top);
    // Lanes and warps that share a row keep the same reference. Where one warp has it, rows that need it move when any
    // lane asks for it; else all rows move always.
    constexpr bool kWaits = !kGeneral && kWarpsN == 1;
    bool moves = !kWaits;
    if constexpr (kWaits) {
#pragma unroll
        for (int i = 0; i < kRowsOfThread; ++i) moves |= (top[i] - state.max[i]) * factor > kSlack;
        moves = __any_sync(kAllLanes, moves);
    }
    if (moves) {
        share_largest_scores(shared, at, top);
#pragma unroll
        for (int i = 0; i < kRowsOfThread; ++i) {
            // A row that need not move stays: its bits do not depend on the other rows of the warp.
            const float old = state.max[i];
            if (kWaits && !((top[i] - old) * factor > kSlack)) top[i] = old;
            const float now = fmaxf(old, top[i]);
            // Exactly 1 for a row that stays. Nothing seen yet: every weight becomes 0.
            alpha[i] = exp2_fast((old - (now == -infinity() ? 0.0f : now)) * factor);
            if (kGeneral && p.has_entropy) state.spread[i] += old == -infinity() ? 0.0f : (old - now) * state.sum[i];
            state.max[i] = now;
            state.sum[i] *= alpha[i];
            if (kGeneral && p.has_entropy) state.spread[i] *= alpha[i];
        }
    }
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
        reference[i] = state.max[i] == -infinity() ? 0.0f : state.max[i] * factor;
        added[i] = spread[i] = 0.0f;
    }
    each_score([&](int r, int t, int j, int e, int) {
        const float d = kGeneral ? x[t][j][e] - reference[r] : fmaf(x[t][j][e], factor, -reference[r]);
        const float weight = exp2_fast(d);
        added[r] += weight;
        if (kGeneral && p.has_entropy && weight != 0.0f) spread[r] = fmaf(weight, d, spread[r]);
        x[t][j][e] = weight;
    });
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
        state.sum[i] += added[i];
        if (kGeneral && p.has_entropy) state.spread[i] += spread[i];
    }
    return moves;
}

/// Weights that do not depend on the other keys of the row. Masked scores weigh 0.
ATTN_DEVICE void weigh_each(const ForwardParams &p, const Sequence &s, Pieces<kWarpKeys> &x, RowState &state)
{
    const float length = static_cast<float>(p.weight_length ? p.weight_length : s.k_length);
    const float divisor = 1.0f / length;
    each_score([&](int r, int t, int j, int e, int) {
        const float score = x[t][j][e];
        state.max[r] = fmaxf(state.max[r], score);
        if (p.activation == kSigmoid)
            x[t][j][e] = score == -infinity() ? 0.0f : sigmoid2(score + p.weight_bias);
        else
            x[t][j][e] = score < 0.0f ? 0.0f : score * divisor;
    });
}

} // namespace attn::gpu

#endif

// Dense attention: the problem that attn_dense describes.
#ifndef ATTN_SRC_DENSE_H
#define ATTN_SRC_DENSE_H

#include "mask/program.h"
#include "problem.h"

namespace attn {

/// Visibility of keys in the terms of one diagonal. A key is visible if it is within the length, on or before the
/// diagonal where causal, and in the window or among the sink tokens.
struct DenseMask {
    bool causal = false;
    bool has_left = false;
    bool has_right = false;
    attn_align align = ATTN_ALIGN_NONE; ///< Where the diagonal lies, if anything needs it.
    int64_t left = 0;
    int64_t right = 0;
    int64_t sink_tokens = 0;
};

/// A bias looked up by relative position. The lookup is a map made at plan time: by clamped distance, or for a grid by
/// the difference of two offsets, one per query and one per key.
struct BiasTable {
    bool present = false;
    attn_table_kind kind = ATTN_TABLE_DISTANCE;
    int64_t entries = 0;
    int64_t max_distance = 0;
    int64_t buckets = 0; ///< Of ATTN_TABLE_BUCKET.
    bool bidirectional = false;
    int64_t grid[4] = {};                   ///< Extents, up to the first 0.
    std::vector<int32_t> entry_of_distance; ///< [2 max_distance + 1]
    std::vector<int32_t> grid_offset;       ///< [tokens]: entry = grid_offset[i] - grid_offset[j] + grid_center
    int64_t grid_center = 0;
};

/// Dense attention, normalised.
struct DenseProblem final : Problem {
    int64_t group = 0;  ///< Consecutive OUT heads that share everything a block of keys needs: K, V, low-rank bias.
    double softcap = 0; ///< 0: none.
    DenseMask mask;
    MaskProgram program; ///< What attn_dense.mask further hides.
    attn_activation activation = ATTN_SOFTMAX;
    double activation_bias = 0;
    int64_t activation_length = 0; ///< 0: the keys of the sequence.
    attn_bias_stage bias_stage = ATTN_BIAS_POST_SOFTCAP;
    attn_gate gate = ATTN_GATE_SIGMOID;
    int64_t bias_rank = 0;
    BiasTable bias_table;
};

/// Validates a caller's descriptor and resolves it. Everything it points to is read during the call only.
[[nodiscard]] attn_status read_dense(const attn_dense *given, DenseProblem *out);

} // namespace attn

#endif

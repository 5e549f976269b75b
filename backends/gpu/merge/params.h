// Parameters of the kernels of a merge.
#ifndef ATTN_BACKENDS_GPU_MERGE_PARAMS_H
#define ATTN_BACKENDS_GPU_MERGE_PARAMS_H

#include "backends/gpu/params.h"

namespace attn::gpu {

/// Most threads of a block.
constexpr i32 kMergeThreads = 256;
/// Channels of a thread.
constexpr i32 kMergeChannels = 4;
/// Parts whose views fit the parameters of a launch, by rule at most 4096 bytes. More are in the workspace, where
/// launches before have written them.
constexpr i32 kDirectParts = 48;
/// Parts that one such launch writes.
constexpr i32 kPartsPerLaunch = 53;
/// Parts that are summed by themselves: so rounding grows with their number and that of the sums, not with all parts.
constexpr i32 kPartsPerSum = 32;

/// One part.
struct MergePart {
    const char *out;                                 ///< By token, head and channel.
    const char *score;                               ///< LSE by token and head; NULL where parts add.
    i64 out_batch, out_token, out_head, out_channel; ///< Steps.
    i64 score_batch, score_token, score_head;
};

struct MergeParameters {
    MergePart parts[kDirectParts]; ///< The first is here in any case.
    const MergePart *table;        ///< Where the parts are instead; NULL: above.
    TokenView out, gate, head_weight;
    ScoreView score; ///< LSE.
    IntegerVector cu_seqlens, seqlens;
    const char *sinks; ///< float32 by head.
    i64 sink_step;
    i64 rows; ///< Tokens times heads, in use or not.
    i64 batch, tq, heads;
    i32 channels; ///< dim_v.
    i32 part_count;
    i32 part_type; ///< Element.
    i32 gate_kind; ///< Gate, where the gate is not absent.
    i32 weighed;   ///< By LSE; else the parts add.
    // A thread serves 4 channels of one row, and one slice of the parts.
    i32 lanes;          ///< Threads side by side along the channels.
    i32 slices;         ///< Of the parts.
    i32 rows_per_block; ///< lanes * slices * rows_per_block <= kMergeThreads.
    i32 reserved;
};
static_assert(sizeof(MergeParameters) <= 4096);

/// Of the kernel that runs before: writes parts to the workspace, or looks for faults.
struct MergePrepareParameters {
    MergePart parts[kPartsPerLaunch];
    MergePart *to; ///< Where parts[0] goes; NULL: look for faults.
    IntegerVector cu_seqlens, seqlens;
    TokenView status; ///< As tokens.
    i64 batch, tq, total_rows, longest;
    i32 count; ///< Of parts.
    i32 reserved;
};
static_assert(sizeof(MergePrepareParameters) <= 4096);

} // namespace attn::gpu

#endif

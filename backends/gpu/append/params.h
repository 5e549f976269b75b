// Parameters of the kernels of an append.
#ifndef ATTN_BACKENDS_GPU_APPEND_PARAMS_H
#define ATTN_BACKENDS_GPU_APPEND_PARAMS_H

#include "backends/gpu/params.h"

namespace attn::gpu {

/// Threads of a block.
constexpr i32 kAppendThreads = 256;
/// New rows of a block, at most.
constexpr i32 kAppendRows = 64;
/// Channels that a thread of the vector kernel moves at a time; of a rotated pair both halves as many.
constexpr i32 kAppendChannels = 8;
/// New rows among which each block looks itself for later ones with the same place. More are looked up in claims.
constexpr i64 kMostRowsScanned = 2048;

/// Rows that move from one tensor to another, channels [0, channels) of each head.
struct AppendPair {
    TokenView from, to;
    i64 heads;
    i32 present;
    i32 reserved;
};

/// Indices of pairs. Those with the dimension of Q and K come first.
constexpr i32 kPairK = 0, kPairQ = 1, kPairV = 2;

/// Where new rows come from and go.
struct AppendParameters {
    AppendPair pairs[3];
    TokenView cosines, sines;  ///< Tables of angles: position as token, pair as channel.
    const double *frequencies; ///< Where angles come from a base: of each pair.
    IntegerVector cu_seqlens, seqlens, lengths, table_ptr;
    TokenView table, mapping, positions, status;
    i64 rows;                    ///< New rows of all sequences, in use or not.
    i64 batch, tq, total_rows;   ///< Of the views; total_rows where they are packed.
    i64 longest;                 ///< Bound of a sequence's new rows.
    i64 cache_rows;              ///< Of a cache without pages.
    i64 pages, columns, entries; ///< Pages that every cache has; of BLOCK_TABLE, flat or not.
    i64 max_kv, page_size, ring_rows, sink_tokens;
    i64 angles;     ///< Rows of the tables of angles.
    i64 *places;    ///< Workspace: of each new row.
    u64 *claims;    ///< Workspace: a hash table of rows.
    i64 claim_mask; ///< Its entries, a power of two, less one.
    i32 packed, mapped;
    i32 writes_cache;
    i32 distinct; ///< Whether no two rows can have the same place.
    i32 rope_dim, rope_first, interleaved;
    i32 channels_qk, channels_v;
    // A row is moved by groups of heads, and in each by units of channels: those that rotate, others of Q and K, of V.
    i32 groups, rotated_units, plain_units, v_units;
    i32 rows_per_block;
    i32 step; ///< Of attn_append_index.
};
static_assert(sizeof(AppendParameters) <= 4096);

/// What attn_append_index does.
constexpr i32 kStepPlaces = 0; ///< Notes the place of every row and clears the claims.
constexpr i32 kStepClaims = 1; ///< Of all rows with the same place the last claims it.
constexpr i32 kStepFaults = 2; ///< One block: looks for faults and writes STATUS.

} // namespace attn::gpu

#endif

// What the host hands to the kernels of dense attention. Read by both: fixed-width types only, addresses as pointers of
// the device, steps in bytes.
#ifndef ATTN_BACKENDS_GPU_DENSE_PARAMS_H
#define ATTN_BACKENDS_GPU_DENSE_PARAMS_H

#include "backends/gpu/params.h"
#include "src/mask/atoms.h"

namespace attn::gpu {

enum Activation : i32 { kSoftmax = 0, kSigmoid = 1, kRelu = 2 };
enum Lookup : i32 { kNoTable = 0, kTableByDistance = 1, kTableByGrid = 2 };

/// Where the sequences of a call lie, and how long they are. Lengths come from the device.
struct SequenceParams {
    i32 batch;
    i32 max_q, max_kv;         ///< Tq and Tk of the views; the bounds of packed and paged sequences.
    i32 page_size;             ///< 0: not paged.
    i32 bottom_right;          ///< The diagonal ends at the last query and the last key.
    i32 table_columns;         ///< Pages of a sequence, where BLOCK_TABLE has a row for each.
    IntegerVector cu_q, cu_kv; ///< Packed.
    IntegerVector used_q, used_kv;
    IntegerVector table;     ///< Pages; the first axis is `table_row_step` bytes.
    IntegerVector table_ptr; ///< Flat table: where each sequence begins.
    i64 table_row_step;
    i64 pages; ///< Of the pool.
    i64 total_q, total_kv, table_entries;
};

/// Checked mode: what lengths and pages are held to, by the plan.
struct CheckParams {
    SequenceParams sequences;
    TokenView status;
    i64 longest_q, longest_kv; ///< Bounds of a sequence.
    i64 most_pages;            ///< That a table may list for a sequence.
};

/// Visibility by the distance from the diagonal. By position: of the difference of positions.
struct MaskParams {
    i32 causal, has_left, has_right, by_position;
    i64 left, right;               ///< By position.
    i32 window_left, window_right; ///< By index: not more than sums of a few stay 32-bit numbers.
    i32 sink_tokens;
    i32 reserved;
    TokenView q_positions, k_positions;
};

/// A vector of integers by token: [batch, token], packed [row], paged [page, row]. Steps in bytes.
struct IntegerView {
    const char *base; ///< NULL: the program does not read it.
    i64 batch_step, token_step;
    i32 wide; ///< 1: int64, else int32.
    i32 reserved;
};

/// Pairs of ids that a mask program may read on a GPU: their views travel with every launch.
constexpr i32 kMostMaskPairs = 8;

/// A mask program. Terms and parameters are constants of the plan, in memory of the device; the views are the call's.
struct MaskArgs {
    const mask::Term *terms; ///< NULL: no program.
    const mask::Parameter *parameters;
    i32 count;       ///< Of terms.
    i32 heads;       ///< Of OUT.
    i32 by_head;     ///< The program differs between heads.
    i32 by_position; ///< It reads positions.
    i32 pairs;       ///< Of ids that it reads, at most kMostMaskPairs.
    i32 reserved;
    IntegerView positions_q, positions_kv;
    IntegerView ids_q[kMostMaskPairs], ids_kv[kMostMaskPairs];
};

/// What a mask program is on a tile of queries and keys, for those within the sequence.
enum MaskClass : unsigned char { kMaskSkip = 0, kMaskPartial = 1, kMaskFull = 2 };

/// Classes of the tiles of a launch, written before it: [batch][mask_heads][row_tiles][key_tiles].
struct MaskClasses {
    unsigned char *base;      ///< NULL: no program.
    i32 tile_rows;            ///< Rows: those of a token, one for each of its `group` heads, follow each other.
    i32 group;                ///< Tile t has the tokens of rows [t * tile_rows, (t + 1) * tile_rows).
    i32 tile_keys;            ///< A multiple of 32.
    i32 row_tiles, key_tiles; ///< That cover the longest sequences.
};

/// One launch of the forward kernel. What stands below `general` is read by the kernels that take all options.
struct ForwardParams {
    TokenView q, k, v, out;
    ScoreView lse;
    SequenceParams sequences;
    MaskParams mask;
    i32 dim_qk, dim_v;
    i32 heads_q, heads_k, heads_v, heads_out;
    i32 group;     ///< OUT heads of a tile: row r is token r / group, head head0 + r % group.
    i32 row_tiles; ///< Of the longest sequence.
    i32 splits;    ///< Parts that the keys of a sequence are split into.
    i32 section;   ///< Pairs of sequence and head group whose tiles follow each other, so that their keys stay in L2.
    u32 *tile_counter;  ///< Of tiles that were taken beyond the first of each block of threads; NULL: they take turns.
    float *partials;    ///< Where splits > 1: see partial_floats().
    float score_factor; ///< Multiplies products of Q and K: to units of 1 / log2(e) for softmax.

    // general
    i32 activation, gate, lookup, bias_rank;
    float unit, rank_factor, cap_factor, cap_inverse; ///< As ForwardShape of the CPU backend describes.
    float weight_bias;
    i64 weight_length; ///< ReLU: the divisor; 0: the keys of the sequence.
    i32 has_entropy;
    i32 mask_heads; ///< Of `mask_bits` and `classes`: heads_out or 1.
    TokenView q_temperature, v_temperature, rank_q, rank_k, gate_values, head_weight;
    ScoreView bias, row_max, row_entropy;
    const char *slopes, *sinks, *table; ///< float32
    i64 slope_step, sink_step, table_entry_step, table_head_step;
    const i32 *entry_of_distance; ///< [2 max_distance + 1]
    const i32 *grid_offset;       ///< [grid_tokens]
    i64 max_distance;
    i32 grid_tokens, grid_center;
    const u32 *mask_bits; ///< [batch][mask_heads][max_q][mask_words]; NULL: no program, or the kernel has its text.
    i64 mask_words;
    MaskClasses classes;
    MaskArgs program;  ///< For kernels that have its text.
    float *row_scales; ///< For the pass over columns: [batch][heads_out][max_q] pairs of maximum and factor.
    ScoreView column_mass;
};

/// Floats of the partial result of one tile and split: [rows][dim_v] unnormalised rows, then [rows] maxima, sums of
/// weights, and sums of weight times distance of the score from the maximum.
constexpr i64 partial_floats(i64 rows, i64 dim_v)
{
    return rows * (dim_v + 3);
}

} // namespace attn::gpu

#endif

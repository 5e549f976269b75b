// The border between the executor of dense forward attention and its kernels: one kernel per instruction set computes
// one tile of query rows against a range of keys.
#ifndef ATTN_BACKENDS_CPU_DENSE_KERNEL_H
#define ATTN_BACKENDS_CPU_DENSE_KERNEL_H

#include "backends/cpu/elements.h"
#include "mask/atoms.h"

#include <stddef.h>
#include <stdint.h>

namespace attn::cpu {

/// Keys of one step of the online softmax: the largest, and what large head dims leave of it.
constexpr int kMostKeysPerBlock = 256;
constexpr int kRowStep = kMostKeysPerBlock + 16; ///< Floats from row to row of S and P: no power of 2, see the cache.

/// Weight of a key as a function of its score.
enum class Weight : int32_t { softmax, sigmoid, relu };
/// How a bias table is looked up.
enum class Lookup : int32_t { none, distance, grid };

/// What the plan fixes for all of its tiles.
///
/// Scores are kept in units of 1 / `unit`: softmax and sigmoid want 2^x, so theirs is log2(e). Products of Q and K
/// become scores by q_factor; with a softcap they are capped as cap_factor * tanh(x), with a bias before it as
/// cap_factor * tanh(cap_inverse * (x + bias)).
struct ForwardShape {
    int64_t dim_k;  ///< Channels of K.
    int64_t dim_qk; ///< Channels of a product: those of K and of the low-rank bias.
    int64_t dim_v;
    int64_t heads_q, heads_out; ///< OUT head h reads Q head h * heads_q / heads_out.
    int64_t group;              ///< Query heads of a tile that share the K and V heads: row r is token r / group.
    int64_t tile_rows;          ///< Most rows of a tile, a multiple of the kernel's strip.
    int64_t partial_rows;       ///< Most rows of a partial result, not rounded up to a strip.
    int64_t key_block;          ///< Keys of a step, a multiple of the kernel's panel, <= kMostKeysPerBlock.
    int64_t kept_blocks;        ///< COLUMN_MASS: key blocks of which a worker can keep the weights of a tile; 0: none.
    float unit;                 ///< log2(e), or 1 for ReLU.
    float q_factor;             ///< Multiplies Q.
    float rank_factor;          ///< Multiplies the query factors of the low-rank bias.
    float cap_factor;           ///< 0: no softcap.
    float cap_inverse;          ///< 0: the bias comes after the softcap.
    Element q_type, k_type, v_type, out_type, rank_k_type;
    Weight weight;
    float weight_bias;     ///< Sigmoid: added to the score, in its unit.
    int64_t weight_length; ///< ReLU: the divisor; 0: the keys of the sequence.
    Gate gate;
    Lookup lookup;
    const int32_t *entry_of_distance; ///< Entry of distance d at d + max_distance.
    int64_t max_distance;
    const int32_t *grid_offset; ///< Entry of (i, j): grid_offset[i] - grid_offset[j] + grid_center.
    int64_t grid_center;
    bool has_bias; ///< Tensor, ALiBi or table.
    bool has_entropy;
    bool causal, by_position, has_left, has_right;
    int64_t left, right, sink_tokens;
    // A mask program, of which the plan keeps what is pointed to.
    const mask::Term *program;
    const mask::Parameter *program_parameters;
    int64_t program_terms; ///< 0: none.
    int64_t program_depth, program_pairs;
    int64_t program_words; ///< Of 64 bits, for the keys of a block.
    bool program_by_head, program_by_position;
};

/// Rows of K or V of one sequence and head: contiguous steps, or pages through a table.
struct KeyRows {
    const char *base;     ///< Row 0, of page 0 where paged.
    int64_t row_step;     ///< Bytes from row to row, within a page where paged.
    int64_t channel_step; ///< Elements from channel to channel.
    int64_t page_step;    ///< Bytes from page to page.
    int64_t page_size;    ///< 0: not paged.
    const char *table;    ///< Entry of the first page of the sequence.
    int64_t table_step;   ///< Bytes from entry to entry.
    int32_t table_wide;   ///< 1: entries are int64, else int32.
};

/// A tensor by token and head, from token 0 and head 0 of a sequence. Steps are bytes; 0 along a broadcast axis.
struct TokenRows {
    const char *base; ///< NULL: the plan does not have it.
    int64_t token_step, head_step, channel_step;
    Element type;
};

/// A pair of ids that a mask program reads.
struct TileIds {
    const char *q; ///< Of token 0; NULL: not read.
    int64_t q_step;
    KeyRows k;              ///< One channel; base NULL: not read.
    int32_t q_wide, k_wide; ///< 1: int64, else int32.
};

/// A float32 output by token and head.
struct TokenOutput {
    char *base; ///< NULL: not wanted.
    int64_t token_step, head_step;
};

/// What makes weights of the scores of a row, once all of them are known: weight = factor * 2^(score - max).
struct RowScale {
    float max, factor;
};

/// One tile of work: rows first_row .. first_row + rows of one sequence and group of heads. Row r is token
/// r / group and OUT head head0 + r % group.
struct ForwardTile {
    const char *q;                     ///< Token 0 of the sequence, head 0.
    int64_t q_token_step, q_head_step; ///< Bytes.
    int64_t q_channel_step;            ///< Elements.
    KeyRows k, v;                      ///< Of the K head and the V head of the group.
    int64_t head0, first_row, rows;
    int64_t q_length, k_length;                 ///< Queries and keys of the sequence.
    int64_t key_begin, key_end;                 ///< Keys to look at; begin is a multiple of key_block.
    int64_t diagonal;                           ///< Key level with token 0, where not by position.
    const TileIds *ids;                         ///< [program_pairs]
    const char *q_positions;                    ///< Of token 0.
    int64_t q_position_step;                    ///< Bytes.
    KeyRows k_positions;                        ///< One channel; table and pages as K.
    int32_t q_positions_wide, k_positions_wide; ///< 1: int64, else int32.

    TokenRows q_temperature; ///< By Q head.
    TokenRows rank_q;        ///< Query factors of the low-rank bias, by OUT head.
    KeyRows rank_k;          ///< Key factors, of the head of the group.
    KeyRows v_temperature;   ///< One channel, of the V head; base NULL: none.
    TokenRows bias;          ///< Its channels are keys.
    TokenRows gate, head_weight;
    const char *slopes; ///< ALiBi, by OUT head; may be NULL.
    int64_t slope_step;
    const char *sinks; ///< Sink logits, by OUT head; may be NULL.
    int64_t sink_step;
    const char *table; ///< Bias table.
    int64_t table_entry_step, table_head_step;

    // Either the final outputs ...
    char *out; ///< Token 0 of the sequence, head 0; NULL: write a partial result.
    int64_t out_token_step, out_head_step, out_channel_step;
    TokenOutput lse, row_max, row_entropy;
    TokenOutput row_scale; ///< RowScale, for COLUMN_MASS.
    /// COLUMN_MASS by weights that are kept: [group][sums_step], to which the tile adds, of at most kept_blocks blocks;
    /// NULL: not by this tile.
    double *sums;
    int64_t sums_step;
    // ... or a partial result for a merge, laid out as partial_floats() says.
    float *partial;
};

/// A partial result of a tile: [partial_rows][dim_v] unnormalised rows, then [partial_rows] row maxima, row sums, and
/// sums of weight times distance of the score from the maximum.
constexpr int64_t partial_floats(const ForwardShape &shape)
{
    return shape.partial_rows * (shape.dim_v + 3);
}

/// A kernel, compiled for one instruction set.
struct ForwardKernel {
    const char *name;
    int32_t strip; ///< Query rows computed together.
    int32_t panel; ///< Keys (or channels of V) computed together.
    /// Rows of a tile where there is work for all: enough that packing a block of K and V, which every tile does anew,
    /// costs little beside using it.
    int32_t tile_rows;
    int32_t few_rows; ///< Tiles of at most so many rows wait for memory.
    /// Scratch of one worker, in bytes, for a 64-byte aligned address.
    size_t (*scratch_bytes)(const ForwardShape &shape);
    void (*run)(const ForwardShape &shape, const ForwardTile &tile, void *scratch);
    /// Combines `parts` partial results of one tile, one after the other, into the final outputs of `tile`. Uses part 0
    /// as scratch.
    void (*merge)(const ForwardShape &shape, const ForwardTile &tile, float *partials, int64_t parts);
    /// Adds the weights of the keys of the tile, which lie in one block, to sums [group][key_block], rows in order.
    void (*add_columns)(const ForwardShape &shape, const ForwardTile &tile, double *sums, void *scratch);
};

extern const ForwardKernel kForwardBaseline;
#if defined(__x86_64__)
extern const ForwardKernel kForwardAvx2;
extern const ForwardKernel kForwardAvx512;
extern const ForwardKernel kForwardAvx512Bf16;
extern const ForwardKernel kForwardAmx;
#elif defined(__aarch64__)
extern const ForwardKernel kForwardNeon;
#endif

} // namespace attn::cpu

#endif

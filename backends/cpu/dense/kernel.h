// The border between the executor of dense forward attention and its kernels: one kernel per instruction set computes
// one tile of query rows against a range of keys.
#ifndef ATTN_BACKENDS_CPU_DENSE_KERNEL_H
#define ATTN_BACKENDS_CPU_DENSE_KERNEL_H

#include <stddef.h>
#include <stdint.h>

namespace attn::cpu {

/// Element types of the tensors a kernel reads and writes.
enum class Element : int32_t { float32, float16, bfloat16 };

/// Bytes of one element.
constexpr int64_t element_bytes(Element element)
{
    return element == Element::float32 ? 4 : 2;
}

/// Keys of one step of the online softmax: the largest, and what large head dims leave of it.
constexpr int kMostKeysPerBlock = 256;

/// What the plan fixes for all of its tiles.
struct ForwardShape {
    int64_t dim_qk, dim_v;
    int64_t heads_q, heads_out; ///< OUT head h reads Q head h * heads_q / heads_out.
    int64_t group;              ///< Query heads of a tile that share the K and V heads: row r is token r / group.
    int64_t tile_rows;          ///< Most rows of a tile, a multiple of the kernel's strip.
    int64_t key_block;          ///< Keys of a step, a multiple of the kernel's panel, <= kMostKeysPerBlock.
    float q_factor;             ///< Multiplies Q: the scale, and log2(e) or 1 / softcap with it.
    float cap_factor;           ///< 0: scores are in units of log2(e) already; else score = cap_factor * tanh(product).
    Element q_type, k_type, v_type, out_type;
    bool causal, by_position, has_left, has_right;
    int64_t left, right, sink_tokens;
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

/// One tile of work: rows first_row .. first_row + rows of one sequence and group of heads. Row r is token
/// r / group and OUT head head0 + r % group.
struct ForwardTile {
    const char *q;                     ///< Token 0 of the sequence, head 0.
    int64_t q_token_step, q_head_step; ///< Bytes.
    int64_t q_channel_step;            ///< Elements.
    KeyRows k, v;                      ///< Of the K head and the V head of the group.
    int64_t head0, first_row, rows;
    int64_t k_length;                           ///< Keys of the sequence.
    int64_t key_begin, key_end;                 ///< Keys to look at; begin is a multiple of key_block.
    int64_t diagonal;                           ///< Key level with token 0, where not by position.
    const char *q_positions;                    ///< Of token 0.
    int64_t q_position_step;                    ///< Bytes.
    KeyRows k_positions;                        ///< One channel; table and pages as K.
    int32_t q_positions_wide, k_positions_wide; ///< 1: int64, else int32.

    // Either the final outputs ...
    char *out; ///< Token 0 of the sequence, head 0; NULL: write a partial result.
    int64_t out_token_step, out_head_step, out_channel_step;
    char *lse; ///< Token 0 of the sequence, head 0; may be NULL.
    int64_t lse_token_step, lse_head_step;
    // ... or a partial result for a merge: unnormalised rows, row maxima (base 2) and row sums.
    float *partial_out; ///< [tile_rows, dim_v]
    float *partial_max; ///< [tile_rows]
    float *partial_sum; ///< [tile_rows]
};

/// A kernel, compiled for one instruction set.
struct ForwardKernel {
    const char *name;
    int32_t strip; ///< Query rows computed together.
    int32_t panel; ///< Keys (or channels of V) computed together.
    /// Scratch of one worker, in bytes, for a 64-byte aligned address.
    size_t (*scratch_bytes)(const ForwardShape &shape);
    void (*run)(const ForwardShape &shape, const ForwardTile &tile, void *scratch);
    /// Combines `parts` partial results of one tile, laid out [part] [tile_rows * (dim_v + 2)], into the final outputs
    /// of `tile`. Uses part 0 as scratch.
    void (*merge)(const ForwardShape &shape, const ForwardTile &tile, float *partials, int64_t parts);
};

extern const ForwardKernel kForwardBaseline;
#if defined(__x86_64__)
extern const ForwardKernel kForwardAvx2;
extern const ForwardKernel kForwardAvx512;
#endif

} // namespace attn::cpu

#endif

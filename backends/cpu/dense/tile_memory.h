// The scratch of a worker, and reading rows of any element type and stride.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_MEMORY_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_MEMORY_H

#include "backends/cpu/dense/kernel.h"
#include "backends/cpu/element_vectors.h"

namespace attn::cpu {
namespace {

// Products of bfloat16 pairs instead of floats: with tiles, or with dot products. See tile_blocked.h.
#if defined(ATTN_PRODUCTS_AMX) || defined(ATTN_PRODUCTS_DOT)
constexpr bool kPairs = true;
#else
constexpr bool kPairs = false;
#endif
#if defined(ATTN_PRODUCTS_AMX)
constexpr int kStrip = 32; ///< Two tiles of 16 rows.
/// Fills the registers, 32 with AVX-512 and NEON, else 16: kStrip * kVectors accumulators and 3 more.
#elif defined(__AVX512F__) || defined(ATTN_NEON)
constexpr int kStrip = 12;
#else
constexpr int kStrip = 6;
#endif
constexpr int kVectors = 2; ///< Vectors of a panel.
constexpr int kPanel = kVectors * kWidth;

constexpr int kFewRows = kWidth == 16 ? 16 : 8; ///< Tiles of at most so many rows read K and V in place.
constexpr int kScoreRows = kStrip > kFewRows ? kStrip : kFewRows;

ATTN_INLINE int64_t smaller_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
ATTN_INLINE int64_t larger_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
ATTN_INLINE int64_t round_up(int64_t value, int64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}
ATTN_INLINE int64_t round_down(int64_t value, int64_t multiple)
{
    return value / multiple * multiple;
}
ATTN_INLINE int64_t saturating_add(int64_t a, int64_t b)
{
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum)) return b < 0 ? INT64_MIN : INT64_MAX;
    return sum;
}

ATTN_INLINE int64_t saturating_subtract(int64_t a, int64_t b)
{
    int64_t difference;
    if (__builtin_sub_overflow(a, b, &difference)) return b < 0 ? INT64_MAX : INT64_MIN;
    return difference;
}
ATTN_INLINE int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return larger_of(low, smaller_of(high, value));
}

/// What a row sees. By index: keys [0, sinks) and [begin, end). By position p of a key j: p <= limit and
/// (begin <= p <= end or j < sinks).
struct RowMask {
    int64_t sinks, begin, end, limit;
};

constexpr int64_t kFarthest = 1 << 30; ///< Sums of two offsets up to here are 32-bit integers.

/// Positions of the keys of a block, and what they are more than the least.
struct KeyPositions {
    int64_t *position; ///< [key_block]
    int32_t *offset;   ///< [key_block], if the most is at most kFarthest more.
    int64_t *range;    ///< The least and the most.

    int64_t operator[](int64_t key) const { return position[key]; }
    int64_t least() const { return range[0]; }
    int64_t most() const { return range[1]; }
    bool near() const { return saturating_subtract(most(), least()) <= kFarthest; }
};

/// Keys of a block, in whole vectors.
struct KeyRange {
    int32_t begin, end;
};

/// The weights of a tile, kept for COLUMN_MASS until its rows are done: see tile_kept.h. Nothing without kept_blocks.
struct KeptWeights {
    float *weights;   ///< [kept_blocks][tile_rows][kRowStep]
    float *reference; ///< [kept_blocks][tile_rows + kWidth]: the score that has the weight 1.
    KeyRange *keys;   ///< [kept_blocks][strips]: those that the strip has weights of.
    float *max;       ///< [tile_rows + kWidth]: the last reference of a row.
    float *factor;    ///< Likewise: what a weight of the last reference is multiplied by.
    float *block;     ///< Likewise: what the weights of a block are multiplied by.
};

#if defined(ATTN_PRODUCTS_AMX)
/// What few rows have as tiles: see tile_few_amx.h. A chunk is 32 channels of Q and K.
struct FewTiles {
    float *q; ///< [chunk][channel pair][row]
    float *k; ///< [chunk][key][channel pair], where they cannot be read in place.
    float *v; ///< [2][4][key pair][channel]
    float *o; ///< [16][o_columns], of each 32 channels first the even ones
};
#endif

/// What a mask program needs of a tile and of a block of keys: see tile_program.h. Nothing without a program.
struct ProgramScratch {
    mask::Bound *bounds;        ///< [slots][terms]
    mask::Range *row_positions; ///< Of the rows of the tile.
    mask::Range *row_ids;       ///< [pairs]
    mask::Range *key_ids;       ///< [pairs]: of the keys of the block.
    int64_t *values;            ///< [pairs][whole words of keys]: ids of the keys.
    uint64_t *constants;        ///< [terms][words]: of atoms that go by the key alone.
    uint64_t *stack;            ///< [depth][words]
    uint64_t *bits;             ///< [tile_rows][words]: the keys that a row sees, all said.
    bool *by_bits;              ///< Whether `bits` holds, for this block; else the program hides nothing of it.
};

/// Ranks of the keys of a block and the part of a bias table that it needs: see tile_ranks.h.
struct BlockRanks {
    int64_t least; ///< Least rank of a key.
    bool near;     ///< The others are at most kFarthest more, their offsets known.
    int64_t low;   ///< Difference of ranks of the first entry of the slice.
    int64_t width; ///< Entries of the slice, by head; 0: none taken.
};

/// The scratch of a worker, carved from one piece of memory. Sizes depend on the shape alone.
struct Scratch {
    float *q;   ///< Strips of [channel][rows of the strip]; few rows: [row][q_columns]. Pairs: tile_pack_pairs.h.
    float *k;   ///< Panels of [channel][kPanel].
    float *v;   ///< Panels of [key_block][panel width].
    float *o;   ///< [tile_rows][o_columns]
    float *s;   ///< [kScoreRows][kRowStep]: scores, then weights.
    float *p;   ///< Likewise: weights as V takes them. Floats: s. Pairs: in the first half of a row, in the place of s
                ///< or, where weights are kept, apart.
    float *row; ///< kWidth rows of channels, converted to float.
    float *max; ///< [tile_rows]
    float *sum; ///< [tile_rows][kWidth]
    float *spread;  ///< [tile_rows]: sums of weight times distance of the score from the maximum.
    float *alpha;   ///< [kScoreRows]
    float *factor;  ///< Pairs: [tile_rows], of the products of a row.
    float *block_o; ///< [kFewRows][o_columns]: what one block adds to few rows.
#if defined(ATTN_PRODUCTS_AMX)
    FewTiles tiles;
#endif
    RowMask *mask; ///< [tile_rows]
    KeptWeights kept;
    KeyPositions position;
    ProgramScratch program;
    BlockRanks *ranks;
    int32_t *offset; ///< [key_block]: ranks of the keys, less the least.
    bool *adjacent;  ///< [key_block / kWidth]: whether the ranks of a vector are consecutive.
    float *slice;    ///< [group][slice_step]: entries of the bias table by difference of ranks.
    int64_t slice_step;
    int64_t q_columns; ///< Words of a row of Q and K.
    int64_t o_columns, row_columns;
    size_t bytes;

    Scratch(const ForwardShape &shape, void *memory)
        : slice_step(slice_width(shape)),
          q_columns(kPairs ? round_up(shape.dim_qk, 2 * kWidth) / 2 : round_up(shape.dim_qk, kWidth)),
          o_columns(round_up(shape.dim_v, kPairs ? 2 * kWidth : kWidth)),
          row_columns(round_up(larger_of(shape.dim_qk, shape.dim_v), kWidth) + kWidth),
          bytes(0),
          base_(static_cast<char *>(memory))
    {
        q = take<float>(shape.tile_rows * q_columns + kWidth);
        k = take<float>(round_up(shape.key_block, kPanel) * (kPairs ? q_columns : shape.dim_qk) + kWidth);
        v = take<float>(round_up(shape.key_block, kPanel) * round_up(shape.dim_v, kPanel) / (kPairs ? 2 : 1));
        o = take<float>(shape.tile_rows * o_columns);
        s = p = take<float>(kScoreRows * kRowStep);
        row = take<float>(kWidth * row_columns);
        max = take<float>(shape.tile_rows + kWidth);
        sum = take<float>(shape.tile_rows * kWidth);
        spread = take<float>(shape.tile_rows);
        alpha = take<float>(kScoreRows);
        factor = take<float>(kPairs ? shape.tile_rows + kWidth : 0);
        block_o = take<float>(kFewRows * o_columns);
#if defined(ATTN_PRODUCTS_AMX)
        tiles = {take<float>(16 * q_columns), take<float>(16 * q_columns), take<float>(2 * 4 * 256),
                 take<float>(16 * o_columns)};
#endif
        mask = take<RowMask>(shape.tile_rows);
        const int64_t blocks = shape.kept_blocks, rows = shape.tile_rows + kWidth;
        kept = {take<float>(blocks * shape.tile_rows * kRowStep),
                take<float>(blocks * rows),
                take<KeyRange>(blocks * (shape.tile_rows / kStrip)),
                take<float>(blocks ? rows : 0),
                take<float>(blocks ? rows : 0),
                take<float>(blocks ? rows : 0)};
        const int64_t words = shape.program_words, pairs = shape.program_pairs;
        position = {take<int64_t>(larger_of(shape.key_block, 64 * words)), take<int32_t>(shape.key_block),
                    take<int64_t>(2)};
        const int64_t slots = shape.program_by_head ? smaller_of(shape.group, shape.tile_rows) : 1;
        program = {take<mask::Bound>(slots * shape.program_terms),
                   take<mask::Range>(1),
                   take<mask::Range>(pairs),
                   take<mask::Range>(pairs),
                   take<int64_t>(pairs * 64 * words),
                   take<uint64_t>(shape.program_terms * words),
                   take<uint64_t>(shape.program_depth * words),
                   take<uint64_t>(shape.tile_rows * words),
                   take<bool>(1)};
        ranks = take<BlockRanks>(1);
        offset = take<int32_t>(shape.key_block);
        adjacent = take<bool>(shape.key_block / kWidth);
        slice = take<float>(shape.group * slice_step);
    }

private:
    /// Room for the differences of ranks of a tile and a block on grids of up to three axes, which are up to 2^3 times
    /// as many as tokens and keys. Where rows of few tokens share a head, taking them would cost more than it saves.
    static int64_t slice_width(const ForwardShape &shape)
    {
        const int64_t tokens = shape.tile_rows / shape.group;
        if (shape.lookup == Lookup::none || tokens < 2) return 0;
        const int64_t entries = 2 * (shape.lookup == Lookup::grid ? shape.grid_center : shape.max_distance) + 1;
        const int64_t most = 8 * (shape.key_block + tokens + 1);
        return shape.lookup == Lookup::grid ? smaller_of(entries, most) : most;
    }
    template <class T>
    T *take(int64_t count)
    {
        // Computed from 0 where only the size is asked for, so as an integer.
        T *place = reinterpret_cast<T *>(reinterpret_cast<uintptr_t>(base_) + bytes);
        bytes += static_cast<size_t>(round_up(count * static_cast<int64_t>(sizeof(T)), 64));
        return place;
    }
    char *base_;
};

ATTN_INLINE int64_t read_integer(const char *p, int32_t wide)
{
    if (wide) {
        int64_t value;
        __builtin_memcpy(&value, p, sizeof value);
        return value;
    }
    int32_t value;
    __builtin_memcpy(&value, p, sizeof value);
    return value;
}

ATTN_INLINE const char *key_row(const KeyRows &rows, int64_t key)
{
    if (rows.page_size == 0) return rows.base + key * rows.row_step;
    const int64_t entry = key / rows.page_size;
    const int64_t page = read_integer(rows.table + entry * rows.table_step, rows.table_wide);
    return rows.base + page * rows.page_step + (key - entry * rows.page_size) * rows.row_step;
}

/// One row of channels as floats; the tail of the last vector is 0.
inline void read_row(const char *p, Element type, int64_t step, int64_t channels, float *out)
{
    int64_t c = 0;
    const int64_t bytes = element_bytes(type);
    if (step == 1)
        for (; c + kWidth <= channels; c += kWidth) store(out + c, read_vector(p + c * bytes, type));
    for (; c < channels; c += kWidth)
        store(out + c, read_some(p + c * step * bytes, type, step, smaller_of(kWidth, channels - c)));
}

/// Token and OUT head of a row of the tile.
struct RowPlace {
    int64_t token, head;

    RowPlace(const ForwardShape &shape, const ForwardTile &tile, int64_t row)
        : token((tile.first_row + row) / shape.group), head(tile.head0 + (tile.first_row + row) % shape.group)
    {
    }
};

ATTN_INLINE const char *token_row(const TokenRows &rows, int64_t token, int64_t head)
{
    return rows.base + token * rows.token_step + head * rows.head_step;
}

/// Whether rows can be used where they are, in whole vectors.
ATTN_INLINE bool is_in_place(Element type, int64_t channel_step, int64_t channels)
{
    return type == Element::float32 && channel_step == 1 && channels % kWidth == 0;
}

ATTN_INLINE bool is_q_in_place(const ForwardShape &shape, const ForwardTile &tile)
{
    return !tile.q_temperature.base && !tile.rank_q.base &&
           is_in_place(shape.q_type, tile.q_channel_step, shape.dim_qk);
}
ATTN_INLINE bool is_k_in_place(const ForwardShape &shape, const ForwardTile &tile)
{
    return !tile.rank_q.base && is_in_place(shape.k_type, tile.k.channel_step, shape.dim_qk);
}
ATTN_INLINE bool is_v_in_place(const ForwardShape &shape, const ForwardTile &tile)
{
    return !tile.v_temperature.base && is_in_place(shape.v_type, tile.v.channel_step, shape.dim_v);
}

/// Where row `row` of the tile's queries is.
ATTN_INLINE const char *q_row(const ForwardShape &shape, const ForwardTile &tile, int64_t row)
{
    const RowPlace at(shape, tile, row);
    return tile.q + at.token * tile.q_token_step + at.head * shape.heads_q / shape.heads_out * tile.q_head_step;
}

/// That row as floats, times its factors, the low-rank factors behind it.
inline void read_q_row(const ForwardShape &shape, const ForwardTile &tile, int64_t row, float *out)
{
    const RowPlace at(shape, tile, row);
    store(out + round_up(shape.dim_qk, kWidth) - kWidth, Vec{}); // what the two parts leave of the last vector
    read_row(q_row(shape, tile, row), shape.q_type, tile.q_channel_step, shape.dim_k, out);
    float factor = shape.q_factor;
    if (tile.q_temperature.base)
        factor *= read_float(token_row(tile.q_temperature, at.token, at.head * shape.heads_q / shape.heads_out),
                             Element::float32);
    for (int64_t c = 0; c < shape.dim_k; c += kWidth) store(out + c, load(out + c) * factor);
    if (!tile.rank_q.base) return;
    const TokenRows &rank = tile.rank_q;
    const int64_t step = rank.channel_step / element_bytes(rank.type);
    float *behind = out + shape.dim_k;
    read_row(token_row(rank, at.token, at.head), rank.type, step, shape.dim_qk - shape.dim_k, behind);
    for (int64_t c = 0; c < shape.dim_qk - shape.dim_k; c += kWidth)
        store(behind + c, load(behind + c) * shape.rank_factor);
}

/// Row `key` of K as floats, the low-rank factors behind it.
inline void read_k_row(const ForwardShape &shape, const ForwardTile &tile, int64_t key, float *out)
{
    store(out + round_up(shape.dim_qk, kWidth) - kWidth, Vec{});
    read_row(key_row(tile.k, key), shape.k_type, tile.k.channel_step, shape.dim_k, out);
    if (tile.rank_q.base)
        read_row(key_row(tile.rank_k, key), shape.rank_k_type, tile.rank_k.channel_step, shape.dim_qk - shape.dim_k,
                 out + shape.dim_k);
}

/// Row `key` of V as floats, times its temperature.
inline void read_v_row(const ForwardShape &shape, const ForwardTile &tile, int64_t key, float *out)
{
    read_row(key_row(tile.v, key), shape.v_type, tile.v.channel_step, shape.dim_v, out);
    if (!tile.v_temperature.base) return;
    const float factor = read_float(key_row(tile.v_temperature, key), Element::float32);
    for (int64_t c = 0; c < shape.dim_v; c += kWidth) store(out + c, load(out + c) * factor);
}

} // namespace
} // namespace attn::cpu

#endif

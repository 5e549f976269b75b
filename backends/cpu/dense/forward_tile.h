// Dense forward attention of one tile of query rows, for the instruction set that the including unit is compiled for.
//
//   for each block of keys that a row of the tile can see:
//       K block -> panels [channel][kPanel keys], V block -> panels [key][kPanel channels]      (float, in L2)
//       for each strip of kStrip query rows:
//           S = Q K^T      [kStrip, keys]      registers: kStrip x kVectors accumulators, Q broadcast, K streamed
//           softcap, mask, running maximum, P = 2^(S - max), running sum                        (S and P in L1)
//           O = O * 2^(old max - max) + P V    the same loop, P broadcast, V streamed
//
// Scores are kept in units of log2(e), so that the exponential is 2^x. Key blocks lie on a grid that begins at key 0
// and every element is one chain of multiply-adds in key order: a row's bits depend neither on the tile it falls in nor
// on keys it cannot see. Masked scores become -inf by selection, so nothing that K holds there matters; a V block with
// a non-finite element takes the path that adds visible keys only.
#ifndef ATTN_BACKENDS_CPU_DENSE_FORWARD_TILE_H
#define ATTN_BACKENDS_CPU_DENSE_FORWARD_TILE_H

#include "backends/cpu/dense/kernel.h"
#include "backends/cpu/simd.h"

namespace attn::cpu {
namespace {

constexpr int kVectors = 2; ///< Vectors of a panel.
constexpr int kPanel = kVectors * kWidth;
constexpr int kStrip = kWidth == 16 ? 12 : 6; ///< Fills the registers: kStrip * kVectors accumulators and 3 more.
constexpr int kRowStep = kMostKeysPerBlock + 16; ///< Floats from row to row of S and P: no power of 2, see the cache.

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

/// What a row sees. By index: keys [0, sinks) and [begin, end). By position p of a key j: p <= limit and
/// (begin <= p <= end or j < sinks).
struct RowMask {
    int64_t sinks, begin, end, limit;
};

/// The scratch of a worker, carved from one piece of memory. Sizes depend on the shape alone.
struct Scratch {
    float *q;          ///< Strips of [channel][rows of the strip].
    float *k;          ///< Panels of [channel][kPanel].
    float *v;          ///< Panels of [key_block][panel width].
    float *o;          ///< [tile_rows][o_columns]
    float *s;          ///< [kStrip][kRowStep]
    float *row;        ///< kWidth rows of channels, converted to float.
    float *max;        ///< [tile_rows]
    float *sum;        ///< [tile_rows][kWidth]
    float *alpha;      ///< [kStrip]
    RowMask *mask;     ///< [tile_rows]
    int64_t *position; ///< [key_block], of the keys of the block.
    int64_t o_columns, row_columns;
    size_t bytes;

    Scratch(const ForwardShape &shape, void *memory)
        : o_columns(round_up(shape.dim_v, kWidth)),
          row_columns(round_up(larger_of(shape.dim_qk, shape.dim_v), kWidth)),
          bytes(0),
          base_(static_cast<char *>(memory))
    {
        q = take<float>(shape.tile_rows * shape.dim_qk);
        k = take<float>(round_up(shape.key_block, kPanel) * shape.dim_qk);
        v = take<float>(shape.key_block * round_up(shape.dim_v, kPanel));
        o = take<float>(shape.tile_rows * o_columns);
        s = take<float>(kStrip * kRowStep);
        row = take<float>(kWidth * row_columns);
        max = take<float>(shape.tile_rows);
        sum = take<float>(shape.tile_rows * kWidth);
        alpha = take<float>(round_up(kStrip, kWidth));
        mask = take<RowMask>(shape.tile_rows);
        position = take<int64_t>(shape.key_block);
    }

private:
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

// --- Reading -------------------------------------------------------------------------------------------------------

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

ATTN_INLINE Vec read_vector(const char *p, Element type)
{
    if (type == Element::float32) {
        Vec v;
        __builtin_memcpy(&v, p, sizeof v);
        return v;
    }
    const uint16_t *half = reinterpret_cast<const uint16_t *>(p);
    return type == Element::float16 ? from_float16(half) : from_bfloat16(half);
}

/// Up to kWidth elements, `step` elements apart; the lanes beyond are 0.
ATTN_INLINE Vec read_some(const char *p, Element type, int64_t step, int64_t count)
{
    if (type == Element::float32) {
        float lanes[kWidth] = {};
        for (int64_t i = 0; i < count; ++i) __builtin_memcpy(&lanes[i], p + i * step * 4, 4);
        return load(lanes);
    }
    uint16_t lanes[kWidth] = {};
    for (int64_t i = 0; i < count; ++i) __builtin_memcpy(&lanes[i], p + i * step * 2, 2);
    return type == Element::float16 ? from_float16(lanes) : from_bfloat16(lanes);
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

// --- Packing -------------------------------------------------------------------------------------------------------

/// Rows of a strip of which `rows` are in use: the next of a few heights that kernels exist for.
ATTN_INLINE int strip_height(int64_t rows)
{
    if (rows > kStrip / 3 * 2) return kStrip;
    if (rows > kStrip / 3) return kStrip / 3 * 2;
    if (rows > 2) return kStrip / 3;
    return rows > 1 ? 2 : 1;
}

/// Q times its factor, transposed by strips. Rows that pad a strip are 0.
inline void pack_q(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch)
{
    for (int64_t first = 0; first < tile.rows; first += kStrip) {
        float *panel = scratch.q + first * shape.dim_qk;
        const int height = strip_height(smaller_of(kStrip, tile.rows - first));
        for (int m = 0; m < height; ++m) {
            if (first + m >= tile.rows) {
                for (int64_t c = 0; c < shape.dim_qk; ++c) panel[c * height + m] = 0;
                continue;
            }
            const int64_t row = tile.first_row + first + m;
            const int64_t head = (tile.head0 + row % shape.group) * shape.heads_q / shape.heads_out;
            read_row(tile.q + row / shape.group * tile.q_token_step + head * tile.q_head_step, shape.q_type,
                     tile.q_channel_step, shape.dim_qk, scratch.row);
            for (int64_t c = 0; c < shape.dim_qk; ++c) panel[c * height + m] = scratch.row[c] * shape.q_factor;
        }
    }
}

/// Keys [begin, end) of the block at `block`, transposed into panels. Keys outside are 0 where a panel needs them.
inline void pack_k(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                   int64_t begin, int64_t end)
{
    const bool direct = shape.k_type == Element::float32 && tile.k.channel_step == 1;
    const int64_t dim = shape.dim_qk;
    for (int64_t first = round_down(begin, kPanel); first < end; first += kWidth) {
        float *panel = scratch.k + round_down(first, kPanel) * dim + first % kPanel;
        const float *rows[kWidth];
        for (int i = 0; i < kWidth; ++i) {
            const int64_t key = first + i;
            float *converted = scratch.row + i * scratch.row_columns;
            rows[i] = converted;
            if (key < begin || key >= end) {
                for (int64_t c = 0; c < dim; c += kWidth) store(converted + c, Vec{});
                continue;
            }
            const char *source = key_row(tile.k, block + key);
            if (direct)
                rows[i] = reinterpret_cast<const float *>(source);
            else
                read_row(source, shape.k_type, tile.k.channel_step, dim, converted);
        }
        int64_t c = 0;
        for (; c + kWidth <= dim; c += kWidth) {
            Vec square[kWidth];
            ATTN_UNROLL
            for (int i = 0; i < kWidth; ++i) square[i] = load(rows[i] + c);
            transpose(square);
            ATTN_UNROLL
            for (int i = 0; i < kWidth; ++i) store(panel + (c + i) * kPanel, square[i]);
        }
        for (; c < dim; ++c)
            for (int i = 0; i < kWidth; ++i) panel[c * kPanel + i] = rows[i][c];
    }
    // The second half of the last panel, if no key reached it.
    const int64_t reached = round_up(end, kWidth);
    if (reached % kPanel != 0) {
        float *panel = scratch.k + round_down(reached, kPanel) * dim + reached % kPanel;
        for (int64_t c = 0; c < dim; ++c) store(panel + c * kPanel, Vec{});
    }
}

/// Rows [begin, end) of V into panels of channels. Returns whether all elements are finite.
inline bool pack_v(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                   int64_t begin, int64_t end)
{
    const bool direct = shape.v_type == Element::float32 && tile.v.channel_step == 1 && shape.dim_v % kWidth == 0;
    Vec check = {}; // x - x is 0 for finite x, else NaN
    for (int64_t key = begin; key < end; ++key) {
        const char *source = key_row(tile.v, block + key);
        const float *row = reinterpret_cast<const float *>(source);
        if (!direct) {
            read_row(source, shape.v_type, tile.v.channel_step, shape.dim_v, scratch.row);
            row = scratch.row;
        }
        for (int64_t c = 0; c < scratch.o_columns; c += kPanel) {
            float *panel = scratch.v + c * shape.key_block;
            const Vec first = load(row + c);
            check += first - first;
            if (c + kWidth < scratch.o_columns) {
                const Vec second = load(row + c + kWidth);
                check += second - second;
                store(panel + key * kPanel, first);
                store(panel + key * kPanel + kWidth, second);
            } else {
                store(panel + key * kWidth, first); // a last panel of one vector
            }
        }
    }
    return reduce_add(check) == 0.0f;
}

// --- Masks ---------------------------------------------------------------------------------------------------------

inline RowMask mask_of_row(const ForwardShape &shape, const ForwardTile &tile, int64_t row)
{
    const int64_t token = (tile.first_row + row) / shape.group;
    RowMask mask;
    if (shape.by_position) {
        const int64_t at = read_integer(tile.q_positions + token * tile.q_position_step, tile.q_positions_wide);
        mask.limit = shape.causal ? at : INT64_MAX;
        mask.begin = shape.has_left ? saturating_add(at, -shape.left) : INT64_MIN;
        mask.end = shape.has_right ? saturating_add(at, shape.right) : INT64_MAX;
        mask.sinks = shape.sink_tokens;
        return mask;
    }
    const int64_t diagonal = token + tile.diagonal;
    const int64_t limit = shape.causal ? smaller_of(tile.k_length, diagonal + 1) : tile.k_length;
    mask.limit = limit;
    mask.begin = shape.has_left ? larger_of(0, diagonal - shape.left) : 0;
    mask.end = shape.has_right ? smaller_of(limit, diagonal + shape.right + 1) : limit;
    mask.sinks = smaller_of(shape.sink_tokens, limit);
    if (mask.begin >= mask.end) mask.begin = mask.end = larger_of(mask.sinks, 0);
    if (mask.sinks >= mask.begin && mask.sinks > 0) { // the two ranges meet
        mask.begin = 0;
        mask.end = larger_of(mask.end, mask.sinks);
        mask.sinks = 0;
    }
    return mask;
}

/// Keys of a block that some row sees, as offsets in the block, and whether every row sees all of them.
struct Hull {
    int64_t begin, end;
    bool full;
};

/// Of `rows` masks by index.
inline Hull hull_of(const RowMask *masks, int64_t rows, int64_t block, int64_t length)
{
    int64_t begin = length, end = 0;
    for (int64_t r = 0; r < rows; ++r) {
        const int64_t low = larger_of(masks[r].begin - block, 0), high = smaller_of(masks[r].end - block, length);
        if (low < high) begin = smaller_of(begin, low), end = larger_of(end, high);
        const int64_t sinks = smaller_of(masks[r].sinks - block, length);
        if (sinks > 0) begin = 0, end = larger_of(end, sinks);
    }
    bool full = true;
    for (int64_t r = 0; r < rows; ++r)
        full &= (masks[r].begin - block <= begin && masks[r].end - block >= end) || masks[r].sinks - block >= end;
    return {begin, end, full};
}

/// Of `rows` masks by position, the positions of the block's keys lying in [least, most].
inline Hull hull_by_position(const RowMask *masks, int64_t rows, int64_t block, int64_t length, int64_t least,
                             int64_t most)
{
    bool any = false, full = true;
    for (int64_t r = 0; r < rows; ++r) {
        const RowMask &mask = masks[r];
        const bool window = least <= mask.end && most >= mask.begin;
        any |= least <= mask.limit && (window || block < mask.sinks);
        full &= most <= mask.limit && most <= mask.end && least >= mask.begin;
    }
    return {0, any ? length : 0, full};
}

ATTN_INLINE bool sees(const ForwardShape &shape, const RowMask &mask, int64_t key, int64_t position)
{
    if (shape.by_position)
        return position <= mask.limit && ((mask.begin <= position && position <= mask.end) || key < mask.sinks);
    return key < mask.sinks || (mask.begin <= key && key < mask.end);
}

ATTN_INLINE void fill_lowest(float *s, int64_t begin, int64_t end)
{
    for (int64_t j = begin; j < end; ++j) s[j] = kLowest;
}

/// Scores of keys [begin, end) of the block that the row does not see become -inf.
inline void mask_row(const ForwardShape &shape, const RowMask &mask, const int64_t *position, int64_t block,
                     int64_t begin, int64_t end, float *s)
{
    if (shape.by_position) {
        for (int64_t j = begin; j < end; ++j)
            if (!sees(shape, mask, block + j, position[j])) s[j] = kLowest;
        return;
    }
    const int64_t sinks = larger_of(begin, smaller_of(end, mask.sinks - block));
    const int64_t from = larger_of(sinks, smaller_of(end, mask.begin - block));
    const int64_t to = larger_of(from, smaller_of(end, mask.end - block));
    fill_lowest(s, sinks, from);
    fill_lowest(s, to, end);
}

// --- Products and softmax ------------------------------------------------------------------------------------------

/// acc += a b over `depth`: a[m * RowStep + k * DepthStep] is broadcast, b[k] is a row of N vectors.
template <int M, int N, int RowStep, int DepthStep>
ATTN_INLINE void multiply(const float *__restrict a, const float *__restrict b, int64_t depth, Vec (&acc)[M][N])
{
    for (int64_t k = 0; k < depth; ++k) {
        Vec row[N];
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) row[n] = load(b + n * kWidth);
        ATTN_UNROLL
        for (int m = 0; m < M; ++m) {
            const Vec value = splat(a[m * RowStep]);
            ATTN_UNROLL
            for (int n = 0; n < N; ++n) acc[m][n] += value * row[n];
        }
        a += DepthStep;
        b += N * kWidth;
    }
}

template <int M, int N>
ATTN_INLINE void store_tile(float *p, int64_t row_step, const Vec (&tile)[M][N])
{
    ATTN_UNROLL
    for (int m = 0; m < M; ++m) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) store(p + m * row_step + n * kWidth, tile[m][n]);
    }
}

/// S = Q K^T for one strip and the panels that hold keys [begin, end).
template <int M>
inline void score_strip(const float *q, const float *k, int64_t dim, int64_t begin, int64_t end, float *s)
{
    for (int64_t first = round_down(begin, kPanel); first < end; first += kPanel) {
        Vec acc[M][kVectors] = {};
        multiply<M, kVectors, 1, M>(q, k + first * dim, dim, acc);
        store_tile<M, kVectors>(s + first, kRowStep, acc);
    }
}

/// O = O * alpha + P V for one strip and one panel of N vectors of channels. The products of a block are summed on their
/// own first: rounding errors then grow with the block and the number of blocks, not with the number of keys.
template <int M, int N>
inline void weigh_panel(const float *p, const float *v, int64_t keys, const float *alpha, float *o, int64_t o_step)
{
    Vec acc[M][N] = {};
    multiply<M, N, kRowStep, 1>(p, v, keys, acc);
    ATTN_UNROLL
    for (int m = 0; m < M; ++m) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) {
            float *place = o + m * o_step + n * kWidth;
            store(place, load(place) * alpha[m] + acc[m][n]);
        }
    }
}

template <int M>
inline void weigh_strip(const Scratch &scratch, int64_t key_block, int64_t begin, int64_t end, float *o)
{
    for (int64_t c = 0; c < scratch.o_columns; c += kPanel) {
        const float *panel = scratch.v + c * key_block;
        if (c + kWidth < scratch.o_columns)
            weigh_panel<M, kVectors>(scratch.s + begin, panel + begin * kPanel, end - begin, scratch.alpha, o + c,
                                     scratch.o_columns);
        else
            weigh_panel<M, 1>(scratch.s + begin, panel + begin * kWidth, end - begin, scratch.alpha, o + c,
                              scratch.o_columns);
    }
}

/// Likewise for one row, adding only the keys it sees: the same products in the same order, so the same bits where V is
/// finite.
inline void weigh_visible(const ForwardShape &shape, const Scratch &scratch, const RowMask &mask, int64_t block,
                          int64_t begin, int64_t end, const float *p, float alpha, float *o)
{
    for (int64_t c = 0; c < scratch.o_columns; c += kWidth) {
        const int64_t first = round_down(c, kPanel);
        const int64_t step = first + kWidth < scratch.o_columns ? kPanel : kWidth;
        const float *panel = scratch.v + first * shape.key_block + (c - first);
        Vec acc = {};
        for (int64_t j = begin; j < end; ++j)
            if (sees(shape, mask, block + j, shape.by_position ? scratch.position[j] : 0))
                acc += splat(p[j]) * load(panel + j * step);
        store(o + c, load(o + c) * alpha + acc);
    }
}

/// One step of the online softmax of one row: S -> P over vectors [begin, end); updates maximum and sum.
inline float soften_row(float *s, int64_t begin, int64_t end, float *max, float *sum)
{
    Vec top = splat(kLowest);
    for (int64_t j = begin; j < end; j += kWidth) top = larger(top, load(s + j));
    const float seen = reduce_max(top);
    const float old = *max;
    const float now = seen > old ? seen : old;
    const float reference = now == kLowest ? 0.0f : now; // nothing seen yet: every weight becomes 0
    Vec total = {};
    for (int64_t j = begin; j < end; j += kWidth) {
        const Vec weight = exp2(load(s + j) - reference);
        store(s + j, weight);
        total += weight;
    }
    *max = now;
    float alpha = 1.0f; // = 2^0
    if (now != old) {
        float lanes[kWidth];
        store(lanes, exp2(splat(old - reference)));
        alpha = lanes[0];
    }
    store(sum, load(sum) * alpha + total);
    return alpha;
}

/// Everything one strip does with one block of keys.
template <int M>
inline void run_strip(const ForwardShape &shape, const Scratch &scratch, int64_t first, int64_t rows, int64_t block,
                      const Hull &hull, bool v_finite)
{
    const int64_t begin = hull.begin, end = hull.end;
    score_strip<M>(scratch.q + first * shape.dim_qk, scratch.k, shape.dim_qk, begin, end, scratch.s);
    const int64_t vector_begin = round_down(begin, kWidth), vector_end = round_up(end, kWidth);
    const RowMask *masks = scratch.mask + first;
    for (int m = 0; m < M; ++m) {
        float *s = scratch.s + m * kRowStep;
        if (m >= rows) { // padding: no weight
            for (int64_t j = vector_begin; j < vector_end; j += kWidth) store(s + j, Vec{});
            scratch.alpha[m] = 1.0f;
            continue;
        }
        if (shape.cap_factor != 0.0f)
            for (int64_t j = vector_begin; j < vector_end; j += kWidth)
                store(s + j, tanh(load(s + j)) * shape.cap_factor);
        if (!hull.full) mask_row(shape, masks[m], scratch.position, block, begin, end, s);
        fill_lowest(s, vector_begin, begin);
        fill_lowest(s, end, vector_end);
        scratch.alpha[m] =
            soften_row(s, vector_begin, vector_end, scratch.max + first + m, scratch.sum + (first + m) * kWidth);
    }
    float *o = scratch.o + first * scratch.o_columns;
    if (v_finite || hull.full) {
        weigh_strip<M>(scratch, shape.key_block, begin, end, o);
        return;
    }
    for (int64_t m = 0; m < rows; ++m)
        weigh_visible(shape, scratch, masks[m], block, begin, end, scratch.s + m * kRowStep, scratch.alpha[m],
                      o + m * scratch.o_columns);
}

// --- Results -------------------------------------------------------------------------------------------------------

ATTN_INLINE void write_element(char *p, Element type, float x)
{
    if (type == Element::float32) {
        __builtin_memcpy(p, &x, 4);
        return;
    }
    const uint16_t half = type == Element::float16 ? to_float16(x) : to_bfloat16(x);
    __builtin_memcpy(p, &half, 2);
}

/// Normalises one row and writes it with its LSE.
inline void write_row(const ForwardShape &shape, const ForwardTile &tile, int64_t row, const float *o, float max,
                      float sum)
{
    const int64_t token = (tile.first_row + row) / shape.group;
    const int64_t head = tile.head0 + (tile.first_row + row) % shape.group;
    const bool empty = sum == 0.0f; // no key seen; a NaN is not empty
    const float factor = empty ? 0.0f : 1.0f / sum;
    char *out = tile.out + token * tile.out_token_step + head * tile.out_head_step;
    const int64_t step = tile.out_channel_step * element_bytes(shape.out_type);
    int64_t c = 0;
    if (!empty && shape.out_type == Element::float32 && tile.out_channel_step == 1)
        for (; c + kWidth <= shape.dim_v; c += kWidth) {
            const Vec value = load(o + c) * factor;
            __builtin_memcpy(out + c * 4, &value, sizeof value);
        }
    for (; c < shape.dim_v; ++c) write_element(out + c * step, shape.out_type, empty ? 0.0f : o[c] * factor);
    if (tile.lse) {
        const double lse = (static_cast<double>(max) + __builtin_log2(static_cast<double>(sum))) * 0.6931471805599453;
        write_element(tile.lse + token * tile.lse_token_step + head * tile.lse_head_step, Element::float32,
                      empty ? kLowest : static_cast<float>(lse));
    }
}

inline void write_partial(const ForwardShape &shape, const ForwardTile &tile, int64_t row, const float *o, float max,
                          float sum)
{
    float *out = tile.partial_out + row * shape.dim_v;
    for (int64_t c = 0; c < shape.dim_v; ++c) out[c] = o[c];
    tile.partial_max[row] = max;
    tile.partial_sum[row] = sum;
}

// --- The kernel ----------------------------------------------------------------------------------------------------

inline size_t scratch_bytes(const ForwardShape &shape)
{
    return Scratch(shape, nullptr).bytes;
}

/// Positions of the keys of a block, and their range.
inline void read_positions(const ForwardTile &tile, int64_t block, int64_t length, int64_t *position, int64_t *least,
                           int64_t *most)
{
    *least = INT64_MAX, *most = INT64_MIN;
    for (int64_t j = 0; j < length; ++j) {
        position[j] = read_integer(key_row(tile.k_positions, block + j), tile.k_positions_wide);
        *least = smaller_of(*least, position[j]);
        *most = larger_of(*most, position[j]);
    }
}

inline void run_tile(const ForwardShape &shape, const ForwardTile &tile, void *memory)
{
    const Scratch scratch(shape, memory);
    pack_q(shape, tile, scratch);
    for (int64_t r = 0; r < tile.rows; ++r) {
        scratch.mask[r] = mask_of_row(shape, tile, r);
        scratch.max[r] = kLowest;
        store(scratch.sum + r * kWidth, Vec{});
    }
    for (int64_t i = 0; i < shape.tile_rows * scratch.o_columns; i += kWidth) store(scratch.o + i, Vec{});

    for (int64_t block = tile.key_begin; block < tile.key_end; block += shape.key_block) {
        const int64_t length = smaller_of(shape.key_block, tile.key_end - block);
        int64_t least = 0, most = 0;
        if (shape.by_position) read_positions(tile, block, length, scratch.position, &least, &most);
        const auto hull = [&](int64_t first, int64_t rows) {
            const RowMask *masks = scratch.mask + first;
            return shape.by_position ? hull_by_position(masks, rows, block, length, least, most)
                                     : hull_of(masks, rows, block, length);
        };
        const Hull all = hull(0, tile.rows);
        if (all.begin >= all.end) continue;
        pack_k(shape, tile, scratch, block, all.begin, all.end);
        const bool v_finite = pack_v(shape, tile, scratch, block, all.begin, all.end);

        for (int64_t first = 0; first < tile.rows; first += kStrip) {
            const int64_t rows = smaller_of(kStrip, tile.rows - first);
            const Hull part = all.full ? all : hull(first, rows);
            if (part.begin >= part.end) continue;
            const int height = strip_height(rows);
            if (height == kStrip)
                run_strip<kStrip>(shape, scratch, first, rows, block, part, v_finite);
            else if (height == kStrip / 3 * 2)
                run_strip<kStrip / 3 * 2>(shape, scratch, first, rows, block, part, v_finite);
            else if (height == kStrip / 3)
                run_strip<kStrip / 3>(shape, scratch, first, rows, block, part, v_finite);
            else if (height == 2)
                run_strip<2>(shape, scratch, first, rows, block, part, v_finite);
            else
                run_strip<1>(shape, scratch, first, rows, block, part, v_finite);
        }
    }

    for (int64_t r = 0; r < tile.rows; ++r) {
        const float *o = scratch.o + r * scratch.o_columns;
        const float sum = reduce_add(load(scratch.sum + r * kWidth));
        if (tile.out)
            write_row(shape, tile, r, o, scratch.max[r], sum);
        else
            write_partial(shape, tile, r, o, scratch.max[r], sum);
    }
}

inline void merge_tile(const ForwardShape &shape, const ForwardTile &tile, float *partials, int64_t parts)
{
    const int64_t dim = shape.dim_v, part_step = shape.tile_rows * (dim + 2);
    const float *maxima = partials + shape.tile_rows * dim, *sums = maxima + shape.tile_rows;
    for (int64_t r = 0; r < tile.rows; ++r) {
        float max = kLowest;
        for (int64_t p = 0; p < parts; ++p) max = maxima[p * part_step + r] > max ? maxima[p * part_step + r] : max;
        const float reference = max == kLowest ? 0.0f : max;
        float *o = partials + r * dim; // of part 0, which the first round rescales in place
        float sum = 0;
        for (int64_t p = 0; p < parts; ++p) {
            float lanes[kWidth];
            store(lanes, exp2(splat(maxima[p * part_step + r] - reference)));
            const float weight = lanes[0];
            const float *part = partials + p * part_step + r * dim;
            // A part that saw no key is skipped: its weight is 0 and its sum is 0.
            if (sums[p * part_step + r] == 0.0f) {
                if (p == 0)
                    for (int64_t c = 0; c < dim; ++c) o[c] = 0;
                continue;
            }
            sum += weight * sums[p * part_step + r];
            for (int64_t c = 0; c < dim; ++c) o[c] = p == 0 ? weight * part[c] : o[c] + weight * part[c];
        }
        write_row(shape, tile, r, o, max, sum);
    }
}

} // namespace
} // namespace attn::cpu

#endif

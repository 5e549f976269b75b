// A block of keys against few query rows, as when decoding: K and V are read once, where they are, without panels.
//
//   for each kWidth keys:     S[row][key] = q[row] . k[key]     kWidth sums along the channels, folded into one vector
//   softcap, mask, running maximum, P = 2^(S - max), running sum
//   for each kWidth keys:     O[row] += P[row][key] * v[key]    the rows of V stay in L1 for all query rows
//
// With pairs of bfloat16, channels and keys go by twos.
//
// Such tiles wait for memory, and rows of one head can be further apart than a hardware prefetcher follows. So each
// product fetches the rows that it reads a little later, line by line.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_FEW_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_FEW_H

#include "backends/cpu/dense/tile_blocked.h"

namespace attn::cpu {
namespace {

#if defined(ATTN_PRODUCTS_AMX) || defined(ATTN_PRODUCTS_DOT)

inline void pack_few_q(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch)
{
    for (int64_t r = 0; r < tile.rows; ++r) {
        read_pairs(q_row(shape, tile, r), tile.q_channel_step, shape.dim_k, scratch.q + r * scratch.q_columns);
        scratch.factor[r] = score_factor(shape, tile, r);
    }
}

ATTN_INLINE void read_key(const ForwardShape &shape, const ForwardTile &tile, int64_t key, float *out)
{
    read_pairs(key_row(tile.k, key), tile.k.channel_step, shape.dim_k, out);
}
ATTN_INLINE void read_value(const ForwardShape &shape, const ForwardTile &tile, int64_t key, float *out)
{
    read_pairs(key_row(tile.v, key), tile.v.channel_step, shape.dim_v, out);
}
ATTN_INLINE bool is_k_direct(const ForwardShape &shape, const ForwardTile &tile)
{
    return is_pairs_in_place(tile.k, shape.dim_k);
}
ATTN_INLINE bool is_v_direct(const ForwardShape &shape, const ForwardTile &tile)
{
    return is_pairs_in_place(tile.v, shape.dim_v);
}

/// sum + q k, for words that are pairs.
ATTN_INLINE Vec add_product(Vec sum, Vec q, Vec k)
{
    return add_pair_products(sum, q, k);
}

/// Words are read as they are.
template <class Run>
ATTN_INLINE void with_type(Element, bool, Run run)
{
    run.template operator()<Element::float32>();
}

#else

/// Q times its factor, row by row; channels beyond the last are 0.
inline void pack_few_q(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch)
{
    for (int64_t r = 0; r < tile.rows; ++r) {
        float *row = scratch.q + r * scratch.q_columns;
        read_q_row(shape, tile, r, scratch.row);
        for (int64_t c = 0; c < scratch.q_columns; c += kWidth) store(row + c, load(scratch.row + c));
    }
}

ATTN_INLINE void read_key(const ForwardShape &shape, const ForwardTile &tile, int64_t key, float *out)
{
    read_k_row(shape, tile, key, out);
}
ATTN_INLINE void read_value(const ForwardShape &shape, const ForwardTile &tile, int64_t key, float *out)
{
    read_v_row(shape, tile, key, out);
}
ATTN_INLINE bool is_k_direct(const ForwardShape &shape, const ForwardTile &tile)
{
    return !tile.rank_q.base && tile.k.channel_step == 1 && shape.dim_qk % kWidth == 0;
}
ATTN_INLINE bool is_v_direct(const ForwardShape &shape, const ForwardTile &tile)
{
    return !tile.v_temperature.base && tile.v.channel_step == 1 && shape.dim_v % kWidth == 0;
}

ATTN_INLINE Vec add_product(Vec sum, Vec q, Vec k)
{
    return sum + q * k;
}

/// Calls `run` with the type of rows read where they are, or float for converted ones, as a constant.
template <class Run>
ATTN_INLINE void with_type(Element type, bool direct, Run run)
{
    if (!direct || type == Element::float32)
        run.template operator()<Element::float32>();
    else if (type == Element::float16)
        run.template operator()<Element::float16>();
    else
        run.template operator()<Element::bfloat16>();
}

#endif

/// From vectors of Rows rows of kWidth / Rows keys each, the keys in order, to a vector of kWidth keys for each row.
template <int Rows, int Block = kWidth / Rows>
ATTN_INLINE void gather_rows(Vec (&vectors)[Rows])
{
    if constexpr (Block < kWidth) {
        constexpr int kStep = Block * Rows / kWidth;
        ATTN_UNROLL
        for (int i = 0; i < Rows; ++i)
            if (!(i & kStep)) exchange<Block>(vectors[i], vectors[i + kStep], typename MakeIndices<kWidth>::type{});
        gather_rows<Rows, 2 * Block>(vectors);
    }
}

/// Rows of kWidth keys: whole vectors of elements.
struct KeyGroup {
    const char *row[kWidth];

    KeyGroup() = default;

    /// Of the keys from `first` of the block: where they are, or converted by `read(key, floats)`. Keys outside
    /// [begin, end) repeat one inside, unused.
    template <class Read>
    ATTN_INLINE KeyGroup(const KeyRows &rows, const Scratch &scratch, int64_t block, int64_t first, int64_t begin,
                         int64_t end, bool direct, Read read)
    {
        for (int i = 0; i < kWidth; ++i) {
            const int64_t key = block + smaller_of(larger_of(first + i, begin), end - 1);
            row[i] =
                direct ? key_row(rows, key) : reinterpret_cast<const char *>(scratch.row + i * scratch.row_columns);
            if (!direct) read(key, scratch.row + i * scratch.row_columns);
        }
    }
};

/// How far ahead rows are fetched.
constexpr int64_t kAheadKeys = 32;

/// Rows that the product reads later: fetched a line at a time, to L2, while it computes.
struct Ahead {
    const char *row[kWidth];
    int64_t bytes = 0; ///< Of a row; 0: nothing to fetch.

    /// Keys [first, end) of the sequence, at most kWidth of them.
    ATTN_INLINE Ahead(const KeyRows &rows, int64_t first, int64_t end, int64_t row_bytes)
    {
        if (first >= end) return;
        bytes = row_bytes;
        for (int i = 0; i < kWidth; ++i) row[i] = key_row(rows, smaller_of(first + i, end - 1));
    }
    Ahead() = default;

    template <int Count>
    ATTN_INLINE void fetch(int first, int64_t byte) const
    {
        if (byte % 64 != 0 || byte >= bytes) return;
        ATTN_UNROLL
        for (int i = 0; i < Count; ++i) __builtin_prefetch(row[first + i] + byte, 0, 2);
    }
    /// What is left of rows longer than `byte`.
    ATTN_INLINE void fetch_rest(int64_t byte) const
    {
        for (byte = round_up(byte, 64); byte < bytes; byte += 64) fetch<kWidth>(0, byte);
    }
};

/// Words of a row that a score sums in one go: 32 by each lane, which narrow vectors need with the largest heads.
constexpr int64_t kFewDepth = 32 * kWidth;

/// Scores of Rows query rows against a group of keys, over the words [begin, end) of `columns`: added to the others.
template <Element Type, int Rows>
inline void score_group(const float *q, int64_t columns, int64_t begin, int64_t end, const KeyGroup &keys,
                        const Ahead &ahead, float *s)
{
    constexpr int kKeys = kWidth / Rows;                      // keys of one vector of sums
    constexpr int kOnce = Rows < 4 || Rows == kWidth ? 1 : 2; // keys that share a load of Q
    Vec scores[Rows];
    for (int part = 0; part < Rows; ++part) {
        Vec sum[kWidth] = {};
        ATTN_UNROLL
        for (int some = 0; some < kKeys; some += kOnce) {
            const int first = part * kKeys + some;
            for (int64_t c = begin; c < end; c += kWidth) {
                const int64_t byte = c * element_bytes(Type);
                Vec channels[kOnce];
                ATTN_UNROLL
                for (int i = 0; i < kOnce; ++i) channels[i] = read_vector(keys.row[first + i] + byte, Type);
                ATTN_UNROLL
                for (int r = 0; r < Rows; ++r) {
                    const Vec query = load(q + r * columns + c);
                    ATTN_UNROLL
                    for (int i = 0; i < kOnce; ++i) {
                        Vec &total = sum[r * kKeys + some + i];
                        total = add_product(total, query, channels[i]);
                    }
                }
                ahead.template fetch<kOnce>(first, byte);
            }
        }
        scores[part] = fold(sum, [](Vec a, Vec b) { return a + b; });
    }
    if (end == columns) ahead.fetch_rest(columns * element_bytes(Type));
    gather_rows<Rows>(scores);
    ATTN_UNROLL
    for (int r = 0; r < Rows; ++r) {
        float *place = s + r * kRowStep;
        store(place, begin == 0 ? scores[r] : load(place) + scores[r]);
    }
}

#if defined(ATTN_PRODUCTS_AMX) || defined(ATTN_PRODUCTS_DOT)

/// out[r][c ..] += sum of weights[r][i] * keys.row[i][c ..] for N vectors of channels and a pair of keys at a time; of
/// one row only the visible keys. `weights` are pairs.
template <Element, int Rows, int N, bool AllVisible>
ATTN_INLINE void add_keys(const KeyGroup &keys, const Ahead &ahead, const float *weights, uint32_t visible, int64_t c,
                          int64_t columns, float *out)
{
    Vec acc[Rows][N];
    ATTN_UNROLL
    for (int r = 0; r < Rows; ++r) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) acc[r][n] = load(out + r * columns + c + n * kWidth);
    }
    for (int i = 0; i < kWidth; i += 2) {
        Vec channels[N];
        ATTN_UNROLL
        for (int n = 0; n < N; n += 2) {
            const int64_t byte = (c + n * kWidth) * 2;
            interleave(load(reinterpret_cast<const float *>(keys.row[i] + byte)),
                       load(reinterpret_cast<const float *>(keys.row[i + 1] + byte)), &channels[n], &channels[n + 1]);
            ahead.template fetch<2>(i, byte);
        }
        if (!AllVisible) {
            const uint32_t kept = (visible >> i & 1 ? 0xffffu : 0u) | (visible >> i & 2 ? 0xffff0000u : 0u);
            ATTN_UNROLL
            for (int n = 0; n < N; ++n) channels[n] = from_bits(bits(channels[n]) & static_cast<int32_t>(kept));
        }
        ATTN_UNROLL
        for (int r = 0; r < Rows; ++r) {
            int32_t pair;
            __builtin_memcpy(&pair, weights + r * kRowStep + i / 2, sizeof pair);
            const Vec weight = (Vec)_mm512_set1_epi32(pair);
            ATTN_UNROLL
            for (int n = 0; n < N; ++n) acc[r][n] = add_pair_products(acc[r][n], weight, channels[n]);
        }
    }
    ATTN_UNROLL
    for (int r = 0; r < Rows; ++r) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) store(out + r * columns + c + n * kWidth, acc[r][n]);
    }
}
constexpr int64_t kWeightsPerWord = 2;
constexpr int kFewestVectors = 2; ///< Of channels that add_keys() can do.

#else

/// out[r][c ..] += sum of weights[r][i] * keys.row[i][c ..] for N vectors of channels; of one row only the visible
/// keys.
template <Element Type, int Rows, int N, bool AllVisible>
ATTN_INLINE void add_keys(const KeyGroup &keys, const Ahead &ahead, const float *weights, uint32_t visible, int64_t c,
                          int64_t columns, float *out)
{
    Vec acc[Rows][N];
    ATTN_UNROLL
    for (int r = 0; r < Rows; ++r) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) acc[r][n] = load(out + r * columns + c + n * kWidth);
    }
    for (int i = 0; i < kWidth; ++i) {
        if (!AllVisible && !(visible >> i & 1)) continue;
        Vec channels[N];
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) {
            const int64_t byte = (c + n * kWidth) * element_bytes(Type);
            channels[n] = read_vector(keys.row[i] + byte, Type);
            ahead.template fetch<1>(i, byte);
        }
        ATTN_UNROLL
        for (int r = 0; r < Rows; ++r) {
            const Vec weight = splat(weights[r * kRowStep + i]);
            ATTN_UNROLL
            for (int n = 0; n < N; ++n) acc[r][n] += weight * channels[n];
        }
    }
    ATTN_UNROLL
    for (int r = 0; r < Rows; ++r) {
        ATTN_UNROLL
        for (int n = 0; n < N; ++n) store(out + r * columns + c + n * kWidth, acc[r][n]);
    }
}
constexpr int64_t kWeightsPerWord = 1;
constexpr int kFewestVectors = 1; ///< Of channels that add_keys() can do.

#endif

template <Element Type, int Rows, bool AllVisible>
inline void weigh_group(const KeyGroup &keys, const Ahead &ahead, const float *weights, uint32_t visible,
                        int64_t columns, float *out)
{
    constexpr int kSums = kWidth == 16 ? 16 : 8; // leaves registers for a row of V
    constexpr int kMost = kSums / Rows > 8 ? 8 : kSums / Rows;
    constexpr int kOnce = kMost > kFewestVectors ? kMost : kFewestVectors;
    int64_t c = 0;
    for (; c + kOnce * kWidth <= columns; c += kOnce * kWidth)
        add_keys<Type, Rows, kOnce, AllVisible>(keys, ahead, weights, visible, c, columns, out);
    for (; c < columns; c += kFewestVectors * kWidth)
        add_keys<Type, Rows, kFewestVectors, AllVisible>(keys, ahead, weights, visible, c, columns, out);
    ahead.fetch_rest(columns * element_bytes(Type) / kWeightsPerWord);
}

/// Calls `run(first)` for rows [0, rows) in pieces of powers of 2, with their number as a constant.
template <int Rows = kWidth, class Run>
ATTN_INLINE void in_pieces(int64_t rows, Run run, int64_t first = 0)
{
    for (; first + Rows <= rows; first += Rows) run.template operator()<Rows>(first);
    if constexpr (Rows > 1) in_pieces<Rows / 2>(rows, run, first);
}

inline void score_few(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                      const Hull &hull)
{
    const bool direct = is_k_direct(shape, tile);
    const int64_t bytes = shape.dim_k * element_bytes(shape.k_type);
    const auto read = [&](int64_t key, float *out) { read_key(shape, tile, key, out); };
    for (int64_t first = round_down(hull.begin, kWidth); first < hull.end; first += kWidth) {
        const KeyGroup keys(tile.k, scratch, block, first, hull.begin, hull.end, direct, read);
        const Ahead ahead(tile.k, block + first + kAheadKeys, tile.key_end, bytes);
        with_type(shape.k_type, direct, [&]<Element Type>() {
            in_pieces(tile.rows, [&]<int Rows>(int64_t r) {
                const int64_t columns = scratch.q_columns;
                for (int64_t c = 0; c < columns; c += kFewDepth)
                    score_group<Type, Rows>(scratch.q + r * columns, columns, c, smaller_of(columns, c + kFewDepth),
                                            keys, r == 0 ? ahead : Ahead(), scratch.s + r * kRowStep + first);
            });
        });
    }
}

/// The keys of a group that a row sees, as bits.
ATTN_INLINE uint32_t visible_keys(const ForwardShape &shape, const Scratch &scratch, int64_t row, int64_t block,
                                  int64_t first, const Hull &hull)
{
    uint32_t visible = 0;
    for (int i = 0; i < kWidth; ++i) {
        const int64_t key = first + i;
        if (key < hull.begin || key >= hull.end) continue;
        const int64_t position = shape.by_position ? scratch.position[key] : 0;
        if (hull.full || sees(shape, scratch.mask[row], block + key, position)) visible |= 1u << i;
    }
    return visible;
}

inline void weigh_few(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                      const Hull &hull)
{
    const bool direct = is_v_direct(shape, tile);
    const int64_t bytes = shape.dim_v * element_bytes(shape.v_type);
    const auto read = [&](int64_t key, float *out) { read_value(shape, tile, key, out); };
    const int64_t columns = scratch.o_columns;
    for (int64_t i = 0; i < tile.rows * columns; i += kWidth) store(scratch.block_o + i, Vec{});
    for (int64_t first = round_down(hull.begin, kWidth); first < hull.end; first += kWidth) {
        const KeyGroup keys(tile.v, scratch, block, first, hull.begin, hull.end, direct, read);
        const Ahead ahead(tile.v, block + first + kAheadKeys, tile.key_end, bytes);
        const bool whole = hull.full && first >= hull.begin && first + kWidth <= hull.end;
        with_type(shape.v_type, direct, [&]<Element Type>() {
            if (whole) {
                in_pieces(tile.rows, [&]<int Rows>(int64_t r) {
                    weigh_group<Type, Rows, true>(keys, r == 0 ? ahead : Ahead(),
                                                  scratch.s + r * kRowStep + first / kWeightsPerWord, 0, columns,
                                                  scratch.block_o + r * columns);
                });
                return;
            }
            // Only keys the row sees are added, whatever V holds elsewhere.
            for (int64_t r = 0; r < tile.rows; ++r)
                weigh_group<Type, 1, false>(keys, Ahead(), scratch.s + r * kRowStep + first / kWeightsPerWord,
                                            visible_keys(shape, scratch, r, block, first, hull), columns,
                                            scratch.block_o + r * columns);
        });
    }
    for (int64_t r = 0; r < tile.rows; ++r)
        for (int64_t c = 0; c < columns; c += kWidth) {
            float *o = scratch.o + r * columns + c;
            store(o, load(o) * scratch.alpha[r] + load(scratch.block_o + r * columns + c));
        }
}

/// Everything a tile of at most kFewRows rows does with one block of keys.
inline void run_few(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                    const Hull &hull)
{
    score_few(shape, tile, scratch, block, hull);
    weigh_rows(shape, tile, scratch, 0, tile.rows, block, hull);
    weigh_few(shape, tile, scratch, block, hull);
}

} // namespace
} // namespace attn::cpu

#endif

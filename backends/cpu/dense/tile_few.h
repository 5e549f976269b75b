// A block of keys against few query rows, as when decoding: K and V are read once, where they are, without panels.
//
//   for each kWidth keys:     S[row][key] = q[row] . k[key]     kWidth sums along the channels, folded into one vector
//   softcap, mask, running maximum, P = 2^(S - max), running sum
//   for each kWidth keys:     O[row] += P[row][key] * v[key]    the rows of V stay in L1 for all query rows
//
// With pairs of bfloat16, channels and keys go by twos; with AMX and rows enough in tiles (tile_few_amx.h).
//
// Such tiles wait for memory, and rows of one head can be further apart than a hardware prefetcher follows. So each
// product fetches the rows that it reads a little later, line by line; in tiles of AMX, a block later.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_FEW_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_FEW_H

#if defined(ATTN_PRODUCTS_AMX)
#include "backends/cpu/dense/tile_few_amx.h"
#elif defined(ATTN_PRODUCTS_DOT)
#include "backends/cpu/dense/tile_few_pairs.h"
#else
#include "backends/cpu/dense/tile_few_float.h"
#endif

namespace attn::cpu {
namespace {

/// Words of a row that a score sums in one go: 32 by each lane, which narrow vectors need with the largest heads.
constexpr int64_t kFewDepth = 32 * kWidth;

/// Scores of a piece of Rows query rows against a group of keys, over the words [begin, end) of `columns`: added to the
/// others.
template <Element Type, int Rows>
inline void score_group(const float *piece, int64_t columns, int64_t begin, int64_t end, const KeyGroup &keys,
                        NextLine &later, float *s)
{
    // A vector that is a line is fetched for between multiply-adds; with smaller ones that gains nothing.
    constexpr bool kWholeLine = kWidth * element_bytes(Type) == 64;
    constexpr int kKeys = kWidth / Rows;                      // keys of one vector of sums
    constexpr int kOnce = Rows < 4 || Rows == kWidth ? 1 : 2; // keys that share a load of Q
    NextLine next = later;                                    // a copy, to be kept in registers
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
                for (int i = 0; i < kOnce; ++i) {
                    channels[i] = read_vector(keys.row[first + i] + byte, Type);
                    if (kWholeLine) channels[i] = in_register(channels[i]);
                }
                ATTN_UNROLL
                for (int r = 0; r < Rows; ++r) {
                    const Vec query = in_register(load(piece + c * Rows + r * kWidth));
                    if (kWholeLine) {
                        ATTN_UNROLL
                        for (int i = 0; i < kOnce; ++i)
                            if (i * Rows / kOnce == r) next.fetch(0);
                    }
                    ATTN_UNROLL
                    for (int i = 0; i < kOnce; ++i) {
                        Vec &total = sum[r * kKeys + some + i];
                        total = add_product(total, query, channels[i]);
                    }
                }
                if (!kWholeLine) {
                    ATTN_UNROLL
                    for (int i = 0; i < kOnce; ++i) next.fetch(byte);
                }
            }
        }
        scores[part] = fold(sum, [](Vec a, Vec b) { return a + b; });
    }
    if (end == columns) next.fetch_rest();
    later = next;
    gather_rows<Rows>(scores);
    ATTN_UNROLL
    for (int r = 0; r < Rows; ++r) {
        float *place = s + r * kRowStep;
        store(place, begin == 0 ? scores[r] : load(place) + scores[r]);
    }
}

template <Element Type, int Rows, bool AllVisible>
inline void weigh_group(const KeyGroup &keys, NextLine &later, const float *weights, uint32_t visible, int64_t columns,
                        float *out)
{
    constexpr int kSums = kWidth == 16 ? 16 : 8; // leaves registers for a row of V
    constexpr int kMost = kSums / Rows > 8 ? 8 : kSums / Rows;
    constexpr int kOnce = kMost > kFewestVectors ? kMost : kFewestVectors;
    NextLine next = later;
    int64_t c = 0;
    for (; c + kOnce * kWidth <= columns; c += kOnce * kWidth)
        add_keys<Type, Rows, kOnce, AllVisible>(keys, next, weights, visible, c, columns, out);
    for (; c < columns; c += kFewestVectors * kWidth)
        add_keys<Type, Rows, kFewestVectors, AllVisible>(keys, next, weights, visible, c, columns, out);
    next.fetch_rest();
    later = next;
}

/// Of a tile of few rows, from block to block.
struct FewState {
    int64_t fetched = -1; ///< AMX: the block whose keys are on their way.
};

inline void begin_few(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch)
{
#if defined(ATTN_PRODUCTS_AMX)
    if (is_tiled(tile)) return pack_few_tiles(shape, tile, scratch);
#endif
    pack_few_q(shape, tile, scratch);
}

inline void score_few(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                      const Hull &hull, [[maybe_unused]] const FewState &state)
{
    const bool direct = is_k_direct(shape, tile);
    const int64_t bytes = shape.dim_k * element_bytes(shape.k_type);
    const auto read = [&](int64_t key, float *out) { read_key(shape, tile, key, out); };
    const auto group_at = [&](int64_t first) {
        return KeyGroup(tile.k, scratch, block, first, hull.begin, hull.end, direct, read);
    };
#if defined(ATTN_PRODUCTS_AMX)
    if (is_tiled(tile)) {
        BlockLines lines(shape, tile);
        LineQueue later = lines.values(block + hull.begin, block + hull.end, state.fetched == block);
        score_tiled(scratch, tile.rows, hull, group_at, later);
        later.fetch_rest();
        return;
    }
#endif
    for (int64_t first = round_down(hull.begin, kWidth); first < hull.end; first += kWidth) {
        const KeyGroup keys = group_at(first);
        const Ahead ahead(tile.k, block + first + kAheadKeys, tile.key_end, bytes);
        NextLine next(ahead);
        with_type(shape.k_type, direct, [&]<Element Type>() {
            in_pieces(tile.rows, [&]<int Rows>(int64_t r) {
                const int64_t columns = scratch.q_columns;
                for (int64_t c = 0; c < columns; c += kFewDepth)
                    score_group<Type, Rows>(few_q<Rows>(scratch, r, 0), columns, c, smaller_of(columns, c + kFewDepth),
                                            keys, next, scratch.s + r * kRowStep + first);
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
        if (hull.full || sees(shape, scratch, row, block, key)) visible |= 1u << i;
    }
    return visible;
}

inline void weigh_few(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                      const Hull &hull, [[maybe_unused]] FewState *state)
{
    const bool direct = is_v_direct(shape, tile);
    const int64_t bytes = shape.dim_v * element_bytes(shape.v_type);
    const auto read = [&](int64_t key, float *out) { read_value(shape, tile, key, out); };
    const int64_t columns = scratch.o_columns;
    for (int64_t i = 0; i < tile.rows * columns; i += kWidth) store(scratch.block_o + i, Vec{});
    for (int64_t first = round_down(hull.begin, kWidth); first < hull.end;) {
#if defined(ATTN_PRODUCTS_AMX)
        const int64_t end = round_down(hull.end, kTiledKeys);
        if (is_tiled(tile) && direct && hull.full && first >= hull.begin && first % kTiledKeys == 0 && first < end) {
            BlockLines lines(shape, tile);
            state->fetched = block + shape.key_block;
            LineQueue later = lines.keys(state->fetched, smaller_of(state->fetched + shape.key_block, tile.key_end));
            weigh_tiled(tile, scratch, block, first, end, later);
            later.fetch_rest();
            first = end;
            continue;
        }
#endif
        const KeyGroup keys(tile.v, scratch, block, first, hull.begin, hull.end, direct, read);
        const Ahead ahead(tile.v, block + first + kAheadKeys, tile.key_end, bytes);
        NextLine next(ahead);
        const float *p = scratch.p + first / kWeightsPerWord;
        const bool whole = hull.full && first >= hull.begin && first + kWidth <= hull.end;
        with_type(shape.v_type, direct, [&]<Element Type>() {
            if (whole) {
                in_pieces(tile.rows, [&]<int Rows>(int64_t r) {
                    weigh_group<Type, Rows, true>(keys, next, p + r * kRowStep, 0, columns,
                                                  scratch.block_o + r * columns);
                });
                return;
            }
            // Only keys the row sees are added, whatever V holds elsewhere.
            for (int64_t r = 0; r < tile.rows; ++r)
                weigh_group<Type, 1, false>(keys, next, p + r * kRowStep,
                                            visible_keys(shape, scratch, r, block, first, hull), columns,
                                            scratch.block_o + r * columns);
        });
        first += kWidth;
    }
    for (int64_t r = 0; r < tile.rows; ++r)
        for (int64_t c = 0; c < columns; c += kWidth) {
            float *o = scratch.o + r * columns + c;
            store(o, load(o) * scratch.alpha[r] + load(scratch.block_o + r * columns + c));
        }
}

/// Everything a tile of at most kFewRows rows does with one block of keys.
inline void run_few(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                    const Hull &hull, FewState *state)
{
    score_few(shape, tile, scratch, block, hull, *state);
    weigh_rows(shape, tile, scratch, 0, tile.rows, block, hull);
    weigh_few(shape, tile, scratch, block, hull, state);
}

} // namespace
} // namespace attn::cpu

#endif

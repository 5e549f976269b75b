// Panels: Q, K and V as floats in the order in which the products read them.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_PACK_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_PACK_H

#include "backends/cpu/dense/tile_memory.h"

namespace attn::cpu {
namespace {

/// Rows of a strip of which `rows` are in use: the next of a few heights that kernels exist for.
ATTN_INLINE int strip_height(int64_t rows)
{
    if (rows > kStrip / 3 * 2) return kStrip;
    if (rows > kStrip / 3) return kStrip / 3 * 2;
    if (rows > 2) return kStrip / 3;
    return rows > 1 ? 2 : 1;
}

template <int M>
struct StripHeight {
};

/// Calls run(StripHeight<M>()) with M = height.
template <class Run>
inline void at_height(int height, Run run)
{
    if (height == kStrip) return run(StripHeight<kStrip>());
    if (height == kStrip / 3 * 2) return run(StripHeight<kStrip / 3 * 2>());
    if constexpr (kStrip / 3 > 2)
        if (height == kStrip / 3) return run(StripHeight<kStrip / 3>());
    if (height == 2) return run(StripHeight<2>());
    run(StripHeight<1>());
}

/// Rows of kWidth queries or keys as floats, each a whole number of vectors.
struct RowGroup {
    const float *row[kWidth];
};

/// Writes a group to a panel, transposed: lane i of channel c goes to panel[c * step + i]. Where the lanes reach beyond
/// the step, every store spills into the next channel, which is written after it; behind the last, kWidth floats may
/// change.
ATTN_INLINE void write_transposed(const RowGroup &group, int64_t channels, float factor, int64_t step, float *panel)
{
    int64_t c = 0;
    for (; c < channels; c += kWidth) {
        Vec square[kWidth];
        ATTN_UNROLL
        for (int i = 0; i < kWidth; ++i) square[i] = load(group.row[i] + c) * factor;
        transpose(square);
        if (c + kWidth <= channels) {
            ATTN_UNROLL
            for (int i = 0; i < kWidth; ++i) store(panel + (c + i) * step, square[i]);
        } else {
            for (int i = 0; i < channels - c; ++i) store(panel + (c + i) * step, square[i]);
        }
    }
}

/// Q times its factor, transposed by strips. What pads a strip repeats a row in use and is not used itself.
inline void pack_q(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch)
{
    const bool in_place = is_q_in_place(shape, tile);
    for (int64_t first = 0; first < tile.rows; first += kStrip) {
        const int64_t rows = smaller_of(kStrip, tile.rows - first), height = strip_height(rows);
        float *panel = scratch.q + first * shape.dim_qk;
        // From the last group to the first: stores spill into lower rows of the next channel only.
        for (int64_t base = round_down(rows - 1, kWidth); base >= 0; base -= kWidth) {
            RowGroup group;
            for (int i = 0; i < kWidth; ++i) {
                const int64_t row = first + smaller_of(base + i, rows - 1);
                if (in_place) {
                    group.row[i] = reinterpret_cast<const float *>(q_row(shape, tile, row));
                } else {
                    float *converted = scratch.row + i * scratch.row_columns;
                    read_q_row(shape, tile, row, converted);
                    group.row[i] = converted;
                }
            }
            write_transposed(group, shape.dim_qk, in_place ? shape.q_factor : 1.0f, height, panel + base);
        }
    }
}

/// Keys [begin, end) of the block at `block`, transposed into panels. Keys outside that a panel needs repeat one
/// inside: their scores are masked.
inline void pack_k(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                   int64_t begin, int64_t end)
{
    const bool in_place = is_k_in_place(shape, tile);
    for (int64_t first = round_down(begin, kPanel); first < end; first += kWidth) {
        RowGroup group;
        for (int i = 0; i < kWidth; ++i) {
            const int64_t key = smaller_of(larger_of(first + i, begin), end - 1);
            if (in_place) {
                group.row[i] = reinterpret_cast<const float *>(key_row(tile.k, block + key));
            } else {
                float *converted = scratch.row + i * scratch.row_columns;
                read_k_row(shape, tile, block + key, converted);
                group.row[i] = converted;
            }
        }
        write_transposed(group, shape.dim_qk, 1.0f, kPanel,
                         scratch.k + round_down(first, kPanel) * shape.dim_qk + first % kPanel);
    }
}

/// Rows [begin, end) of V into panels of channels. Returns whether all elements are finite.
inline bool pack_v(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t block,
                   int64_t begin, int64_t end)
{
    const bool in_place = is_v_in_place(shape, tile);
    const int64_t columns = scratch.o_columns, whole = round_down(columns, kPanel);
    const int64_t panel_step = kPanel * shape.key_block;
    Vec check = {}, second_check = {}; // x - x is 0 for finite x, else NaN
    for (int64_t key = begin; key < end; ++key) {
        const float *row = scratch.row;
        if (in_place)
            row = reinterpret_cast<const float *>(key_row(tile.v, block + key));
        else
            read_v_row(shape, tile, block + key, scratch.row);
        float *place = scratch.v + key * kPanel;
        for (int64_t c = 0; c < whole; c += kPanel, place += panel_step) {
            const Vec first = load(row + c), second = load(row + c + kWidth);
            check += first - first;
            second_check += second - second;
            store(place, first);
            store(place + kWidth, second);
        }
        if (whole < columns) { // a last panel of one vector
            const Vec last = load(row + whole);
            check += last - last;
            store(scratch.v + whole * shape.key_block + key * kWidth, last);
        }
    }
    return reduce_add(check + second_check) == 0.0f;
}

} // namespace
} // namespace attn::cpu

#endif

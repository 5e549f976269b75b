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
            read_q_row(shape, tile, first + m, scratch.row);
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

} // namespace
} // namespace attn::cpu

#endif

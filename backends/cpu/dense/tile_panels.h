// What the ways to pack Q, K and V share: strips of query rows, and transposition into panels.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_PANELS_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_PANELS_H

#include "backends/cpu/dense/tile_memory.h"

namespace attn::cpu {
namespace {

template <int M>
struct StripHeight {
};

#if defined(ATTN_PRODUCTS_AMX)
/// Rows of a strip of which `rows` are in use: the next of a few heights that kernels exist for.
ATTN_INLINE int strip_height(int64_t rows)
{
    return rows > kStrip / 2 ? kStrip : kStrip / 2;
}

/// Calls run(StripHeight<M>()) with M = height.
template <class Run>
inline void at_height(int height, Run run)
{
    if (height == kStrip)
        run(StripHeight<kStrip>());
    else
        run(StripHeight<kStrip / 2>());
}
#else
/// Rows of a strip of which `rows` are in use: the next of a few heights that kernels exist for.
ATTN_INLINE int strip_height(int64_t rows)
{
    if (rows > kStrip / 3 * 2) return kStrip;
    if (rows > kStrip / 3) return kStrip / 3 * 2;
    if (rows > 2) return kStrip / 3;
    return rows > 1 ? 2 : 1;
}

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
#endif

/// kWidth rows of queries or keys in words of 32 bits, each a whole number of vectors.
struct RowGroup {
    const float *row[kWidth];
};

/// Writes a group to a panel, transposed: lane i of column c goes to panel[c * step + i]. Where the lanes reach beyond
/// the step, every store spills into the next column, which is written after it; behind the last, kWidth words may
/// change. Words that are floats can be scaled.
template <bool Scaled>
ATTN_INLINE void write_transposed(const RowGroup &group, int64_t columns, float factor, int64_t step, float *panel)
{
    int64_t c = 0;
    for (; c < columns; c += kWidth) {
        Vec square[kWidth];
        ATTN_UNROLL
        for (int i = 0; i < kWidth; ++i) {
            square[i] = load(group.row[i] + c);
            if (Scaled) square[i] *= factor;
        }
        transpose(square);
        if (c + kWidth <= columns) {
            ATTN_UNROLL
            for (int i = 0; i < kWidth; ++i) store(panel + (c + i) * step, square[i]);
        } else {
            for (int i = 0; i < columns - c; ++i) store(panel + (c + i) * step, square[i]);
        }
    }
}

} // namespace
} // namespace attn::cpu

#endif

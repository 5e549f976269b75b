// A block of keys against strips of query rows.
//
//   for each strip of kStrip query rows:
//       S = Q K^T      [strip, keys]
//       softcap, bias, mask, running maximum, P = 2^(S - max), running sum                  (S and P in L1)
//       O = O * 2^(old max - max) + P V
//
// The products come in three kinds, of which the including unit chooses one: in float, or of bfloat16 pairs with the
// dot products of AVX512-BF16 or with the tiles of AMX.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_BLOCKED_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_BLOCKED_H

#if defined(ATTN_PRODUCTS_AMX)
#include "backends/cpu/dense/tile_amx.h"
#elif defined(ATTN_PRODUCTS_DOT)
#include "backends/cpu/dense/tile_dot.h"
#else
#include "backends/cpu/dense/tile_float.h"
#endif

namespace attn::cpu {
namespace {

#if !defined(ATTN_PRODUCTS_AMX)
/// Only AMX has registers to set up.
struct TileRegisters {};
#endif

/// Everything one strip does with one block of keys.
template <int M>
inline void run_strip(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t first,
                      int64_t rows, int64_t block, const Hull &hull, bool v_finite)
{
    score_strip<M>(shape, scratch, first, hull.begin, hull.end);
    weigh_rows(shape, tile, scratch, first, rows, block, hull);
    for (int64_t m = rows; m < M; ++m) {
        clear_row(scratch.p + m * kRowStep, hull.begin, hull.end);
        scratch.alpha[m] = 1.0f;
    }
    // Pairs weigh whole panels, in which other rows of the tile may see what this strip does not.
    const bool whole = !kPairs || (hull.begin % kPanel == 0 && hull.end % kPanel == 0);
    if (v_finite || (hull.full && whole))
        weigh_strip<M>(shape, scratch, first, hull.begin, hull.end);
    else
        weigh_visible<M>(shape, scratch, first, rows, block, hull.begin, hull.end);
}

} // namespace
} // namespace attn::cpu

#endif

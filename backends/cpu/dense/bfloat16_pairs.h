// Words that hold two adjacent bfloat16: products of such pairs, and making them. For units with AVX512-BF16.
//
// The hardware takes subnormal inputs for 0 and flushes subnormal results.
#ifndef ATTN_BACKENDS_CPU_DENSE_BFLOAT16_PAIRS_H
#define ATTN_BACKENDS_CPU_DENSE_BFLOAT16_PAIRS_H

#include "backends/cpu/simd.h"

namespace attn::cpu {
namespace {

/// sum + a.first b.first + a.second b.second, lane by lane.
ATTN_INLINE Vec add_pair_products(Vec sum, Vec a, Vec b)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

/// The floats of two vectors as bfloat16 in order, rounded to nearest even.
ATTN_INLINE Vec narrow(Vec low, Vec high)
{
    return (Vec)_mm512_cvtne2ps_pbh(high, low);
}

/// From two rows of 32 bfloat16 the pairs of one column each: of columns 0 .. 15 and 16 .. 31.
ATTN_INLINE void interleave(Vec even, Vec odd, Vec *low, Vec *high)
{
    const __m512i halves = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                                            37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i upper = _mm512_add_epi16(halves, _mm512_set1_epi16(16));
    *low = (Vec)_mm512_permutex2var_epi16((__m512i)even, halves, (__m512i)odd);
    *high = (Vec)_mm512_permutex2var_epi16((__m512i)even, upper, (__m512i)odd);
}

/// All ones in the words that have a bfloat16 infinity or NaN.
ATTN_INLINE VecI not_finite(Vec pairs)
{
    const VecI low = bits(pairs) & 0x7f80, high = bits(pairs) & 0x7f800000;
    return (low == 0x7f80) | (high == 0x7f800000);
}

} // namespace
} // namespace attn::cpu

#endif

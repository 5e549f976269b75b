// The step of the online softmax without more: no bias, no softcap, no entropy. Rows go together, so that what happens
// once per row (maximum, reference, rescaling) happens in the lanes of vectors.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_SOFTEN_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_SOFTEN_H

#include "backends/cpu/dense/tile_weigh.h"
#if defined(ATTN_PRODUCTS_AMX) || defined(ATTN_PRODUCTS_DOT)
#include "backends/cpu/dense/bfloat16_pairs.h"
#endif

namespace attn::cpu {
namespace {

/// Weights of one row, from keys `first` to `last`: floats in place, or pairs in the first half of row `p`, which need
/// no more precision than 2^-18 before they are rounded to 2^-9; floats as well where `p` is another row. Returns their
/// sum by lane.
ATTN_INLINE Vec soften_row(float *s, float *p, int64_t first, int64_t last, float factor, float reference)
{
    Vec sum = {};
#if defined(ATTN_PRODUCTS_AMX) || defined(ATTN_PRODUCTS_DOT)
    Vec odd_sum = {};
    const bool kept = p != s;
    for (int64_t j = first; j < last; j += 2 * kWidth) {
        const Vec even = exp2_weight<4>(load(s + j) * factor - reference);
        const Vec odd = exp2_weight<4>(load(s + j + kWidth) * factor - reference);
        sum += even;
        odd_sum += odd;
        if (kept) {
            store(s + j, even);
            store(s + j + kWidth, odd);
        }
        store(p + j / 2, narrow(even, odd));
    }
    sum += odd_sum;
#else
    static_cast<void>(factor); // is in Q
    static_cast<void>(p);      // is s
    for (int64_t j = first; j < last; j += kWidth) {
        const Vec weight = exp2_weight(load(s + j) - reference);
        sum += weight;
        store(s + j, weight);
    }
#endif
    return sum;
}

/// Scores, times a positive factor where they are products of pairs, to weights, alpha, running maximum and sum, for up
/// to kWidth rows from row `row` of the tile. Scores from `first` to `last`, whole vectors, are -inf where a row does
/// not see the key.
inline void soften_rows(const Scratch &scratch, int64_t row, int64_t rows, float *s, float *p, float *alpha,
                        int64_t first, int64_t last)
{
    Vec top[kWidth];
    for (int64_t r = 0; r < kWidth; ++r) {
        top[r] = splat(kLowest);
        if (r < rows)
            for (int64_t j = first; j < last; j += kWidth) top[r] = larger(top[r], load(s + r * kRowStep + j));
    }
    const Vec seen = fold(top, [](Vec a, Vec b) { return larger(a, b); });

    // One lane for each row from here; the lanes beyond hold something that is not used.
    const Vec old = load(scratch.max + row);
    const Vec now = larger(old, kPairs ? seen * load(scratch.factor + row) : seen);
    const Vec reference = now == kLowest ? Vec{} : now; // nothing seen yet: every weight becomes 0
    float maxima[kWidth], references[kWidth], rescale[kWidth];
    store(maxima, now);
    store(references, reference);
    store(rescale, now == old ? splat(1.0f) : exp2(old - reference));

    for (int64_t r = 0; r < rows; ++r) {
        const float factor = kPairs ? scratch.factor[row + r] : 1.0f;
        const Vec added = soften_row(s + r * kRowStep, p + r * kRowStep, first, last, factor, references[r]);
        float *sum = scratch.sum + (row + r) * kWidth;
        store(sum, load(sum) * rescale[r] + added);
        scratch.max[row + r] = maxima[r];
        alpha[r] = rescale[r];
    }
}

/// Whether rows take this step; `factor` is of pairs.
ATTN_INLINE bool is_plain(const ForwardShape &shape)
{
    return shape.weight == Weight::softmax && shape.cap_factor == 0.0f && !shape.has_bias && !shape.has_entropy;
}

/// The step for all rows of a strip, from products that are scores but for masks; `panel` is what weights come in.
inline void soften_strip(const ForwardShape &shape, const Scratch &scratch, int64_t row, int64_t rows, int64_t block,
                         const Hull &hull, int64_t panel)
{
    const int64_t first = round_down(hull.begin, panel), last = round_up(hull.end, panel);
    for (int64_t m = 0; m < rows; ++m) {
        float *s = scratch.s + m * kRowStep;
        if (!hull.full) mask_row(shape, scratch, row + m, block, hull.begin, hull.end, s);
        fill_lowest(s, first, hull.begin);
        fill_lowest(s, hull.end, last);
    }
    for (int64_t m = 0; m < rows; m += kWidth)
        soften_rows(scratch, row + m, smaller_of(kWidth, rows - m), scratch.s + m * kRowStep, scratch.p + m * kRowStep,
                    scratch.alpha + m, first, last);
}

} // namespace
} // namespace attn::cpu

#endif

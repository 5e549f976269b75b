// From scores to weights as bfloat16, for one row over one block of keys.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_WEIGH_PAIRS_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_WEIGH_PAIRS_H

#include "backends/cpu/dense/tile_pack_pairs.h"
#include "backends/cpu/dense/tile_weigh.h"

namespace attn::cpu {
namespace {

/// What pads a strip weighs nothing.
inline void clear_row(float *s, int64_t begin, int64_t end)
{
    const int64_t last = round_up(end, kPanel);
    for (int64_t j = round_down(begin, kPanel); j < last; j += kChunk) store(s + j / 2, Vec{});
}

/// Products of row `row` to scores, over whole vectors around [begin, end).
inline void scale_products(const Scratch &scratch, int64_t row, float *s, int64_t begin, int64_t end)
{
    const float factor = scratch.factor[row];
    for (int64_t j = round_down(begin, kWidth); j < end; j += kWidth) store(s + j, load(s + j) * factor);
}

/// Weights as floats to weights as pairs, in the first half of their row. Outside whole vectors around [begin, end)
/// they become 0.
inline void narrow_row(float *p, int64_t begin, int64_t end)
{
    const int64_t from = round_down(begin, kWidth), to = round_up(end, kWidth), last = round_up(end, kPanel);
    for (int64_t j = round_down(begin, kPanel); j < last; j += kChunk) {
        const Vec low = j >= from && j < to ? load(p + j) : Vec{};
        const Vec high = j + kWidth < to ? load(p + j + kWidth) : Vec{};
        store(p + j / 2, narrow(low, high));
    }
}

/// The softmax step without more, of up to kWidth rows from row `row` of the tile: S times a positive factor -> P as
/// pairs, alpha, running maximum and sum. Scores of whole panels around the keys are -inf where a row does not see
/// them. Weights need no more precision than 2^-18 before they are rounded to 2^-9.
inline void soften_rows(const Scratch &scratch, int64_t row, int64_t rows, float *s, float *alpha, int64_t begin,
                        int64_t end)
{
    const int64_t first = round_down(begin, kPanel), last = round_up(end, kPanel);
    Vec top[kWidth];
    for (int64_t r = 0; r < kWidth; ++r) {
        Vec low = splat(kLowest), high = low;
        const float *p = s + r * kRowStep;
        if (r < rows)
            for (int64_t j = first; j < last; j += kChunk) {
                low = larger(low, load(p + j));
                high = larger(high, load(p + j + kWidth));
            }
        top[r] = larger(low, high);
    }
    const Vec seen = fold(top, [](Vec a, Vec b) { return larger(a, b); });

    // One lane for each row from here to the references.
    const __mmask16 used = static_cast<__mmask16>((1u << rows) - 1);
    const Vec old = _mm512_maskz_loadu_ps(used, scratch.max + row);
    const Vec now = larger(old, seen * Vec(_mm512_maskz_loadu_ps(used, scratch.factor + row)));
    const Vec reference = now == kLowest ? Vec{} : now; // nothing seen yet: every weight becomes 0
    _mm512_mask_storeu_ps(scratch.max + row, used, now);
    _mm512_mask_storeu_ps(alpha, used, now == old ? splat(1.0f) : exp2(old - reference));
    float references[kWidth];
    store(references, reference);

    for (int64_t r = 0; r < rows; ++r) {
        const float factor = scratch.factor[row + r], distance = references[r];
        float *p = s + r * kRowStep;
        Vec low_sum = {}, high_sum = {};
        for (int64_t j = first; j < last; j += kChunk) {
            const Vec low = exp2_below_128<4>(load(p + j) * factor - distance);
            const Vec high = exp2_below_128<4>(load(p + j + kWidth) * factor - distance);
            low_sum += low;
            high_sum += high;
            store(p + j / 2, narrow(low, high));
        }
        float *sum = scratch.sum + (row + r) * kWidth;
        store(sum, load(sum) * alpha[r] + (low_sum + high_sum));
    }
}

/// Rows of products to weights; alpha becomes the factor of what each row has summed before.
inline void weigh_rows(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, int64_t first,
                       int64_t rows, int64_t block, const Hull &hull)
{
    bool plain = shape.weight == Weight::softmax && shape.cap_factor == 0.0f && !shape.has_bias && !shape.has_entropy;
    for (int64_t m = 0; m < rows; ++m) plain &= scratch.factor[first + m] > 0.0f;
    for (int64_t m = 0; m < rows; ++m) {
        float *s = scratch.s + m * kRowStep;
        if (plain) {
            if (!hull.full) mask_row(shape, scratch.mask[first + m], scratch.position, block, hull.begin, hull.end, s);
            fill_lowest(s, round_down(hull.begin, kPanel), hull.begin);
            fill_lowest(s, hull.end, round_up(hull.end, kPanel));
        } else {
            scale_products(scratch, first + m, s, hull.begin, hull.end);
            scratch.alpha[m] = weigh_scores(shape, tile, scratch, first + m, s, block, hull);
            narrow_row(s, hull.begin, hull.end);
        }
    }
    if (!plain) return;
    for (int64_t m = 0; m < rows; m += kWidth)
        soften_rows(scratch, first + m, smaller_of(kWidth, rows - m), scratch.s + m * kRowStep, scratch.alpha + m,
                    hull.begin, hull.end);
}

} // namespace
} // namespace attn::cpu

#endif

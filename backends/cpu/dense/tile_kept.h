// COLUMN_MASS in the pass that computes the rows: their weights are kept until what they are multiplied by is known.
//
//   for each block of keys and strip of query rows:
//       S and P lie in rows of their own, [block][row], instead of in rows that the next strip uses again
//       and with them the reference of each row there
//   once the rows are written:
//       sums[head of the row] += 2^(reference - max) * factor * P          strip by strip, the block's keys at once
//
// A strip adds its rows in float, the sums are double: what a key gets hardly depends on how its rows are grouped.
// Of a row whose factor is NaN, what it gives a key depends on whether it sees it, which its weights do not say: the
// scores of such rows are computed once more (tile_columns.h).
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_KEPT_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_KEPT_H

#include "backends/cpu/dense/tile_columns.h"

namespace attn::cpu {
namespace {

/// The weights that a tile keeps, by block and strip. Without sums to add to, all of it does nothing.
class Keeper {
public:
    /// Few rows are one strip.
    ATTN_INLINE Keeper(const ForwardShape &shape, const ForwardTile &tile, const Scratch &scratch, bool few)
        : shape_(shape), tile_(tile), kept_(scratch.kept), strip_(few ? tile.rows : kStrip)
    {
        if (!wanted()) return;
        for (int64_t i = 0; i < blocks() * strips_step(); ++i) kept_.keys[i] = {0, 0};
    }

    ATTN_INLINE bool wanted() const { return tile_.sums != nullptr; }

    /// Before a strip of the block is computed: where its scores go.
    ATTN_INLINE void place(int64_t block, int64_t first, Scratch *scratch) const
    {
        if (wanted()) scratch->s = row_weights(number(block), first);
        if (wanted() && !kPairs) scratch->p = scratch->s;
    }

    /// After it: which keys it has weights of, and what these are relative to.
    ATTN_INLINE void note(int64_t block, int64_t first, int64_t rows, const Hull &hull, const Scratch &scratch) const
    {
        if (!wanted()) return;
        const int64_t n = number(block);
        kept_.keys[n * strips_step() + first / strip_] = {static_cast<int32_t>(round_down(hull.begin, kWidth)),
                                                          static_cast<int32_t>(round_up(hull.end, kWidth))};
        for (int64_t r = first; r < first + rows; ++r) references(n)[r] = scratch.max[r];
    }

    /// Once the rows are done: adds what they give to each key. Returns whether there are rows that it left out,
    /// because their factors are NaN.
    inline bool add() const;

private:
    ATTN_INLINE int64_t rows_step() const { return shape_.tile_rows + kWidth; }
    ATTN_INLINE int64_t strips_step() const { return shape_.tile_rows / kStrip; }
    ATTN_INLINE int64_t number(int64_t block) const { return (block - tile_.key_begin) / shape_.key_block; }
    ATTN_INLINE int64_t blocks() const
    {
        return (tile_.key_end - tile_.key_begin + shape_.key_block - 1) / shape_.key_block;
    }
    ATTN_INLINE float *row_weights(int64_t n, int64_t row) const
    {
        return kept_.weights + (n * shape_.tile_rows + row) * kRowStep;
    }
    ATTN_INLINE float *references(int64_t n) const { return kept_.reference + n * rows_step(); }

    inline bool read_scales() const;
    inline void add_strip(int64_t n, int64_t first, int64_t rows, const KeyRange &keys) const;

    const ForwardShape &shape_;
    const ForwardTile &tile_;
    const KeptWeights &kept_;
    int64_t strip_;
};

/// The scales that the rows have been written with. Returns whether one is NaN.
inline bool Keeper::read_scales() const
{
    bool any_nan = false;
    for (int64_t r = 0; r < tile_.rows; ++r) {
        const RowScale scale = read_scale(tile_, RowPlace(shape_, tile_, r));
        any_nan |= is_nan(scale.factor);
        kept_.max[r] = scale.max;
        kept_.factor[r] = is_nan(scale.factor) ? 0.0f : scale.factor;
    }
    return any_nan;
}

/// total[j] = sum over rows of factors[i] * weights[i][j] for keys [begin, end). Rows of factor 0, which may hold NaN,
/// add nothing. Fetches the same place of the next strip.
ATTN_INLINE void sum_rows(const float *weights, int64_t row_step, const float *factors, int64_t factor_step,
                          int64_t rows, int64_t begin, int64_t end, float *total)
{
    constexpr int kOnce = 4; // vectors
    constexpr int64_t kAhead = kStrip * kRowStep;
    int64_t j = begin;
    for (; j + kOnce * kWidth <= end; j += kOnce * kWidth) {
        Vec acc[kOnce] = {};
        for (int64_t i = 0; i < rows; ++i) {
            const float factor = factors[i * factor_step];
            const float *row = weights + i * row_step + j;
            ATTN_UNROLL
            for (int n = 0; n < kOnce; ++n)
                if (n * kWidth % 16 == 0) __builtin_prefetch(row + kAhead + n * kWidth);
            if (factor == 0.0f) continue;
            ATTN_UNROLL
            for (int n = 0; n < kOnce; ++n) acc[n] += splat(factor) * load(row + n * kWidth);
        }
        ATTN_UNROLL
        for (int n = 0; n < kOnce; ++n) store(total + j + n * kWidth, acc[n]);
    }
    for (; j < end; j += kWidth) {
        Vec acc = {};
        for (int64_t i = 0; i < rows; ++i)
            if (const float factor = factors[i * factor_step]; factor != 0.0f)
                acc += splat(factor) * load(weights + i * row_step + j);
        store(total + j, acc);
    }
}

/// What the rows of a strip give the keys of block n: row by row of one head, then the next head.
inline void Keeper::add_strip(int64_t n, int64_t first, int64_t rows, const KeyRange &keys) const
{
    const int64_t group = shape_.group;
    for (int64_t m = 0; m < smaller_of(group, rows); ++m) {
        float total[kRowStep];
        sum_rows(row_weights(n, first + m), group * kRowStep, kept_.block + first + m, group,
                 (rows - m + group - 1) / group, keys.begin, keys.end, total);
        double *sums = tile_.sums + (tile_.first_row + first + m) % group * tile_.sums_step + tile_.key_begin +
                       n * shape_.key_block;
        for (int64_t j = keys.begin; j < keys.end; ++j) sums[j] += static_cast<double>(total[j]);
    }
}

inline bool Keeper::add() const
{
    const bool softmax = shape_.weight == Weight::softmax;
    const bool any_nan = softmax && read_scales();
    for (int64_t r = 0; !softmax && r < tile_.rows; ++r) kept_.block[r] = 1.0f;
    for (int64_t n = 0; n < blocks(); ++n) {
        for (int64_t r = 0; softmax && r < tile_.rows; r += kWidth) {
            const Vec factor = load(kept_.factor + r), rise = load(references(n) + r) - load(kept_.max + r);
            store(kept_.block + r, factor == 0.0f ? Vec{} : exp2_below_128(rise) * factor); // the rise may be NaN
        }
        const KeyRange *keys = kept_.keys + n * strips_step();
        for (int64_t first = 0; first < tile_.rows; first += strip_, ++keys)
            if (keys->begin < keys->end) add_strip(n, first, smaller_of(strip_, tile_.rows - first), *keys);
    }
    return any_nan;
}

/// What rows whose factors are NaN give: NaN to what they see.
inline void add_nan_rows(const ForwardShape &shape, const ForwardTile &tile, void *memory)
{
    ForwardTile part = tile;
    part.head_weight = {};
    for (int64_t block = tile.key_begin; block < tile.key_end; block += shape.key_block) {
        part.key_begin = block, part.key_end = smaller_of(block + shape.key_block, tile.key_end);
        add_columns_of<Rows::nan>(shape, part, tile.sums + block, tile.sums_step, memory);
    }
}

} // namespace
} // namespace attn::cpu

#endif

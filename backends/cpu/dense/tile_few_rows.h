// Rows of K and V where they are, a group of keys at a time, and fetching those that come later.
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_FEW_ROWS_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_FEW_ROWS_H

#include "backends/cpu/dense/tile_blocked.h"

namespace attn::cpu {
namespace {

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

/// Calls `run(first)` for rows [0, rows) in pieces of powers of 2, with their number as a constant.
template <int Rows = kWidth, class Run>
ATTN_INLINE void in_pieces(int64_t rows, Run run, int64_t first = 0)
{
    for (; first + Rows <= rows; first += Rows) run.template operator()<Rows>(first);
    if constexpr (Rows > 1) in_pieces<Rows / 2>(rows, run, first);
}

/// Word c, a multiple of kWidth, of the first of a piece of `Rows` query rows; those of the other rows follow, so that
/// one address reaches them all.
template <int Rows>
ATTN_INLINE float *few_q(const Scratch &scratch, int64_t first, int64_t c)
{
    return scratch.q + first * scratch.q_columns + c * Rows;
}

/// Packs Q: `read(row, words)` makes the words of a row.
template <class Read>
inline void pack_few_rows(const Scratch &scratch, int64_t rows, Read read)
{
    in_pieces(rows, [&]<int Rows>(int64_t first) {
        for (int64_t r = 0; r < Rows; ++r) {
            read(first + r, scratch.row);
            for (int64_t c = 0; c < scratch.q_columns; c += kWidth)
                store(few_q<Rows>(scratch, first, c) + r * kWidth, load(scratch.row + c));
        }
    });
}

/// Whether kWidth keys from `first` are equally far apart.
ATTN_INLINE bool is_evenly_spaced(const KeyRows &rows, int64_t first)
{
    return rows.page_size == 0 || first % rows.page_size + kWidth <= rows.page_size;
}

/// Places of kWidth keys from `first`, of which those outside [begin, end) repeat one inside.
ATTN_INLINE void place_rows(const KeyRows &rows, int64_t first, int64_t begin, int64_t end,
                            const char *(&places)[kWidth])
{
    if (first >= begin && first + kWidth <= end && is_evenly_spaced(rows, first)) {
        const char *place = key_row(rows, first);
        for (int i = 0; i < kWidth; ++i, place += rows.row_step) places[i] = place;
        return;
    }
    for (int i = 0; i < kWidth; ++i) places[i] = key_row(rows, clamp(first + i, begin, end - 1));
}

/// Rows of kWidth keys: whole vectors of elements.
struct KeyGroup {
    const char *row[kWidth];

    /// Of the keys from `first` of the block: where they are, or converted by `read(key, floats)`. Keys outside
    /// [begin, end) repeat one inside, unused.
    template <class Read>
    ATTN_INLINE KeyGroup(const KeyRows &rows, const Scratch &scratch, int64_t block, int64_t first, int64_t begin,
                         int64_t end, bool direct, Read read)
    {
        if (direct) {
            place_rows(rows, block + first, block + begin, block + end, row);
            return;
        }
        for (int i = 0; i < kWidth; ++i) {
            float *converted = scratch.row + i * scratch.row_columns;
            read(block + clamp(first + i, begin, end - 1), converted);
            row[i] = reinterpret_cast<const char *>(converted);
        }
    }
};

/// How far ahead rows are fetched.
constexpr int64_t kAheadKeys = 32;

/// Rows that the product reads later: fetched to L2 while it computes, a line at a time and in the order of memory,
/// which the processor's own prefetcher can follow, whatever order the product reads in.
struct Ahead {
    const char *row[kWidth];
    int64_t rows = 0;  ///< 0: nothing to fetch.
    int64_t bytes = 0; ///< Of a row.

    /// Keys [first, end) of the sequence, at most kWidth of them.
    ATTN_INLINE Ahead(const KeyRows &keys, int64_t first, int64_t end, int64_t row_bytes)
    {
        if (first >= end) return;
        rows = smaller_of(kWidth, end - first), bytes = round_up(row_bytes, 64);
        place_rows(keys, first, first, end, row);
    }
    Ahead() = default;
};

/// The line to fetch next.
class NextLine {
public:
    ATTN_INLINE explicit NextLine(const Ahead &ahead) : row_(ahead.row), end_(row_ + ahead.rows), bytes_(ahead.bytes) {}

    /// Once for each vector that a product reads of a row, at its byte `byte`.
    ATTN_INLINE void fetch(int64_t byte)
    {
        if (byte % 64 == 0) fetch_line();
    }
    ATTN_INLINE void fetch_rest()
    {
        while (place_ != row_end_ || row_ != end_) fetch_line();
    }

private:
    ATTN_INLINE void fetch_line()
    {
        if (place_ == row_end_) {
            if (row_ == end_) return;
            place_ = *row_++;
            row_end_ = place_ + bytes_;
        }
        __builtin_prefetch(place_, 0, 2);
        place_ += 64;
    }
    const char *place_ = nullptr, *row_end_ = nullptr;
    const char *const *row_, *const *end_;
    int64_t bytes_;
};

} // namespace
} // namespace attn::cpu

#endif

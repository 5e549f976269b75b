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

/// Rows of kWidth keys: whole vectors of elements.
struct KeyGroup {
    const char *row[kWidth];

    /// Of the keys from `first` of the block: where they are, or converted by `read(key, floats)`. Keys outside
    /// [begin, end) repeat one inside, unused.
    template <class Read>
    ATTN_INLINE KeyGroup(const KeyRows &rows, const Scratch &scratch, int64_t block, int64_t first, int64_t begin,
                         int64_t end, bool direct, Read read)
    {
        for (int i = 0; i < kWidth; ++i) {
            const int64_t key = block + smaller_of(larger_of(first + i, begin), end - 1);
            row[i] =
                direct ? key_row(rows, key) : reinterpret_cast<const char *>(scratch.row + i * scratch.row_columns);
            if (!direct) read(key, scratch.row + i * scratch.row_columns);
        }
    }
};

/// How far ahead rows are fetched.
constexpr int64_t kAheadKeys = 32;

/// Rows that the product reads later: fetched a line at a time, to L2, while it computes.
struct Ahead {
    const char *row[kWidth];
    int64_t bytes = 0; ///< Of a row; 0: nothing to fetch.

    /// Keys [first, end) of the sequence, at most kWidth of them.
    ATTN_INLINE Ahead(const KeyRows &rows, int64_t first, int64_t end, int64_t row_bytes)
    {
        if (first >= end) return;
        bytes = row_bytes;
        for (int i = 0; i < kWidth; ++i) row[i] = key_row(rows, smaller_of(first + i, end - 1));
    }
    Ahead() = default;

    template <int Count>
    ATTN_INLINE void fetch(int first, int64_t byte) const
    {
        if (byte % 64 != 0 || byte >= bytes) return;
        ATTN_UNROLL
        for (int i = 0; i < Count; ++i) __builtin_prefetch(row[first + i] + byte, 0, 2);
    }
    /// What is left of rows longer than `byte`.
    ATTN_INLINE void fetch_rest(int64_t byte) const
    {
        for (byte = round_up(byte, 64); byte < bytes; byte += 64) fetch<kWidth>(0, byte);
    }
};

} // namespace
} // namespace attn::cpu

#endif

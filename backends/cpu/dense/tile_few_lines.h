// Lines of K and V of bfloat16 that come later, fetched a block ahead. Products without tiles fetch their own rows
// (NextLine): where that was tried they read more slowly with this (docs/performance.md).
#ifndef ATTN_BACKENDS_CPU_DENSE_TILE_FEW_LINES_H
#define ATTN_BACKENDS_CPU_DENSE_TILE_FEW_LINES_H

#include "backends/cpu/dense/tile_few_rows.h"
#include "backends/cpu/dense/tile_pack_pairs.h"

namespace attn::cpu {
namespace {

/// Runs of adjacent lines that hold rows of keys, in the order of memory.
class LineRuns {
public:
    LineRuns() = default;
    /// Of keys [first, end) of the sequence, and then those of `then`.
    LineRuns(const KeyRows &rows, int64_t first, int64_t end, int64_t row_bytes, LineRuns *then = nullptr)
        : rows_(rows), key_(first), end_(larger_of(first, end)), bytes_(round_up(row_bytes, 64)), then_(then)
    {
    }

    /// False: there is none any more.
    __attribute__((noinline)) bool next(const char **begin, const char **end)
    {
        if (left_ == 0) {
            if (key_ == end_) return then_ && then_->next(begin, end);
            left_ = end_ - key_;
            if (rows_.page_size) left_ = smaller_of(left_, rows_.page_size - key_ % rows_.page_size);
            row_ = key_row(rows_, key_);
            key_ += left_;
        }
        const int64_t rows = rows_.row_step == bytes_ ? left_ : 1;
        *begin = row_, *end = row_ + rows * bytes_;
        row_ += rows * rows_.row_step, left_ -= rows;
        return true;
    }

private:
    KeyRows rows_ = {};
    int64_t key_ = 0, end_ = 0; ///< Keys that no page was taken of.
    int64_t bytes_ = 0;         ///< Of a row, whole lines.
    LineRuns *then_ = nullptr;
    const char *row_ = nullptr; ///< Of the page, `left_` rows that are in no run yet.
    int64_t left_ = 0;
};

/// Lines to fetch to L2 while a loop computes on others. Small, to be kept in registers.
class LineQueue {
public:
    /// `once`: lines for each line that the loop reads.
    ATTN_INLINE LineQueue(LineRuns &runs, int64_t once) : runs_(&runs), once_(once) {}

    /// For `lines` that the loop reads.
    ATTN_INLINE void fetch(int64_t lines) { fetch_lines(lines * once_); }
    ATTN_INLINE void fetch_rest() { fetch_lines(INT64_MAX); }

private:
    ATTN_INLINE void fetch_lines(int64_t lines)
    {
        for (; lines > 0 && (place_ != end_ || begin_run()); --lines, place_ += 64) __builtin_prefetch(place_, 0, 2);
    }
    ATTN_INLINE bool begin_run()
    {
        const char *begin, *end;
        if (!runs_) return false;
        if (!runs_->next(&begin, &end)) {
            runs_ = nullptr;
            return false;
        }
        place_ = begin, end_ = end;
        return true;
    }
    LineRuns *runs_; ///< NULL: there is none any more.
    const char *place_ = nullptr, *end_ = nullptr;
    int64_t once_;
};

/// What the loops over a block fetch: that of the scores V of the block, that of V the keys of the next block.
class BlockLines {
public:
    ATTN_INLINE BlockLines(const ForwardShape &shape, const ForwardTile &tile)
        : shape_(shape),
          tile_(tile),
          k_lines_((shape.dim_k + kChunk - 1) / kChunk),
          v_lines_((shape.dim_v + kChunk - 1) / kChunk)
    {
    }

    /// V of keys [first, end) of the sequence; before it K of the same keys where it is not on its way, 32 of them at
    /// once.
    ATTN_INLINE LineQueue values(int64_t first, int64_t end, bool is_fetched)
    {
        runs_[1] = LineRuns(tile_.v, first, end, shape_.dim_v * 2);
        runs_[0] = LineRuns(tile_.k, first, end, shape_.dim_k * 2, &runs_[1]);
        LineQueue queue(runs_[is_fetched], (v_lines_ + k_lines_ - 1) / k_lines_ + !is_fetched);
        if (!is_fetched) queue.fetch(kAheadKeys / 2 * k_lines_); // two lines, at least, for each
        return queue;
    }
    ATTN_INLINE LineQueue keys(int64_t first, int64_t end)
    {
        runs_[0] = LineRuns(tile_.k, first, end, shape_.dim_k * 2);
        return LineQueue(runs_[0], (k_lines_ + v_lines_ - 1) / v_lines_);
    }

private:
    const ForwardShape &shape_;
    const ForwardTile &tile_;
    int64_t k_lines_, v_lines_; ///< Lines of memory of a row.
    LineRuns runs_[2];
};

} // namespace
} // namespace attn::cpu

#endif

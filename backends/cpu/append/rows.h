// Where the new rows of one append go: read from the length tensors, page tables and mappings, and checked before
// anything is written.
#ifndef ATTN_BACKENDS_CPU_APPEND_ROWS_H
#define ATTN_BACKENDS_CPU_APPEND_ROWS_H

#include "append.h"
#include "arguments.h"
#include "backends/cpu/dense/sequences.h"

#include <algorithm>

namespace attn::cpu {

/// An integer per new row, `[B, Tq]` or packed `[total]`, int32 or int64. Absent: base is NULL.
struct RowIntegers {
    const char *base = nullptr;
    int64_t sequence_step = 0, row_step = 0; ///< Bytes.
    bool wide = false;

    int64_t at(int64_t b, int64_t row) const noexcept;
    explicit operator bool() const noexcept { return base != nullptr; }
};

/// The new rows of one sequence.
struct NewRows {
    int64_t first = 0;  ///< Row of K, V and Q where its own begin; 0 unless packed.
    int64_t length = 0; ///< Rows in use.
    int64_t start = 0;  ///< Row of the sequence that the first has, before a ring wraps it.
};

/// Consecutive new rows that go to consecutive rows of a cache.
struct RowRun {
    int64_t token = 0; ///< Of the new rows, counted from the first of the sequence.
    int64_t count = 0;
    int64_t outer = 0; ///< Page, or sequence where the cache has no pages.
    int64_t row = 0;   ///< Within it.
};

/// Access to the new rows of matched arguments. Holds pointers into the caller's tensors.
class AppendRows {
public:
    AppendRows(const AppendProblem &problem, const Arguments &arguments);

    /// Whether everything read here keeps to its rules; the message names the tensor, the place and the value.
    [[nodiscard]] attn_status check() const noexcept;

    int64_t batch() const noexcept { return batch_; }
    NewRows operator[](int64_t b) const noexcept;
    /// Position of new row t, for RoPE.
    int64_t position(int64_t b, const NewRows &rows, int64_t t) const noexcept
    {
        return positions_ ? positions_.at(b, rows.first + t) : rows.start + t;
    }
    /// Whether no two rows can go to the same place.
    bool are_distinct() const noexcept { return !problem_.mapped && problem_.storage != Storage::paged; }

    /// Calls visit(RowRun) for all rows of a sequence that stay in the cache, in order. Rows that a ring would give to
    /// later ones of the same call are left out.
    template <class Visit>
    void for_each_run(int64_t b, const NewRows &rows, Visit visit) const
    {
        for (int64_t t = 0; t < rows.length;) {
            RowRun run;
            if (problem_.mapped) {
                const int64_t place = mapping_.at(b, rows.first + t);
                run = {t, 1, b, place};
                if (problem_.page_size && place >= 0)
                    run.outer = place / problem_.page_size, run.row = place % problem_.page_size;
                ++t;
                if (place < 0) continue;
            } else {
                t = surviving(rows, t);
                run = {t, rows.length - t, b, slot_of(rows.start + t)};
                if (problem_.ring_rows) // sinks and ring apart: which rows survive differs
                    run.count = std::min(run.count,
                                         (run.row < problem_.sink_tokens ? problem_.sink_tokens : problem_.ring_rows) -
                                             run.row);
                if (problem_.page_size) {
                    run.outer = page(b, run.row / problem_.page_size);
                    run.row %= problem_.page_size;
                    run.count = std::min(run.count, problem_.page_size - run.row);
                }
                t += run.count;
            }
            visit(run);
        }
    }

private:
    /// The first row from t on that no later row of the call replaces.
    int64_t surviving(const NewRows &rows, int64_t t) const noexcept
    {
        if (!problem_.ring_rows || rows.start + t < problem_.sink_tokens) return t;
        return std::max(t, rows.length - (problem_.ring_rows - problem_.sink_tokens));
    }
    /// Row of the cache for a row of the sequence.
    int64_t slot_of(int64_t row) const noexcept
    {
        if (!problem_.ring_rows || row < problem_.ring_rows) return row;
        const int64_t sinks = problem_.sink_tokens;
        return sinks + (row - sinks) % (problem_.ring_rows - sinks);
    }
    int64_t page(int64_t b, int64_t i) const noexcept;
    int64_t pages_of(int64_t b) const noexcept;

    [[nodiscard]] attn_status check_room(int64_t b, const NewRows &rows) const noexcept;
    [[nodiscard]] attn_status check_pages(int64_t b, const NewRows &rows) const noexcept;
    [[nodiscard]] attn_status check_mapping(int64_t b, const NewRows &rows) const noexcept;
    [[nodiscard]] attn_status check_positions(int64_t b, const NewRows &rows) const noexcept;

    const AppendProblem &problem_;
    int64_t batch_, tq_, total_q_, cache_rows_, columns_, entries_, table_positions_;
    int64_t pool_ = 0; ///< Pages that every cache has.
    IntegerView cu_q_, used_q_, lengths_, table_ptr_;
    RowIntegers table_, mapping_, positions_; ///< The table by sequence and page.
};

} // namespace attn::cpu

#endif

#include "backends/cpu/append/rows.h"

#include "backends/cpu/views.h"

#include <cstdio>
#include <cstring>

namespace attn::cpu {
namespace {

long long wide(int64_t value)
{
    return value;
}

RowIntegers row_integers(const attn_tensor &view)
{
    RowIntegers integers;
    integers.wide = view.dtype == ATTN_INT64;
    integers.base = first_element(view);
    integers.row_step = bytes_of_step(view, view.ndim - 1);
    integers.sequence_step = view.ndim == 2 ? bytes_of_step(view, 0) : 0;
    return integers;
}

/// "SLOT_MAPPING[2][5]", or "SLOT_MAPPING[17]" where rows are packed.
struct Place {
    char text[96];
    Place(const char *name, bool packed, int64_t b, int64_t row)
    {
        if (packed)
            snprintf(text, sizeof text, "%s[%lld]", name, wide(row));
        else
            snprintf(text, sizeof text, "%s[%lld][%lld]", name, wide(b), wide(row));
    }
};

} // namespace

int64_t RowIntegers::at(int64_t b, int64_t row) const noexcept
{
    const char *p = base + b * sequence_step + row * row_step;
    int32_t narrow;
    int64_t value;
    if (wide) {
        memcpy(&value, p, sizeof value);
        return value;
    }
    memcpy(&narrow, p, sizeof narrow);
    return narrow;
}

AppendRows::AppendRows(const AppendProblem &problem, const Arguments &arguments)
    : problem_(problem),
      batch_(arguments.sizes.at(Axis::batch)),
      tq_(arguments.sizes.at(Axis::query)),
      total_q_(arguments.sizes.at(Axis::total_q)),
      cache_rows_(arguments.sizes.at(Axis::key)),
      columns_(arguments.sizes.at(Axis::table_columns)),
      entries_(arguments.sizes.at(Axis::table_entries)),
      table_positions_(arguments.sizes.at(Axis::positions))
{
    const auto integers = [&](attn_slot slot, IntegerView *view) {
        if (const int position = problem.find(slot); position >= 0) *view = IntegerView(*arguments.view[position]);
    };
    integers(ATTN_SLOT_CU_SEQLENS_Q, &cu_q_);
    integers(ATTN_SLOT_SEQLENS_Q, &used_q_);
    integers(ATTN_SLOT_SEQLENS_KV, &lengths_);
    integers(ATTN_SLOT_BLOCK_TABLE_PTR, &table_ptr_);
    const auto by_row = [&](attn_slot slot, RowIntegers *view) {
        if (const int position = problem.find(slot); position >= 0) *view = row_integers(*arguments.view[position]);
    };
    by_row(ATTN_SLOT_BLOCK_TABLE, &table_);
    by_row(ATTN_SLOT_SLOT_MAPPING, &mapping_);
    by_row(ATTN_SLOT_POSITIONS_Q, &positions_);
    const int64_t k_pages = arguments.sizes.at(Axis::k_pages), v_pages = arguments.sizes.at(Axis::v_pages);
    pool_ = k_pages == kFree ? v_pages : v_pages == kFree ? k_pages : std::min(k_pages, v_pages);
    // Without rows and lengths there is nothing to look at, however many sequences the views claim.
    if (tq_ == 0 && !used_q_ && !lengths_ && !table_ptr_) batch_ = 0;
}

int64_t AppendRows::page(int64_t b, int64_t i) const noexcept
{
    return table_ptr_ ? table_.at(0, table_ptr_[b] + i) : table_.at(b, i);
}

int64_t AppendRows::pages_of(int64_t b) const noexcept
{
    return table_ptr_ ? table_ptr_[b + 1] - table_ptr_[b] : columns_;
}

NewRows AppendRows::operator[](int64_t b) const noexcept
{
    NewRows rows;
    rows.length = tq_;
    if (cu_q_) rows.first = cu_q_[b], rows.length = cu_q_[b + 1] - cu_q_[b];
    if (used_q_) rows.length = used_q_[b];
    if (lengths_) // any length, which check() has yet to see
        rows.start = static_cast<int64_t>(static_cast<uint64_t>(lengths_[b]) - static_cast<uint64_t>(rows.length));
    return rows;
}

/// Rows of the sequence against the rows that its cache has.
attn_status AppendRows::check_room(int64_t b, const NewRows &rows) const noexcept
{
    const AppendProblem &p = problem_;
    int64_t room = p.max_kv; // of a cache without ring
    if (p.writes_cache()) {
        if (p.page_size && pages_of(b) <= p.max_kv / p.page_size) room = pages_of(b) * p.page_size;
        if (!p.page_size) room = cache_rows_;
    }
    const int64_t most = p.ring_rows ? kLargestExtent : room;
    if (lengths_ && (lengths_[b] < rows.length || lengths_[b] > most))
        return fail(ATTN_ERROR_DATA,
                    "SEQLENS_KV[%lld] = %lld: must be %lld .. %lld, from the new rows to the room there is", wide(b),
                    wide(lengths_[b]), wide(rows.length), wide(most));
    if (rows.length > most)
        return fail(ATTN_ERROR_DATA,
                    "K, V: sequence %lld has %lld new rows: must be at most the %lld rows of its cache", wide(b),
                    wide(rows.length), wide(most));
    const int64_t reached = std::min(rows.start + rows.length, p.ring_rows);
    if (p.ring_rows && rows.length > 0 && reached > room)
        return fail(ATTN_ERROR_DATA, "BLOCK_TABLE: sequence %lld has pages for %lld rows: must have %lld of the ring",
                    wide(b), wide(room), wide(reached));
    return ATTN_OK;
}

attn_status AppendRows::check_pages(int64_t b, const NewRows &rows) const noexcept
{
    attn_status status = ATTN_OK;
    for_each_run(b, rows, [&](const RowRun &run) {
        if (status || (run.outer >= 0 && run.outer < pool_)) return;
        status =
            fail(ATTN_ERROR_DATA, "BLOCK_TABLE: the page of sequence %lld for new row %lld = %lld: must be 0 .. %lld",
                 wide(b), wide(run.token), wide(run.outer), wide(pool_ - 1));
    });
    return status;
}

attn_status AppendRows::check_mapping(int64_t b, const NewRows &rows) const noexcept
{
    const int64_t page_size = problem_.page_size;
    for (int64_t t = 0; t < rows.length; ++t) {
        const int64_t place = mapping_.at(b, rows.first + t);
        if (place == -1 || (place >= 0 && (page_size ? place / page_size < pool_ : place < cache_rows_))) continue;
        const Place at("SLOT_MAPPING", problem_.packed_q, b, rows.first + t);
        if (page_size)
            return fail(ATTN_ERROR_DATA, "%s = %lld: must be -1 or a row of the %lld pages of %lld rows", at.text,
                        wide(place), wide(pool_), wide(page_size));
        return fail(ATTN_ERROR_DATA, "%s = %lld: must be -1 .. %lld", at.text, wide(place), wide(cache_rows_ - 1));
    }
    return ATTN_OK;
}

/// Positions against the rows of the table of angles.
attn_status AppendRows::check_positions(int64_t b, const NewRows &rows) const noexcept
{
    if (!positions_) {
        if (rows.length == 0 || rows.start + rows.length <= table_positions_) return ATTN_OK;
        return fail(ATTN_ERROR_DATA, "ROPE_COS: row %lld of sequence %lld: must be less than its %lld positions",
                    wide(rows.start + rows.length - 1), wide(b), wide(table_positions_));
    }
    for (int64_t t = 0; t < rows.length; ++t) {
        const int64_t position = positions_.at(b, rows.first + t);
        if (position >= 0 && position < table_positions_) continue;
        const Place at("POSITIONS_Q", problem_.packed_q, b, rows.first + t);
        return fail(ATTN_ERROR_DATA, "%s = %lld: must be 0 .. %lld, a row of ROPE_COS", at.text, wide(position),
                    wide(table_positions_ - 1));
    }
    return ATTN_OK;
}

attn_status AppendRows::check() const noexcept
{
    const AppendProblem &p = problem_;
    if (p.ring_rows && !p.page_size && cache_rows_ < p.ring_rows)
        return fail(ATTN_ERROR_INVALID, "%s.shape[1] = %lld: must be at least attn_append.ring_rows = %lld",
                    p.writes_k ? "K_CACHE" : "V_CACHE", wide(cache_rows_), wide(p.ring_rows));
    if (cu_q_)
        if (const attn_status status = check_boundaries("CU_SEQLENS_Q", cu_q_, batch_, total_q_, p.max_q))
            return status;
    if (table_ptr_ && p.page_size)
        if (const attn_status status =
                check_boundaries("BLOCK_TABLE_PTR", table_ptr_, batch_, entries_, kLargestExtent / p.page_size))
            return status;
    for (int64_t b = 0; b < batch_; ++b) {
        if (used_q_) {
            const int64_t most = cu_q_ ? cu_q_[b + 1] - cu_q_[b] : tq_;
            if (used_q_[b] < 0 || used_q_[b] > most)
                return fail(ATTN_ERROR_DATA, "SEQLENS_Q[%lld] = %lld: must be 0 .. %lld", wide(b), wide(used_q_[b]),
                            wide(most));
        }
        const NewRows rows = (*this)[b];
        if (p.mapped) {
            if (const attn_status status = check_mapping(b, rows)) return status;
        } else {
            if (const attn_status status = check_room(b, rows)) return status;
            if (p.page_size)
                if (const attn_status status = check_pages(b, rows)) return status;
        }
        if (p.rope.dim && p.rope.source == ATTN_ROPE_TABLE)
            if (const attn_status status = check_positions(b, rows)) return status;
    }
    return ATTN_OK;
}

} // namespace attn::cpu

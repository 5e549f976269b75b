#include "backends/cpu/dense/sequences.h"

#include "backends/cpu/views.h"

#include <algorithm>

namespace attn::cpu {
namespace {

long long wide(int64_t value)
{
    return value;
}

} // namespace

Sequences::Sequences(const DenseProblem &problem, const Arguments &arguments)
    : problem_(problem),
      batch_(arguments.sizes.at(Axis::batch)),
      tq_(arguments.sizes.at(Axis::query)),
      tk_(arguments.sizes.at(Axis::key)),
      total_q_(arguments.sizes.at(Axis::total_q)),
      total_kv_(arguments.sizes.at(Axis::total_kv)),
      k_pages_(arguments.sizes.at(Axis::k_pages)),
      v_pages_(arguments.sizes.at(Axis::v_pages)),
      columns_(arguments.sizes.at(Axis::table_columns)),
      entries_(arguments.sizes.at(Axis::table_entries))
{
    const auto integers = [&](attn_slot slot, IntegerView *view) {
        const int position = problem.find(slot);
        if (position >= 0) *view = IntegerView(*arguments.view[position]);
    };
    integers(ATTN_SLOT_CU_SEQLENS_Q, &cu_q_);
    integers(ATTN_SLOT_CU_SEQLENS_KV, &cu_kv_);
    integers(ATTN_SLOT_SEQLENS_Q, &used_q_);
    integers(ATTN_SLOT_SEQLENS_KV, &used_kv_);
    integers(ATTN_SLOT_BLOCK_TABLE_PTR, &table_ptr_);
    if (const int position = problem.find(ATTN_SLOT_BLOCK_TABLE); position >= 0) {
        const attn_tensor &view = *arguments.view[position];
        table_ = first_element(view);
        table_wide_ = view.dtype == ATTN_INT64;
        table_step_ = bytes_of_step(view, view.ndim - 1);
        table_batch_step_ = view.ndim == 2 ? bytes_of_step(view, 0) : 0;
    }
}

int64_t Sequences::pages_of(int64_t b) const noexcept
{
    return table_ptr_ ? table_ptr_[b + 1] - table_ptr_[b] : columns_;
}

const char *Sequences::table_of(int64_t b) const noexcept
{
    if (!table_) return nullptr; // an empty table
    return table_ + (table_ptr_ ? table_ptr_[b] * table_step_ : b * table_batch_step_);
}

Sequence Sequences::operator[](int64_t b) const noexcept
{
    Sequence s;
    s.q_length = tq_;
    if (cu_q_) s.q_first = cu_q_[b], s.q_length = cu_q_[b + 1] - cu_q_[b];
    if (used_q_) s.q_length = used_q_[b];
    s.k_length = tk_;
    if (cu_kv_) s.k_first = cu_kv_[b], s.k_length = cu_kv_[b + 1] - cu_kv_[b];
    if (problem_.storage == Storage::paged) {
        s.table = table_of(b);
        if (!used_kv_) s.k_length = pages_of(b) * problem_.page_size;
    }
    if (used_kv_) s.k_length = used_kv_[b];
    return s;
}

attn_status Sequences::check_pages(int64_t b, int64_t k_length) const noexcept
{
    const int64_t needed = (k_length + problem_.page_size - 1) / problem_.page_size;
    const int64_t pool = v_pages_ == kFree ? k_pages_ : std::min(k_pages_, v_pages_); // no V where it aliases K
    const char *entry = table_of(b);
    for (int64_t i = 0; i < needed; ++i, entry += table_step_) {
        const int64_t page = read_integer(entry, table_wide_);
        if (page < 0 || page >= pool)
            return fail(ATTN_ERROR_DATA, "BLOCK_TABLE: page %lld of sequence %lld = %lld: must be 0 .. %lld", wide(i),
                        wide(b), wide(page), wide(pool - 1));
    }
    return ATTN_OK;
}

attn_status Sequences::check() const noexcept
{
    const DenseProblem &p = problem_;
    if (cu_q_)
        if (const attn_status status = check_boundaries("CU_SEQLENS_Q", cu_q_, batch_, total_q_, p.max_q))
            return status;
    if (cu_kv_)
        if (const attn_status status = check_boundaries("CU_SEQLENS_KV", cu_kv_, batch_, total_kv_, p.max_kv))
            return status;
    if (table_ptr_)
        if (const attn_status status =
                check_boundaries("BLOCK_TABLE_PTR", table_ptr_, batch_, entries_, kLargestExtent / p.page_size))
            return status;
    for (int64_t b = 0; b < batch_; ++b) {
        if (used_q_) {
            const int64_t most = cu_q_ ? cu_q_[b + 1] - cu_q_[b] : tq_;
            if (const attn_status status = check_length("SEQLENS_Q", b, used_q_[b], most)) return status;
        }
        if (p.storage != Storage::paged) {
            const int64_t most = cu_kv_ ? cu_kv_[b + 1] - cu_kv_[b] : tk_;
            if (used_kv_)
                if (const attn_status status = check_length("SEQLENS_KV", b, used_kv_[b], most)) return status;
            continue;
        }
        int64_t most = p.max_kv;
        const int64_t pages = pages_of(b);
        if (pages <= p.max_kv / p.page_size) most = pages * p.page_size;
        if (used_kv_) {
            if (const attn_status status = check_length("SEQLENS_KV", b, used_kv_[b], most)) return status;
        } else if (pages > p.max_kv / p.page_size) {
            return fail(ATTN_ERROR_DATA,
                        "BLOCK_TABLE: sequence %lld has %lld pages of %lld rows: more than max_kv = %lld, and no "
                        "SEQLENS_KV says how many are in use",
                        wide(b), wide(pages), wide(p.page_size), wide(p.max_kv));
        }
        if (const attn_status status = check_pages(b, (*this)[b].k_length)) return status;
    }
    return ATTN_OK;
}

} // namespace attn::cpu

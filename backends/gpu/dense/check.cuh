// attn_dense_check: checked mode of dense plans. One block of threads looks at every length, boundary and page that the
// call will use, by the rules of the CPU backend, and writes slot STATUS.
#include "backends/gpu/dense/params.h"
#include "backends/gpu/faults.cuh"

namespace attn::gpu {

class DenseCheck {
public:
    using Parameters = CheckParams;
    using Shared = FaultTable;
    static constexpr i32 kPhases = 2;

    ATTN_DEVICE DenseCheck(const Parameters &p, Shared &shared, const Place &place)
        : p_(p), s_(p.sequences), shared_(shared), thread_(static_cast<i32>(place.thread))
    {
    }

    template <i32 Phase>
    ATTN_DEVICE void run()
    {
        if constexpr (Phase == 0) find();
        if constexpr (Phase == 1)
            if (thread_ == 0) report_first(shared_, p_.status);
    }

private:
    // The order in which faults are reported.
    enum : i32 { kQueries = 1, kKeys, kTables, kUsedQueries, kUsedKeys, kPages };

    static ATTN_DEVICE i64 within(i64 value, i64 most) { return value < 0 ? 0 : value < most ? value : most; }
    /// Of two boundaries, or what there is without.
    static ATTN_DEVICE i64 extent(const IntegerVector &cu, i64 b, i64 otherwise)
    {
        if (!cu.base) return otherwise;
        const i64 begin = load_integer(cu, b), end = load_integer(cu, b + 1);
        return begin >= 0 && end > begin ? end - begin : 0;
    }

    ATTN_DEVICE void find() const
    {
        Fault first = {};
        boundaries(s_.cu_q, s_.total_q, p_.longest_q, kQueries, kSlotCuSeqlensQ, &first);
        boundaries(s_.cu_kv, s_.total_kv, p_.longest_kv, kKeys, kSlotCuSeqlensKv, &first);
        boundaries(s_.table_ptr, s_.table_entries, p_.most_pages, kTables, kSlotBlockTablePtr, &first);
        for (i64 b = thread_; b < s_.batch; b += kFaultThreads) lengths(b, &first);
        if (s_.page_size)
            for (i64 b = 0; b < s_.batch; ++b) pages(b, &first);
        shared_.first[thread_] = first;
    }

    ATTN_DEVICE void boundaries(const IntegerVector &cu, i64 rows, i64 longest, i32 rank, i32 slot, Fault *first) const
    {
        if (cu.base)
            for (i64 i = thread_; i <= s_.batch; i += kFaultThreads)
                keep_first(boundary_fault(cu, i, rows, longest, rank, slot), first);
    }

    ATTN_DEVICE i64 pages_of(i64 b) const { return extent(s_.table_ptr, b, s_.table_columns); }
    ATTN_DEVICE i64 most_keys(i64 b) const
    {
        if (!s_.page_size) return extent(s_.cu_kv, b, s_.max_kv);
        const i64 listed = pages_of(b);
        return listed <= p_.longest_kv / s_.page_size ? listed * s_.page_size : p_.longest_kv;
    }

    ATTN_DEVICE void lengths(i64 b, Fault *first) const
    {
        if (s_.used_q.base) length(s_.used_q, b, extent(s_.cu_q, b, s_.max_q), kUsedQueries, kSlotSeqlensQ, first);
        if (s_.used_kv.base) length(s_.used_kv, b, most_keys(b), kUsedKeys, kSlotSeqlensKv, first);
    }
    static ATTN_DEVICE void length(const IntegerVector &used, i64 b, i64 most, i32 rank, i32 slot, Fault *first)
    {
        const i64 value = load_integer(used, b);
        if (value < 0 || value > most) keep_first({rank, slot, b, value}, first);
    }

    /// The entries of a sequence that are in use, shared out over threads.
    ATTN_DEVICE void pages(i64 b, Fault *first) const
    {
        const i64 listed = pages_of(b);
        if (!s_.table_ptr.base && !s_.used_kv.base && listed > p_.most_pages) { // and nothing says how many are in use
            keep_first({kPages, kSlotBlockTable, b * s_.table_columns, listed}, first);
            return;
        }
        const i64 most = most_keys(b), used = s_.used_kv.base ? within(load_integer(s_.used_kv, b), most) : most;
        const i64 needed = within((used + s_.page_size - 1) / s_.page_size, listed);
        const bool flat = s_.table_ptr.base != nullptr;
        const i64 begin = flat ? within(load_integer(s_.table_ptr, b), s_.table_entries) : b * s_.table_columns;
        for (i64 i = thread_; i < needed; i += kFaultThreads) {
            if (flat && begin + i >= s_.table_entries) return;
            const char *row = flat ? s_.table.base + begin * s_.table.step : s_.table.base + b * s_.table_row_step;
            const i64 page = load_integer(row + i * s_.table.step, s_.table.wide != 0);
            if (page < 0 || page >= s_.pages) keep_first({kPages, kSlotBlockTable, begin + i, page}, first);
        }
    }

    const Parameters &p_;
    const SequenceParams &s_;
    Shared &shared_;
    const i32 thread_;
};

#if defined(__CUDACC__)
extern "C" __global__ void __launch_bounds__(kFaultThreads)
    attn_dense_check(const __grid_constant__ CheckParams parameters)
{
    __shared__ DenseCheck::Shared shared;
    run_program<DenseCheck>(parameters, shared);
}
#endif

} // namespace attn::gpu

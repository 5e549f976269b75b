// Where a block of keys lies that is copied in boxes of rows, each of one page.
#ifndef ATTN_BACKENDS_CUDA_KEY_BOXES_CUH
#define ATTN_BACKENDS_CUDA_KEY_BOXES_CUH

#include "backends/gpu/dense/sequence.cuh"

namespace attn::sm90 {

using namespace gpu;

/// The box of one lane: its first row, and what of the map's outermost axis it lies in, a page or a sequence.
class KeyBox {
public:
    ATTN_DEVICE KeyBox(const ForwardParams &p, const Sequence &s)
        : p_(p), s_(s), outer_(p.sequences.cu_kv.base ? 0 : s.index)
    {
    }

    /// Looks up the box that begins with a key of the sequence. A table is read, but what it says is looked at by
    /// outer().
    ATTN_DEVICE void locate(int key)
    {
        if (!paged_) {
            row_ = static_cast<int>(s_.k_first) + key;
            return;
        }
        const int page_size = static_cast<int>(p_.sequences.page_size), page = key / page_size;
        row_ = key - page * page_size;
        outer_ = page < s_.pages ? read_integer(s_.table + page * p_.sequences.table.step, p_.sequences.table.wide != 0)
                                 : -1;
    }

    ATTN_DEVICE int row() const { return row_; }
    /// Of a page that is none the one beyond the last: there is no such page, and the engine fills in zeros.
    ATTN_DEVICE int outer() const
    {
        return static_cast<int>(!paged_ || (0 <= outer_ && outer_ < last_) ? outer_ : last_);
    }

private:
    const ForwardParams &p_;
    const Sequence &s_;
    const bool paged_ = p_.sequences.page_size != 0;
    const int last_ = static_cast<int>(p_.sequences.pages);
    int row_ = 0;
    i64 outer_;
};

} // namespace attn::sm90

#endif

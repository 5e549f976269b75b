#include "backends/cpu/merge/tokens.h"

namespace attn::cpu {

Tokens::Tokens(const MergeProblem &problem, const Arguments &arguments)
    : problem_(problem),
      batch_(arguments.sizes.at(Axis::batch)),
      tq_(arguments.sizes.at(Axis::query)),
      total_q_(arguments.sizes.at(Axis::total_q))
{
    if (problem.cu_seqlens >= 0) cu_ = IntegerView(*arguments.view[problem.cu_seqlens]);
    if (problem.seqlens >= 0) used_ = IntegerView(*arguments.view[problem.seqlens]);
}

attn_status Tokens::check() const noexcept
{
    if (cu_)
        if (const attn_status status = check_boundaries("CU_SEQLENS_Q", cu_, batch_, total_q_, problem_.max_q))
            return status;
    if (used_)
        for (int64_t b = 0; b < batch_; ++b)
            if (const attn_status status = check_length("SEQLENS_Q", b, used_[b], length_of(b))) return status;
    return ATTN_OK;
}

Token Tokens::operator[](int64_t token) const noexcept
{
    Token result;
    if (!cu_) {
        result.sequence = token / tq_;
        result.row = token % tq_;
        result.next = (result.sequence + 1) * tq_;
        result.used = !used_ || result.row < used_[result.sequence];
        return result;
    }
    result.row = cu_[0] + token;
    result.used = true;
    if (!used_) return result;
    int64_t b = 0, end = batch_; // the last sequence that begins at the row or before: cu[b] <= row < cu[end]
    while (end - b > 1) {
        const int64_t middle = b + (end - b) / 2;
        (cu_[middle] <= result.row ? b : end) = middle;
    }
    result.next = cu_[b + 1] - cu_[0];
    result.used = result.row - cu_[b] < used_[b];
    return result;
}

} // namespace attn::cpu

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
    const auto wide = [](int64_t value) { return static_cast<long long>(value); };
    if (cu_ && cu_[0] < 0) return fail(ATTN_ERROR_DATA, "CU_SEQLENS_Q[0] = %lld: must be >= 0", wide(cu_[0]));
    for (int64_t b = 0; b < batch_; ++b) {
        if (cu_) {
            if (cu_[b + 1] < cu_[b])
                return fail(ATTN_ERROR_DATA, "CU_SEQLENS_Q[%lld] = %lld: must not be less than the one before, %lld",
                            wide(b + 1), wide(cu_[b + 1]), wide(cu_[b]));
            if (cu_[b + 1] > total_q_)
                return fail(ATTN_ERROR_DATA, "CU_SEQLENS_Q[%lld] = %lld: must be at most the %lld rows of the tensor",
                            wide(b + 1), wide(cu_[b + 1]), wide(total_q_));
            if (length_of(b) > problem_.max_q)
                return fail(ATTN_ERROR_DATA,
                            "CU_SEQLENS_Q[%lld] - CU_SEQLENS_Q[%lld] = %lld: the plan bounds a sequence to %lld",
                            wide(b + 1), wide(b), wide(length_of(b)), wide(problem_.max_q));
        }
        if (used_ && (used_[b] < 0 || used_[b] > length_of(b)))
            return fail(ATTN_ERROR_DATA, "SEQLENS_Q[%lld] = %lld: must be 0 .. %lld", wide(b), wide(used_[b]),
                        wide(length_of(b)));
    }
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

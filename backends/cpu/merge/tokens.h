// The tokens of one merge: which rows of the tensors are in use. Read from the length tensors, and checked before
// anything is written.
#ifndef ATTN_BACKENDS_CPU_MERGE_TOKENS_H
#define ATTN_BACKENDS_CPU_MERGE_TOKENS_H

#include "arguments.h"
#include "backends/cpu/lengths.h"
#include "merge.h"

namespace attn::cpu {

/// One token of the numbering in Tokens.
struct Token {
    int64_t sequence = 0; ///< Index of the batch axis; 0 where packed.
    int64_t row = 0;      ///< Of the sequence, or of all where packed.
    int64_t next = 0;     ///< Where not in use: a later token, all before it not in use either.
    bool used = false;
};

/// Numbers all tokens that the sequences own, in use or not, from 0. Holds pointers into the caller's tensors.
class Tokens {
public:
    Tokens(const MergeProblem &problem, const Arguments &arguments);

    /// Whether lengths keep to their rules; the message names the tensor, the place and the value.
    [[nodiscard]] attn_status check() const noexcept;

    int64_t count() const noexcept { return cu_ ? cu_[batch_] - cu_[0] : batch_ * tq_; }
    Token operator[](int64_t token) const noexcept;

private:
    int64_t length_of(int64_t b) const noexcept { return cu_ ? cu_[b + 1] - cu_[b] : tq_; }

    const MergeProblem &problem_;
    int64_t batch_, tq_, total_q_;
    IntegerView cu_, used_;
};

} // namespace attn::cpu

#endif

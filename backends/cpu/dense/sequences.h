// The sequences of one execute: where each begins, how long it is, which pages it has. Read from the length tensors,
// and checked before anything is written.
#ifndef ATTN_BACKENDS_CPU_DENSE_SEQUENCES_H
#define ATTN_BACKENDS_CPU_DENSE_SEQUENCES_H

#include "arguments.h"
#include "backends/cpu/lengths.h"
#include "dense.h"

namespace attn::cpu {

/// One sequence.
struct Sequence {
    int64_t q_first = 0, q_length = 0; ///< Row of Q where packed; queries in use.
    int64_t k_first = 0, k_length = 0; ///< Row of K where packed; keys in use.
    const char *table = nullptr;       ///< Entry of its first page.
};

/// Access to the sequences of matched arguments. Holds pointers into the caller's tensors.
class Sequences {
public:
    Sequences(const DenseProblem &problem, const Arguments &arguments);

    /// Whether lengths and pages keep to their rules; the message names the tensor, the place and the value.
    [[nodiscard]] attn_status check() const noexcept;

    int64_t batch() const noexcept { return batch_; }
    Sequence operator[](int64_t b) const noexcept;
    int64_t table_step() const noexcept { return table_step_; }
    bool table_wide() const noexcept { return table_wide_; }

private:
    int64_t pages_of(int64_t b) const noexcept;
    const char *table_of(int64_t b) const noexcept;
    [[nodiscard]] attn_status check_pages(int64_t b, int64_t k_length) const noexcept;

    const DenseProblem &problem_;
    int64_t batch_, tq_, tk_, total_q_, total_kv_, k_pages_, v_pages_, columns_, entries_;
    IntegerView cu_q_, cu_kv_, used_q_, used_kv_, table_ptr_;
    const char *table_ = nullptr;
    int64_t table_step_ = 0, table_batch_step_ = 0; ///< Bytes.
    bool table_wide_ = false;
};

} // namespace attn::cpu

#endif

// Checked mode: gates and keys that would let a state grow without bound.
#ifndef ATTN_BACKENDS_CPU_LINEAR_CHECKED_H
#define ATTN_BACKENDS_CPU_LINEAR_CHECKED_H

#include "backends/cpu/linear/kernel.h"
#include "status.h"

namespace attn::cpu {

/// Whether the gates and keys of a state, that of sequence b and head `head`, keep to the rules of attn_linear; the
/// message names the tensor, the place and the value.
[[nodiscard]] attn_status check_values(const LinearShape &shape, const LinearTask &task, int64_t b,
                                       int64_t head) noexcept;

} // namespace attn::cpu

#endif

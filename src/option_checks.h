// Validity of the options that descriptors point to, whether or not a kernel serves them.
#ifndef ATTN_SRC_OPTION_CHECKS_H
#define ATTN_SRC_OPTION_CHECKS_H

#include "status.h"

#include <cstdint>

namespace attn {

/// Rotary embedding of heads of `dim` channels.
[[nodiscard]] attn_status check_rope(const attn_rope *given, int64_t dim);
[[nodiscard]] attn_status check_bias_table(const attn_bias_table *given);
/// An ::attn_dropout.
[[nodiscard]] attn_status check_dropout(const attn_ext *given);

} // namespace attn

#endif

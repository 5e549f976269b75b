// States of linear attention outside of plans: the portable form, and copies between layouts and dtypes.
#ifndef ATTN_SRC_STATE_H
#define ATTN_SRC_STATE_H

#include "status.h"

#include <cstddef>
#include <cstdint>

namespace attn {

[[nodiscard]] attn_status save_states(const attn_linear *desc, const attn_tensor *state, int64_t tokens, void *buffer,
                                      size_t capacity, size_t *needed);
[[nodiscard]] attn_status inspect_states(const void *buffer, size_t bytes, attn_state_info *info);
[[nodiscard]] attn_status load_states(const attn_linear *desc, const void *buffer, size_t bytes,
                                      const attn_tensor *state, int64_t *tokens);
[[nodiscard]] attn_status copy_states(const attn_tensor *from, attn_state_layout from_layout, const attn_tensor *to,
                                      attn_state_layout to_layout);

/// Elements in host memory, `step` bytes apart; float32, float16 or bfloat16.
struct Elements {
    char *data;
    int64_t step;
    attn_dtype dtype;
};

/// Copies elements, rounded to nearest even where the dtypes differ. The CPU backend does it.
void copy_elements(const Elements &from, const Elements &to, int64_t count) noexcept;

} // namespace attn

#endif

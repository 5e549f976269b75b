// The caller's views in the terms of GPU kernels.
#ifndef ATTN_BACKENDS_GPU_VIEWS_H
#define ATTN_BACKENDS_GPU_VIEWS_H

#include "backends/gpu/params.h"

#include <attn/attn.h>

namespace attn::gpu {

/// The number that kernels know a dtype of elements by; false if they have none.
bool element_of(attn_dtype dtype, i32 *element) noexcept;

/// Bytes from one place to the next along an axis; 0 where there is no next one.
i64 bytes_of_step(const attn_tensor &view, int axis) noexcept;

/// Address of the first element, NULL if there is none.
char *address_of(const attn_tensor &view) noexcept;

/// A tensor by token: the axes of `view` are [batch or page,] token [, head] [, channel]. `has_batch` is false where it
/// is packed.
TokenView token_view(const attn_tensor &view, bool has_batch, bool has_heads, bool has_channels) noexcept;

/// A tensor [batch, head, query or key] or packed [head, row]; `has_keys`: with a further axis of keys.
ScoreView score_view(const attn_tensor &view, bool packed, bool has_keys) noexcept;

IntegerVector integer_vector(const attn_tensor &view) noexcept;

} // namespace attn::gpu

#endif

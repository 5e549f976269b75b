// The caller's views, read with care: an empty view or an axis of one place may hold anything where it is not looked
// at.
#ifndef ATTN_SRC_TENSOR_VIEW_H
#define ATTN_SRC_TENSOR_VIEW_H

#include <attn/attn.h>

namespace attn {

/// Address of the first element; NULL where the view has none, whatever its data and byte_offset then are.
char *first_element(const attn_tensor &view) noexcept;

/// Elements from one place to the next along an axis; 0 where there is no next one, in an axis of one place or a view
/// of none: such a stride may be anything, also too large to multiply.
int64_t step_of(const attn_tensor &view, int axis) noexcept;

} // namespace attn

#endif

// Do two strided views share an element?
#ifndef ATTN_SRC_OVERLAP_H
#define ATTN_SRC_OVERLAP_H

#include <attn/attn.h>

#include <cstdint>

namespace attn {

/// Bytes that a view spans: first and one past the last, relative to its address. False if they overflow 64 bits.
bool view_span(const attn_tensor &view, int64_t element_bytes, int64_t *first, int64_t *last) noexcept;

/// Whether no two index tuples of the view can mean the same element. Sufficient, not necessary: the axes must nest,
/// as they do in any permutation, slice or reversal of a dense array.
bool has_distinct_elements(const attn_tensor &view) noexcept;

/// Whether two views certainly share no byte. Besides separate ranges this recognises interleaved views, such as the
/// parts of a packed [token, 3, head, channel] buffer: modulo a stride common to both they occupy separate intervals.
bool are_disjoint(const attn_tensor &a, int64_t a_bytes, const attn_tensor &b, int64_t b_bytes) noexcept;

} // namespace attn

#endif

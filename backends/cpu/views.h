// The caller's views in the terms of the kernels.
#ifndef ATTN_BACKENDS_CPU_VIEWS_H
#define ATTN_BACKENDS_CPU_VIEWS_H

#include "backends/cpu/elements.h"

#include <attn/attn.h>

namespace attn::cpu {

/// The element type of a dtype; false if kernels have none.
bool element_of(attn_dtype dtype, Element *element) noexcept;

Gate gate_of(attn_gate gate) noexcept;

/// Address of the first element; NULL where the view has none, whatever its data and byte_offset then are.
char *first_element(const attn_tensor &view) noexcept;

/// Elements from one place to the next along an axis; 0 where there is no next one, in an axis of one place or a view
/// of none: such a stride may be anything, also too large to multiply.
int64_t step_of(const attn_tensor &view, int axis) noexcept;

/// A view in bytes.
struct Bytes {
    char *data = nullptr;
    int64_t step[4] = {};
    int64_t channel_step = 1; ///< Of the last axis, in elements; 0 where it is broadcast.
    Element type = Element::float32;

    Bytes() = default;
    explicit Bytes(const attn_tensor &view);

    /// An address within the view. An empty view may have none.
    char *at(int64_t offset) const { return data ? data + offset : nullptr; }
};

} // namespace attn::cpu

#endif

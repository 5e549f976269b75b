// The caller's views in the terms of the kernels.
#ifndef ATTN_BACKENDS_CPU_VIEWS_H
#define ATTN_BACKENDS_CPU_VIEWS_H

#include "backends/cpu/elements.h"
#include "tensor_view.h"

#include <attn/attn.h>

namespace attn::cpu {

/// The element type of a dtype; false if kernels have none.
bool element_of(attn_dtype dtype, Element *element) noexcept;

Gate gate_of(attn_gate gate) noexcept;

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

// Length tensors: reading integers of either width, and the rules that boundaries and lengths keep to.
#ifndef ATTN_BACKENDS_CPU_LENGTHS_H
#define ATTN_BACKENDS_CPU_LENGTHS_H

#include "status.h"

#include <cstdint>

namespace attn::cpu {

/// A vector of integers, int32 or int64, with any stride. Absent, or without elements: base is NULL.
struct IntegerView {
    const char *base = nullptr;
    int64_t step = 0; ///< Bytes.
    bool wide = false;

    IntegerView() = default;
    explicit IntegerView(const attn_tensor &view);
    int64_t operator[](int64_t i) const noexcept;
    explicit operator bool() const noexcept { return base != nullptr; }
};

/// Reads an int32, or where `wide` an int64.
int64_t read_integer(const char *p, bool wide) noexcept;

/// Bytes from one integer to the next along an axis, by the rule of step_of().
int64_t bytes_of_step(const attn_tensor &view, int axis) noexcept;

/// Boundaries `cu` of `batch` sequences neither fall nor leave the `rows` there are; lengths stay within `longest`.
[[nodiscard]] attn_status check_boundaries(const char *name, const IntegerView &cu, int64_t batch, int64_t rows,
                                           int64_t longest) noexcept;

/// The length of sequence b is 0 .. most.
[[nodiscard]] attn_status check_length(const char *name, int64_t b, int64_t length, int64_t most) noexcept;

} // namespace attn::cpu

#endif

// Changing the shape of a kernel from outside, for tests and for tuning.
#ifndef ATTN_BACKENDS_GPU_SHAPE_OVERRIDE_H
#define ATTN_BACKENDS_GPU_SHAPE_OVERRIDE_H

#include "backends/gpu/types.h"
#include "status.h"

#include <span>

namespace attn::gpu {

/// A field of a shape under its name.
struct ShapeField {
    const char *name;
    i32 *value;
};

/// Sets fields as an environment variable says, if it is set: "keys=64,stages=1". Fails if it names no field or gives
/// no number of 0 .. 1024.
[[nodiscard]] attn_status override_fields(const char *variable, std::span<const ShapeField> fields);

} // namespace attn::gpu

#endif

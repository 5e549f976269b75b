// The tensors of one attn_execute(), checked against what the plan declared.
#ifndef ATTN_SRC_ARGUMENTS_H
#define ATTN_SRC_ARGUMENTS_H

#include "problem.h"

#include <cstddef>

namespace attn {

/// Most tensors that a plan of this release takes: those of a merge of 1024 parts. Lets an execute keep its views on
/// the stack, where only as many as the plan takes are touched.
constexpr size_t kMostTensors = 2080;

/// The sizes of one execute; kFree where no tensor has the axis.
struct Sizes {
    int64_t extent[kAxisCount];

    int64_t at(Axis axis) const noexcept { return extent[static_cast<int>(axis)]; }
    int64_t &at(Axis axis) noexcept { return extent[static_cast<int>(axis)]; }
};

/// Views in the order of the plan's tensors. They point into the caller's structs.
struct Arguments {
    const attn_tensor *view[kMostTensors];
    Sizes sizes;
};

/// Matches args to tensors: each once, none missing, none else; dtype, rank, extents, strides, device, alignment,
/// aliasing. Reads no tensor data and allocates nothing.
[[nodiscard]] attn_status match_arguments(const std::vector<TensorSpec> &tensors, attn_device device, int32_t device_id,
                                          const attn_arg *args, size_t count, Arguments *out) noexcept;

} // namespace attn

#endif

// From a problem and the tensors of a call to the parameters of dense kernels.
#ifndef ATTN_BACKENDS_GPU_DENSE_BINDING_H
#define ATTN_BACKENDS_GPU_DENSE_BINDING_H

#include "arguments.h"
#include "backends/gpu/dense/params.h"
#include "backends/gpu/device.h"
#include "dense.h"

namespace attn::gpu {

/// Places in a sequence are 32-bit numbers in kernels (offsets in memory are not).
constexpr int64_t kLongestSequence = int64_t{1} << 29;

/// Sizes of one execute that launches follow from.
struct LaunchSizes {
    int64_t batch, max_q, max_kv;
};

LaunchSizes launch_sizes(const DenseProblem &problem, const Sizes &sizes) noexcept;

/// What does not change from call to call.
ForwardParams forward_constants(const DenseProblem &problem);

/// The tensors of a call. What follows from the shape of a kernel is left alone.
void bind_forward(const DenseProblem &problem, const Arguments &arguments, const LaunchSizes &sizes,
                  ForwardParams *params) noexcept;

/// Of `pairs` pairs of sequence and head group, how many have keys that stay in the L2 cache together.
i32 section_of(const DenseProblem &problem, const Facts &facts, const LaunchSizes &sizes, int64_t pairs) noexcept;

} // namespace attn::gpu

#endif

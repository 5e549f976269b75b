// Dense forward attention on a GPU: plans for the portable kernels.
#ifndef ATTN_BACKENDS_GPU_DENSE_EXECUTOR_H
#define ATTN_BACKENDS_GPU_DENSE_EXECUTOR_H

#include "backend.h"
#include "backends/gpu/device.h"

namespace attn::gpu {

/// Why the portable kernels do not serve a problem; empty if they do.
std::string refuse_forward(const Problem &problem, Device &device);
[[nodiscard]] attn_status make_forward(const Problem &problem, Device &device, std::unique_ptr<Executor> *out);
/// For the calls of a plan that its own kernel cannot take: the general kernel, compiled only if none is at hand.
[[nodiscard]] attn_status make_spare_forward(const Problem &problem, Device &device, std::unique_ptr<Executor> *out);

} // namespace attn::gpu

#endif

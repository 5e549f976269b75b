// Dense forward attention on Hopper: plans for the kernel of forward.cuh.
#ifndef ATTN_BACKENDS_CUDA_DENSE_SM90_EXECUTOR_H
#define ATTN_BACKENDS_CUDA_DENSE_SM90_EXECUTOR_H

#include "backend.h"
#include "backends/gpu/device.h"

namespace attn::sm90 {

/// Why the kernel does not serve a problem; empty if it does.
std::string refuse_forward(const Problem &problem, gpu::Device &device);
[[nodiscard]] attn_status make_forward(const Problem &problem, gpu::Device &device, std::unique_ptr<Executor> *out);

} // namespace attn::sm90

#endif

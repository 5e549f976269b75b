// Latent attention (absorbed MLA) on Hopper: plans for the kernel of latent.cuh.
#ifndef ATTN_BACKENDS_CUDA_LATENT_SM90_EXECUTOR_H
#define ATTN_BACKENDS_CUDA_LATENT_SM90_EXECUTOR_H

#include "backend.h"
#include "backends/gpu/device.h"

namespace attn::sm90 {

/// Why the kernel does not serve a problem; empty if it does.
std::string refuse_latent(const Problem &problem, gpu::Device &device);
[[nodiscard]] attn_status make_latent(const Problem &problem, gpu::Device &device, std::unique_ptr<Executor> *out);

} // namespace attn::sm90

#endif

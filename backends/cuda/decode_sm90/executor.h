// Dense attention of few rows on Hopper: plans for the kernel of decode.cuh.
#ifndef ATTN_BACKENDS_CUDA_DECODE_SM90_EXECUTOR_H
#define ATTN_BACKENDS_CUDA_DECODE_SM90_EXECUTOR_H

#include "backend.h"
#include "backends/gpu/device.h"

namespace attn::sm90 {

/// Why the kernel does not serve a problem; empty if it does.
std::string refuse_decode(const Problem &problem, gpu::Device &device);
[[nodiscard]] attn_status make_decode(const Problem &problem, gpu::Device &device, std::unique_ptr<Executor> *out);

} // namespace attn::sm90

#endif

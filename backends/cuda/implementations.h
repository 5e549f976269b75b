// The kernels of the CUDA backend, as a list of implementations.
#ifndef ATTN_BACKENDS_CUDA_IMPLEMENTATIONS_H
#define ATTN_BACKENDS_CUDA_IMPLEMENTATIONS_H

#include "backends/gpu/implementation.h"

#include <span>

namespace attn::cuda {

/// For each kind the best first.
std::span<const gpu::Implementation> implementations() noexcept;

} // namespace attn::cuda

#endif

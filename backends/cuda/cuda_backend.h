// The CUDA backend on an open device.
#ifndef ATTN_BACKENDS_CUDA_CUDA_BACKEND_H
#define ATTN_BACKENDS_CUDA_CUDA_BACKEND_H

#include "backend.h"
#include "backends/cuda/device.h"
#include "backends/gpu/implementation.h"

#include <memory>

namespace attn::cuda {

std::unique_ptr<Backend> make_backend(std::unique_ptr<CudaDevice> device,
                                      gpu::Selection selection = gpu::Selection::standard);

} // namespace attn::cuda

#endif

// The kernels of latent attention on Hopper.
#ifndef ATTN_BACKENDS_CUDA_LATENT_SM90_VARIANTS_H
#define ATTN_BACKENDS_CUDA_LATENT_SM90_VARIANTS_H

#include "backends/cuda/latent_sm90/shape.h"
#include "kernel/store.h"
#include "status.h"

#include <vector>

namespace attn::sm90 {

/// For fp16 or bf16 (gpu::Element).
LatentShape latent_shape_of(i32 type) noexcept;

/// Changes fields of a shape as the environment variable ATTN_GPU_LATENT_SHAPE says ("cluster=2"), for tests and for
/// tuning. Fails if it names no field or if no kernel can have the shape.
[[nodiscard]] attn_status override_latent_shape(LatentShape *shape);

kernel::Request latent_request(const LatentShape &shape);

/// The kernel of the most common models, for the default pack.
std::vector<kernel::Request> default_latent_requests();
/// Others, for which the pack has no room: tests look at the registers of each.
std::vector<kernel::Request> further_latent_requests();

} // namespace attn::sm90

#endif

// The kernels of latent attention on Hopper.
#ifndef ATTN_BACKENDS_CUDA_LATENT_SM90_VARIANTS_H
#define ATTN_BACKENDS_CUDA_LATENT_SM90_VARIANTS_H

#include "backends/cuda/latent_sm90/shape.h"
#include "kernel/store.h"

#include <vector>

namespace attn::sm90 {

kernel::Request latent_request(const LatentShape &shape);

/// The kernel of the most common models, for the default pack.
std::vector<kernel::Request> default_latent_requests();
/// Others, for which the pack has no room: tests look at the registers of each.
std::vector<kernel::Request> further_latent_requests();

} // namespace attn::sm90

#endif

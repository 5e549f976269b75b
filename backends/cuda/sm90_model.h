// How long a plan's calls take, estimated from what was measured: for the choice between kernels and between tiles.
#ifndef ATTN_BACKENDS_CUDA_SM90_MODEL_H
#define ATTN_BACKENDS_CUDA_SM90_MODEL_H

#include "dense.h"

namespace attn::sm90 {

/// Microseconds of a call as large as the plan's bounds on so many SMs by cuda.dense.forward_sm90, with tiles of so
/// many consumers.
double forward_us(const DenseProblem &problem, int consumers, int64_t units) noexcept;

/// Of the same call where the portable kernel splits the keys of few tiles over all SMs.
double split_us(const DenseProblem &problem, int64_t units) noexcept;

} // namespace attn::sm90

#endif

// What executors of all kinds share: refusals, and grids that cover any number of blocks.
#ifndef ATTN_BACKENDS_GPU_PLANS_H
#define ATTN_BACKENDS_GPU_PLANS_H

#include "backends/gpu/device.h"
#include "problem.h"

#include <initializer_list>
#include <string>

namespace attn::gpu {

/// Why kernels do not serve a problem: options that no kernel computes, tensors among `slots` of other dtypes than
/// float32, float16 and bfloat16, a device without the instructions. Empty if nothing is in the way.
std::string refuse_common(const Problem &problem, const Device &device, std::initializer_list<attn_slot> slots);

/// A grid of at least `blocks` blocks along its x and z axes, and `rows` along y.
Grid grid_of(uint64_t blocks, uint32_t rows, uint32_t threads) noexcept;

} // namespace attn::gpu

#endif

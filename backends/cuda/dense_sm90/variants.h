// Which Hopper kernel of dense attention a plan gets.
#ifndef ATTN_BACKENDS_CUDA_DENSE_SM90_VARIANTS_H
#define ATTN_BACKENDS_CUDA_DENSE_SM90_VARIANTS_H

#include "backends/cuda/dense_sm90/shape.h"
#include "dense.h"
#include "kernel/store.h"

#include <vector>

namespace attn::sm90 {

constexpr int64_t kLargestDim = 256;

/// What the kernel is to compute.
struct Wish {
    i32 type = 0; ///< gpu::Element: fp16 or bf16.
    i32 features = 0, mask = kMaskEnd;
    int64_t dim_qk = 0, dim_v = 0; ///< At most kLargestDim.
    bool is_short = false;         ///< Rows see few blocks of keys, and not all the same.
    bool is_long = false;          ///< Rows are many, and all see the same keys.
    int64_t rank = 0;              ///< Channels of the factors of a low-rank bias; at most Shape::kMostRank.
    bool hopes = true;             ///< Rows may see keys enough for hopes to pay: not if all are short.
};
/// Whether all rows of the plan see as many keys, in each call.
bool is_uniform(const DenseProblem &problem) noexcept;
Wish wish_of(const DenseProblem &problem) noexcept;
Shape shape_of(const Wish &wish) noexcept;

/// Changes fields of a shape as the environment variable ATTN_GPU_SM90_SHAPE says ("keys=96,turns=0"), for tests and
/// for tuning. Fails if it names no field or if no kernel can have the shape.
[[nodiscard]] attn_status override_shape(Shape *shape);

kernel::Request forward_request(const Shape &shape);

/// The kernels of the most common models, for the default pack.
std::vector<kernel::Request> default_requests();
/// Others of common models, for which the pack has no room: tests look at the registers of each.
std::vector<kernel::Request> further_requests();

} // namespace attn::sm90

#endif

// Which Hopper kernel of few rows a plan gets.
#ifndef ATTN_BACKENDS_CUDA_DECODE_SM90_VARIANTS_H
#define ATTN_BACKENDS_CUDA_DECODE_SM90_VARIANTS_H

#include "backends/cuda/decode_sm90/shape.h"
#include "kernel/store.h"
#include "status.h"

#include <vector>

namespace attn::sm90 {

constexpr int64_t kLargestDecodeDim = 256;

/// For fp16 or bf16 (gpu::Element), tiles of up to `rows` rows (at most DecodeShape::kMostRows) and head dims of at
/// most kLargestDecodeDim.
DecodeShape decode_shape_of(i32 type, int64_t rows, int64_t dim_qk, int64_t dim_v, bool alone = false) noexcept;

/// Changes fields of a shape as the environment variable ATTN_GPU_DECODE_SHAPE says ("stages=4,blocks=1"), for tests
/// and for tuning. Fails if it names no field, if no kernel can have the shape, or if it has fewer rows than before.
[[nodiscard]] attn_status override_decode_shape(DecodeShape *shape);

kernel::Request decode_request(const DecodeShape &shape);

/// The kernels of the most common models, for the default pack.
std::vector<kernel::Request> default_decode_requests();
/// Others of common models, for which the pack has no room: tests look at the registers of each.
std::vector<kernel::Request> further_decode_requests();

} // namespace attn::sm90

#endif

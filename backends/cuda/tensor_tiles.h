// Tensors as the copy engine takes them.
#ifndef ATTN_BACKENDS_CUDA_TENSOR_TILES_H
#define ATTN_BACKENDS_CUDA_TENSOR_TILES_H

#include "backends/gpu/dense/params.h"
#include "backends/gpu/device.h"

namespace attn::sm90 {

/// A tensor of [outer, row, head, channel] in tiles of 64 channels (128 bytes) and `tile_rows` rows; `outer` are
/// sequences, pages, or one. False if the engine cannot copy it so: strides, sizes, or nothing to copy.
bool tiles_of(const gpu::TokenView &view, int64_t channels, int64_t rows, int64_t heads, int64_t outer,
              int64_t tile_rows, gpu::TensorTiles *out) noexcept;

} // namespace attn::sm90

#endif

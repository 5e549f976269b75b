// The second kernel of plans whose keys are split: it combines what splits left in the workspace.
#ifndef ATTN_BACKENDS_CUDA_COMBINE_LAUNCH_H
#define ATTN_BACKENDS_CUDA_COMBINE_LAUNCH_H

#include "backends/gpu/dense/params.h"
#include "backends/gpu/dense/variants.h"
#include "backends/gpu/device.h"

namespace attn::sm90 {

/// Within a call. The kernel waits for the end of the one before it itself. `rows` of a tile, those that it lacks
/// counted.
inline attn_status launch_combine(const gpu::Device &device, const gpu::Kernel &combine, gpu::ForwardParams *params,
                                  int64_t tiles, gpu::i32 rows, void *stream) noexcept
{
    gpu::Grid grid;
    grid.x = static_cast<uint32_t>(gpu::combine_blocks(tiles * rows, params->dim_v));
    grid.threads = gpu::kCombineThreads;
    grid.programmatic = true;
    void *parameters[] = {params, &rows};
    return device.launch(combine, grid, stream, parameters);
}

} // namespace attn::sm90

#endif

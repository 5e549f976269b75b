// Programmatic dependent launch: a kernel that begins before the one before it on the stream has ended.
#ifndef ATTN_BACKENDS_CUDA_PTX_KERNEL_ORDER_CUH
#define ATTN_BACKENDS_CUDA_PTX_KERNEL_ORDER_CUH

#include "backends/gpu/platform.cuh"

namespace attn::ptx {

/// Waits until the kernel before has ended and what it wrote is seen. All threads call it before they touch memory,
/// also those that then have nothing to do: else a kernel after this one could begin while the one before still runs.
ATTN_DEVICE void wait_for_kernel_before()
{
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

/// Lets the next kernel begin once all blocks of threads have come here, if it was launched so.
ATTN_DEVICE void launch_dependents()
{
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

} // namespace attn::ptx

#endif

// The 16 barriers of a block of threads by number. 0 is that of __syncthreads(). Threads take part warp by warp.
#ifndef ATTN_BACKENDS_CUDA_PTX_NAMED_BARRIER_CUH
#define ATTN_BACKENDS_CUDA_PTX_NAMED_BARRIER_CUH

#include "backends/gpu/platform.cuh"

namespace attn::ptx {

/// Arrives and waits until `threads` threads have, by this call or by the next.
ATTN_DEVICE void named_barrier_wait(int barrier, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/// Arrives without waiting.
ATTN_DEVICE void named_barrier_arrive(int barrier, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

} // namespace attn::ptx

#endif

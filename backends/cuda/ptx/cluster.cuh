// Clusters of blocks of threads: their barrier, and each other's shared memory.
#ifndef ATTN_BACKENDS_CUDA_PTX_CLUSTER_CUH
#define ATTN_BACKENDS_CUDA_PTX_CLUSTER_CUH

#include "backends/gpu/platform.cuh"

namespace attn::ptx {

using gpu::u32;

/// What all threads of the cluster wrote to shared memory before is seen by all after. Threads that have ended count as
/// arrived.
ATTN_DEVICE void cluster_barrier()
{
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
}

/// The number of this block of threads in its cluster.
ATTN_DEVICE int rank_in_cluster()
{
    u32 rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return static_cast<int>(rank);
}

/// The same place in the shared memory of another block of the cluster.
ATTN_DEVICE u32 place_in_block(u32 address, int rank)
{
    u32 there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}

ATTN_DEVICE float load_from_block(u32 address)
{
    float x;
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(address) : "memory");
    return x;
}

} // namespace attn::ptx

#endif

// Clusters of blocks of threads: their barrier, and each other's shared memory.
#ifndef ATTN_BACKENDS_CUDA_PTX_CLUSTER_CUH
#define ATTN_BACKENDS_CUDA_PTX_CLUSTER_CUH

#include "backends/gpu/platform.cuh"

namespace attn::ptx {

using gpu::u32;

/// All threads of the cluster arrive, and wait for all, once each in turn; threads that have ended count as arrived.
/// Others learn that a thread came here, and of the barriers that mbarrier_init_fence() made known, but of nothing else
/// that it wrote: for that the cluster would wait for memory.
ATTN_DEVICE void cluster_arrive()
{
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
ATTN_DEVICE void cluster_wait()
{
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
ATTN_DEVICE void cluster_barrier()
{
    cluster_arrive();
    cluster_wait();
}

/// The number of this block in its cluster.
ATTN_DEVICE u32 block_in_cluster()
{
    u32 rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

/// The same place in the shared memory of another block of the cluster.
ATTN_DEVICE u32 place_in_block(u32 address, int rank)
{
    u32 there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}

/// Stores in the shared memory of a block of the cluster, which learns of it by its mbarrier there, as of a copy's
/// bytes: all threads that have waited for these read what was stored. No thread here need wait, or go on to exist.
ATTN_DEVICE void send_to_block(u32 address, float x, u32 barrier)
{
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(address), "f"(x),
                 "r"(barrier)
                 : "memory");
}
ATTN_DEVICE void send_to_block(u32 address, float2 x, u32 barrier)
{
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(address),
                 "f"(x.x), "f"(x.y), "r"(barrier)
                 : "memory");
}

/// Likewise copies `bytes` of this block's shared memory, a multiple of 16. The engine reads them some time after: what
/// threads wrote there precedes fence_shared_for_engines(), and the block goes on to exist until the bytes are there.
ATTN_DEVICE void send_copy_to_block(u32 address, u32 from, u32 bytes, u32 barrier)
{
    asm volatile(
        "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(address),
        "r"(from), "r"(bytes), "r"(barrier)
        : "memory");
}

} // namespace attn::ptx

#endif

// Copies of tiles by the tensor memory accelerator (sm_90): one thread asks, an engine copies, an mbarrier counts the
// bytes. What a tile has beyond the tensor becomes 0 and counts all the same.
#ifndef ATTN_BACKENDS_CUDA_PTX_TMA_CUH
#define ATTN_BACKENDS_CUDA_PTX_TMA_CUH

#include "backends/gpu/platform.cuh"

namespace attn::ptx {

using gpu::u32;
using gpu::u64;

/// The driver's CUtensorMap: a __grid_constant__ parameter of the kernel.
struct alignas(64) TensorMap {
    u64 opaque[16];
};

ATTN_DEVICE void tma_prefetch(const TensorMap &map)
{
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/// Starts the copy of a tile of a tensor of four axes to shared memory, aligned to 1024 bytes where it is swizzled; its
/// bytes count for the current phase of `barrier`. Coordinates are the tile's first, innermost axis first.
ATTN_DEVICE void tma_load(u32 to, const TensorMap &map, u32 barrier, int c0, int c1, int c2, int c3)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
                 "%6}], [%2];" ::"r"(to),
                 "l"(&map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
                 : "memory");
}

/// Likewise to the same place in each block of the cluster whose bit `blocks` has; bytes count for the barrier at the
/// same place there.
ATTN_DEVICE void tma_load_to_all(u32 to, const TensorMap &map, u32 barrier, int c0, int c1, int c2, int c3,
                                 unsigned short blocks)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
                 "[%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to),
                 "l"(&map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "h"(blocks)
                 : "memory");
}

/// Starts the copy of a tile from shared memory; what of it lies beyond the tensor is left out.
ATTN_DEVICE void tma_store(const TensorMap &map, u32 from, int c0, int c1, int c2, int c3)
{
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(&map),
                 "r"(from), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
                 : "memory");
}
/// Ends a group of such copies of this thread.
ATTN_DEVICE void tma_store_commit()
{
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Waits until the engine has read what all groups of this thread copy.
ATTN_DEVICE void tma_store_wait_read()
{
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

/// Orders what this thread wrote to shared memory before what engines read of it later (copies, wgmma).
ATTN_DEVICE void fence_shared_for_engines()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

} // namespace attn::ptx

#endif

// Barriers in shared memory that count threads and bytes of copies (sm_90). A phase of one ends when all threads that
// it was initialised for have arrived and all bytes that they announced are there; then the next begins. Addresses are
// those of shared_address().
#ifndef ATTN_BACKENDS_CUDA_PTX_MBARRIER_CUH
#define ATTN_BACKENDS_CUDA_PTX_MBARRIER_CUH

#include "backends/gpu/platform.cuh"

namespace attn::ptx {

using gpu::u32;

ATTN_DEVICE void mbarrier_init(u32 barrier, u32 threads)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/// Makes what mbarrier_init() wrote known to the engine that copies tiles. Other threads learn of it by
/// __syncthreads().
ATTN_DEVICE void mbarrier_init_fence()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

ATTN_DEVICE void mbarrier_arrive(u32 barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Likewise, in the shared memory of any block of the cluster: see place_in_block(). Other blocks learn of nothing that
/// was written before: for that the whole cluster would wait for memory, a microsecond.
ATTN_DEVICE void mbarrier_arrive_in_block(u32 barrier)
{
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Arrives, and announces bytes that copies will bring in this phase.
ATTN_DEVICE void mbarrier_expect(u32 barrier, u32 bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/// `order`: the suffix of the instruction that says what a thread sees after its wait.
#define ATTN_WAIT_FOR_PHASE(order, barrier, parity) \
    asm volatile("{\n" \
                 ".reg .pred done;\n" \
                 "WAIT:\n" \
                 "mbarrier.try_wait.parity" order ".shared::cta.b64 done, [%0], %1;\n" \
                 "@done bra DONE;\n" \
                 "bra WAIT;\n" \
                 "DONE:\n" \
                 "}" ::"r"(barrier), \
                 "r"(parity) \
                 : "memory")

/// Waits for the end of a phase, by its parity: that of the first is 0. Of a new barrier the phase before the first,
/// with parity 1, counts as ended.
ATTN_DEVICE void mbarrier_wait(u32 barrier, u32 parity)
{
    ATTN_WAIT_FOR_PHASE("", barrier, parity);
}

/// Likewise, for bytes that blocks of the cluster send: see send_to_block().
ATTN_DEVICE void mbarrier_wait_for_blocks(u32 barrier, u32 parity)
{
    ATTN_WAIT_FOR_PHASE(".acquire.cluster", barrier, parity);
}

#undef ATTN_WAIT_FOR_PHASE

} // namespace attn::ptx

#endif

// Registers of warpgroups: those that only copy give theirs to those that compute (sm_90a). All warps of a warpgroup
// call these, once, and the sum over the block must stay within what it was launched with.
#ifndef ATTN_BACKENDS_CUDA_PTX_REGISTERS_CUH
#define ATTN_BACKENDS_CUDA_PTX_REGISTERS_CUH

#include "backends/gpu/platform.cuh"

namespace attn::ptx {

/// Waits until the registers are free. `count` of a thread: a multiple of 8 in 24 .. 256.
template <int count>
ATTN_DEVICE void take_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

template <int count>
ATTN_DEVICE void give_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

} // namespace attn::ptx

#endif

// Products from registers to shared memory (sm_90), as load_matrices() of the platform the other way.
#ifndef ATTN_BACKENDS_CUDA_PTX_STORE_MATRICES_CUH
#define ATTN_BACKENDS_CUDA_PTX_STORE_MATRICES_CUH

#include "backends/gpu/platform.cuh"

namespace attn::ptx {

using gpu::u32;

/// Four matrices of 8 x 8 elements of 16 bits; lane 8 i + r names row r of matrix i.
ATTN_DEVICE void store_matrices(u32 to, u32 a, u32 b, u32 c, u32 d)
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(a), "r"(b), "r"(c),
                 "r"(d)
                 : "memory");
}

} // namespace attn::ptx

#endif

// What kernels take from the GPU itself: thread numbers come from CUDA C++, everything else has a name here. NVIDIA,
// sm_80 and newer. No system headers: compilers at run time have none.
#ifndef ATTN_BACKENDS_GPU_PLATFORM_CUH
#define ATTN_BACKENDS_GPU_PLATFORM_CUH

#include "backends/gpu/params.h"

#define ATTN_DEVICE __device__ __forceinline__

namespace attn::gpu {

constexpr u32 kAllLanes = 0xffffffffu;
constexpr float kLog2e = 1.44269504088896340736f;
constexpr float kLn2 = 0.69314718055994530942f;

ATTN_DEVICE float infinity()
{
    return __int_as_float(0x7f800000);
}

ATTN_DEVICE int smaller(int a, int b)
{
    return a < b ? a : b;
}
ATTN_DEVICE int larger(int a, int b)
{
    return a > b ? a : b;
}

/// blockIdx.x, read anew wherever it is asked for, so that no register keeps it, or what follows from it, through a
/// loop.
ATTN_DEVICE u32 block_number()
{
    u32 number;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(number));
    return number;
}

// Arithmetic.

/// 2^x within 2 ulp; subnormal results are 0.
ATTN_DEVICE float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/// log2(x) for normal x.
ATTN_DEVICE float log2_fast(float x)
{
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/// P(y), with which tanh(x) is x + x y P(y), y = x x, for |x| up to kTanhNear. Fitted there to 4e-10.
constexpr float kTanhNear = 0.6f;
ATTN_DEVICE float tanh_polynomial(float y)
{
    float p = fmaf(y, 0.00238999794f, -0.00842818338f);
    p = fmaf(y, p, 0.021794403f);
    p = fmaf(y, p, -0.0539624132f);
    p = fmaf(y, p, 0.133333176f);
    return fmaf(y, p, -0.333333343f);
}

/// tanh(x) within a few ulp: a polynomial near 0, where 1 - 2 / (e^2x + 1) would cancel.
ATTN_DEVICE float tanh_exact(float x)
{
    const float size = fabsf(x);
    if (size < kTanhNear) {
        const float y = x * x;
        return fmaf(x * y, tanh_polynomial(y), x);
    }
    const float t = 1.0f - 2.0f / (exp2_fast(2.0f * kLog2e * size) + 1.0f);
    return copysignf(t, x);
}

/// 1 / x within 1 ulp; 0 where that would be subnormal.
ATTN_DEVICE float reciprocal_fast(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/// x where that is above 0 or no number, else 0.
ATTN_DEVICE float positive_part(float x)
{
    float y;
    asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(y) : "f"(x));
    return y;
}

/// 1 / (1 + 2^-x)
ATTN_DEVICE float sigmoid2(float x)
{
    return 1.0f / (1.0f + exp2_fast(-x));
}

// Halves and bfloat16, as bits.

ATTN_DEVICE float float_of_half(unsigned short bits)
{
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(bits));
    return y;
}
ATTN_DEVICE unsigned short half_of_float(float x)
{
    unsigned short y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
ATTN_DEVICE float float_of_bfloat16(unsigned short bits)
{
    return __uint_as_float(static_cast<u32>(bits) << 16);
}
ATTN_DEVICE unsigned short bfloat16_of_float(float x)
{
    unsigned short y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}

/// Two floats as a pair, the first in the low half.
template <Element type>
ATTN_DEVICE u32 pack_pair(float low, float high)
{
    u32 y;
    if constexpr (type == kBfloat16)
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    else
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

constexpr i64 element_bytes(i32 type)
{
    return type == kFloat32 ? 4 : 2;
}

ATTN_DEVICE float read_element(const char *p, i32 type)
{
    if (type == kFloat32) return *reinterpret_cast<const float *>(p);
    const unsigned short bits = *reinterpret_cast<const unsigned short *>(p);
    return type == kFloat16 ? float_of_half(bits) : float_of_bfloat16(bits);
}

ATTN_DEVICE void write_element(char *p, i32 type, float x)
{
    if (type == kFloat32)
        *reinterpret_cast<float *>(p) = x;
    else
        *reinterpret_cast<unsigned short *>(p) = type == kFloat16 ? half_of_float(x) : bfloat16_of_float(x);
}

ATTN_DEVICE i64 read_integer(const char *p, bool wide)
{
    return wide ? *reinterpret_cast<const i64 *>(p) : *reinterpret_cast<const i32 *>(p);
}

// Shared memory.

ATTN_DEVICE u32 shared_address(const void *p)
{
    return static_cast<u32>(__cvta_generic_to_shared(p));
}

/// Starts a copy of `bytes` (0 .. 16) from global memory; the rest of the 16 bytes becomes 0.
ATTN_DEVICE void copy_async(u32 to, const char *from, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
ATTN_DEVICE void copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits for all but the last `pending` groups of this thread.
template <int pending>
ATTN_DEVICE void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
ATTN_DEVICE void load_matrices(u32 (&r)[4], u32 address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
/// Likewise, each transposed.
ATTN_DEVICE void load_matrices_transposed(u32 (&r)[4], u32 address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/// c [16 x 8] += a [16 x 16] b [16 x 8]. Lane l holds of c rows l / 4 and l / 4 + 8, columns 2 (l % 4) and the next.
template <Element type>
ATTN_DEVICE void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1)
{
    if constexpr (type == kBfloat16)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Over the four lanes that hold one row of a product.
ATTN_DEVICE float row_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
    return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}
ATTN_DEVICE float row_sum(float x)
{
    x += __shfl_xor_sync(kAllLanes, x, 1);
    return x + __shfl_xor_sync(kAllLanes, x, 2);
}

} // namespace attn::gpu

#endif

// Stands in for backends/gpu/platform.cuh where a kernel runs on the CPU, on the fibers of tests/gpu_emulated. Copies
// that are asynchronous on a GPU are done at once, so a wait that is missing is not noticed here.
#ifndef ATTN_TESTS_GPU_EMULATED_PLATFORM_CUH
#define ATTN_TESTS_GPU_EMULATED_PLATFORM_CUH

#include "backends/gpu/params.h"
#include "tests/gpu_emulated/fibers.h"

#include <cmath>
#include <cstring>
#include <math.h>

#define ATTN_DEVICE inline
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define threadIdx ::gpu_emulated::here.thread
#define blockIdx ::gpu_emulated::here.block
#define gridDim ::gpu_emulated::here.grid

namespace attn::gpu {

struct alignas(16) uint4 {
    u32 x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}
inline float2 make_float2(float x, float y)
{
    return {x, y};
}
inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w)
{
    return {x, y, z, w};
}

constexpr u32 kAllLanes = 0xffffffffu;
constexpr float kLog2e = 1.44269504088896340736f;
constexpr float kLn2 = 0.69314718055994530942f;

template <class To, class From>
inline To bits_as(From from)
{
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline float __uint_as_float(u32 x)
{
    return bits_as<float>(x);
}
inline u32 __float_as_uint(float x)
{
    return bits_as<u32>(x);
}
inline float infinity()
{
    return __uint_as_float(0x7f800000);
}
inline int smaller(int a, int b)
{
    return a < b ? a : b;
}
inline int larger(int a, int b)
{
    return a > b ? a : b;
}
inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
inline u32 block_number()
{
    return blockIdx.x;
}

// Arithmetic. The functions of the device flush subnormal numbers.

inline float flushed(float x)
{
    return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x;
}
inline float exp2_fast(float x)
{
    return flushed(std::exp2(flushed(x)));
}
inline float log2_fast(float x)
{
    return std::log2(flushed(x));
}
inline float tanh_exact(float x)
{
    return std::tanh(x);
}
inline float sigmoid2(float x)
{
    return 1.0f / (1.0f + exp2_fast(-x));
}

#if defined(__aarch64__)
using Half = __fp16;
#else
using Half = _Float16;
#endif
inline float float_of_half(unsigned short bits)
{
    return static_cast<float>(bits_as<Half>(bits));
}
inline unsigned short half_of_float(float x)
{
    return bits_as<unsigned short>(static_cast<Half>(x));
}
inline float float_of_bfloat16(unsigned short bits)
{
    return __uint_as_float(static_cast<u32>(bits) << 16);
}
inline unsigned short bfloat16_of_float(float x)
{
    const u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
    return static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
template <Element type>
inline u32 pack_pair(float low, float high)
{
    if constexpr (type == kBfloat16) return bfloat16_of_float(low) | static_cast<u32>(bfloat16_of_float(high)) << 16;
    return half_of_float(low) | static_cast<u32>(half_of_float(high)) << 16;
}

inline i64 element_bytes(i32 type)
{
    return type == kFloat32 ? 4 : 2;
}
template <class T>
inline T read_as(const void *p)
{
    T value;
    std::memcpy(&value, p, sizeof value);
    return value;
}
inline float read_element(const char *p, i32 type)
{
    if (type == kFloat32) return read_as<float>(p);
    const auto bits = read_as<unsigned short>(p);
    return type == kFloat16 ? float_of_half(bits) : float_of_bfloat16(bits);
}
inline void write_element(char *p, i32 type, float x)
{
    const unsigned short bits = type == kFloat16 ? half_of_float(x) : bfloat16_of_float(x);
    std::memcpy(p, type == kFloat32 ? static_cast<const void *>(&x) : &bits, type == kFloat32 ? 4 : 2);
}
inline i64 read_integer(const char *p, bool wide)
{
    return wide ? read_as<i64>(p) : read_as<i32>(p);
}

// Threads together.

inline void __syncthreads()
{
    ::gpu_emulated::meet_block();
}
inline int __syncthreads_or(int x)
{
    return ::gpu_emulated::any_of_block(x != 0);
}
inline int __syncthreads_and(int x)
{
    return ::gpu_emulated::all_of_block(x != 0);
}
inline u32 __ballot_sync(u32, bool x)
{
    const unsigned char mine = x;
    const unsigned char *all = ::gpu_emulated::meet_warp(&mine, 1);
    u32 word = 0;
    for (int lane = 0; lane < 32; ++lane) word |= static_cast<u32>(all[lane * ::gpu_emulated::kLaneBytes] & 1) << lane;
    return word;
}
inline int __any_sync(u32 lanes, bool x)
{
    return __ballot_sync(lanes, x) != 0;
}
template <class T>
inline T __shfl_sync(u32, T x, int lane)
{
    return read_as<T>(::gpu_emulated::meet_warp(&x, sizeof x) + lane * ::gpu_emulated::kLaneBytes);
}
template <class T>
inline T __shfl_xor_sync(u32 lanes, T x, int step)
{
    return __shfl_sync(lanes, x, static_cast<int>(threadIdx.x % 32) ^ step);
}
inline float row_max(float x)
{
    x = std::fmax(x, __shfl_xor_sync(kAllLanes, x, 1));
    return std::fmax(x, __shfl_xor_sync(kAllLanes, x, 2));
}
inline float row_sum(float x)
{
    x += __shfl_xor_sync(kAllLanes, x, 1);
    return x + __shfl_xor_sync(kAllLanes, x, 2);
}

// Shared memory.

inline unsigned char *shared_bytes()
{
    return reinterpret_cast<unsigned char *>(&::shared[0]);
}
inline u32 shared_address(const void *p)
{
    return static_cast<u32>(static_cast<const unsigned char *>(p) - shared_bytes());
}
inline void copy_async(u32 to, const char *from, int bytes)
{
    unsigned char *at = shared_bytes() + to;
    if (bytes) std::memcpy(at, from, static_cast<std::size_t>(bytes));
    std::memset(at + bytes, 0, static_cast<std::size_t>(16 - bytes));
}
inline void copy_async_commit() {}
template <int pending>
inline void copy_async_wait()
{
}

inline void load_matrices(u32 (&r)[4], u32 address)
{
    const unsigned char *all = ::gpu_emulated::meet_warp(&address, sizeof address);
    const u32 lane = threadIdx.x % 32;
    for (u32 m = 0; m < 4; ++m) {
        const auto row = read_as<u32>(all + (8 * m + lane / 4) * ::gpu_emulated::kLaneBytes);
        r[m] = read_as<u32>(shared_bytes() + row + lane % 4 * 4);
    }
}
inline void load_matrices_transposed(u32 (&r)[4], u32 address)
{
    const unsigned char *all = ::gpu_emulated::meet_warp(&address, sizeof address);
    const u32 lane = threadIdx.x % 32;
    for (u32 m = 0; m < 4; ++m) {
        r[m] = 0;
        for (u32 half = 0; half < 2; ++half) {
            const auto row = read_as<u32>(all + (8 * m + lane % 4 * 2 + half) * ::gpu_emulated::kLaneBytes);
            r[m] |= static_cast<u32>(read_as<unsigned short>(shared_bytes() + row + lane / 4 * 2)) << 16 * half;
        }
    }
}

template <Element type>
inline float half_of_pair(u32 pair, int half)
{
    const auto bits = static_cast<unsigned short>(pair >> 16 * half);
    return type == kBfloat16 ? float_of_bfloat16(bits) : float_of_half(bits);
}

/// The fragments are those that PTX defines for m16n8k16.
template <Element type>
inline void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1)
{
    const u32 mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const unsigned char *all = ::gpu_emulated::meet_warp(mine, sizeof mine);
    const auto word = [&](u32 lane, u32 n) { return read_as<u32>(all + lane * ::gpu_emulated::kLaneBytes + 4 * n); };
    const u32 lane = threadIdx.x % 32;
    for (u32 e = 0; e < 4; ++e) {
        const u32 row = lane / 4, column = lane % 4 * 2 + e % 2;
        float sum = c[e];
        for (u32 k = 0; k < 16; ++k) {
            const u32 place = k % 8 / 2;
            const float x = half_of_pair<type>(word(row * 4 + place, k / 8 * 2 + e / 2), k % 2);
            const float y = half_of_pair<type>(word(column * 4 + place, 4 + k / 8), k % 2);
            sum = std::fma(x, y, sum);
        }
        c[e] = sum;
    }
}

} // namespace attn::gpu

#endif

// Numbers in kernels: memory, conversions, and the few functions that compilers of kernels do not all have. Every
// instruction of one vendor is here or in threads.cuh.
#ifndef ATTN_BACKENDS_GPU_CONVERT_CUH
#define ATTN_BACKENDS_GPU_CONVERT_CUH

#include "backends/gpu/params.h"
#include "backends/gpu/threads.cuh"

namespace attn::gpu {

using u16 = unsigned short;

/// 8 and 16 bytes, moved by one instruction each.
struct alignas(8) Words2 {
    u32 x, y;
};
struct alignas(16) Words4 {
    u32 x, y, z, w;
};

/// Reads a T of a tensor at an address aligned for it.
template <class T>
ATTN_DEVICE T load(const char *p)
{
#if defined(__CUDACC__)
    __builtin_assume(__isGlobal(p));
    return *reinterpret_cast<const T *>(p);
#else
    T value;
    __builtin_memcpy(&value, p, sizeof value);
    return value;
#endif
}

template <class T>
ATTN_DEVICE void store(char *p, T value)
{
#if defined(__CUDACC__)
    __builtin_assume(__isGlobal(p));
    *reinterpret_cast<T *>(p) = value;
#else
    __builtin_memcpy(p, &value, sizeof value);
#endif
}

ATTN_DEVICE float float_of_bits(u32 bits)
{
#if defined(__CUDACC__)
    return __uint_as_float(bits);
#else
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
#endif
}

ATTN_DEVICE u32 bits_of_float(float value)
{
#if defined(__CUDACC__)
    return __float_as_uint(value);
#else
    u32 bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
#endif
}

ATTN_DEVICE float multiply_add(float a, float b, float c)
{
#if defined(__CUDACC__)
    return fmaf(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
}

ATTN_DEVICE double multiply_add(double a, double b, double c)
{
#if defined(__CUDACC__)
    return fma(a, b, c);
#else
    return __builtin_fma(a, b, c);
#endif
}

/// The nearest integer.
ATTN_DEVICE float nearest(float x)
{
#if defined(__CUDACC__)
    return rintf(x);
#else
    return __builtin_rintf(x);
#endif
}

ATTN_DEVICE double nearest(double x)
{
#if defined(__CUDACC__)
    return rint(x);
#else
    return __builtin_rint(x);
#endif
}

ATTN_DEVICE float from_float16(u32 bits)
{
#if defined(__CUDACC__)
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<u16>(bits)));
    return value;
#else
    const u32 sign = (bits & 0x8000) << 16, magnitude = (bits & 0x7fff) << 13;
    if (magnitude >= 0x7c00u << 13) return float_of_bits(sign | magnitude | 0x7f800000);
    const float value = float_of_bits(magnitude) * 0x1p112f; // subnormal ones too
    return float_of_bits(sign | bits_of_float(value));
#endif
}

ATTN_DEVICE float from_bfloat16(u32 bits)
{
    return float_of_bits(bits << 16);
}

/// To nearest even; NaN stays NaN.
ATTN_DEVICE u32 to_float16(float value)
{
#if defined(__CUDACC__)
    u16 half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
#else
    const u32 bits = bits_of_float(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7fff;
    if (magnitude >= 0x477ff000) return sign | 0x7c00; // halfway beyond the largest, or more
    if (magnitude < 0x38800000) { // subnormal: let the addition round at the last place that there is
        const float sum = float_of_bits(magnitude) + 0.5f;
        return sign | (bits_of_float(sum) - bits_of_float(0.5f));
    }
    return sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
#endif
}

ATTN_DEVICE u32 to_bfloat16(float value)
{
#if defined(__CUDACC__)
    u16 half;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
#else
    const u32 bits = bits_of_float(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return bits >> 16 | 0x40;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
#endif
}

/// Bytes of one element.
ATTN_DEVICE constexpr i32 bytes_of(i32 type)
{
    return type == kFloat32 ? 4 : 2;
}

ATTN_DEVICE float to_float(i32 type, u32 bits)
{
    return type == kFloat16 ? from_float16(bits) : from_bfloat16(bits);
}

ATTN_DEVICE u32 to_half(i32 type, float value)
{
    return type == kFloat16 ? to_float16(value) : to_bfloat16(value);
}

/// One element.
ATTN_DEVICE float load_element(i32 type, const char *p)
{
    return type == kFloat32 ? load<float>(p) : to_float(type, load<u16>(p));
}

ATTN_DEVICE void store_element(i32 type, char *p, float value)
{
    if (type == kFloat32)
        store(p, value);
    else
        store(p, static_cast<u16>(to_half(type, value)));
}

/// 4 adjacent elements at an address aligned to all of them.
ATTN_DEVICE void load_four(i32 type, const char *p, float *to)
{
    if (type == kFloat32) {
        const Words4 words = load<Words4>(p);
        to[0] = float_of_bits(words.x), to[1] = float_of_bits(words.y);
        to[2] = float_of_bits(words.z), to[3] = float_of_bits(words.w);
        return;
    }
    const Words2 words = load<Words2>(p);
    to[0] = to_float(type, words.x & 0xffff), to[1] = to_float(type, words.x >> 16);
    to[2] = to_float(type, words.y & 0xffff), to[3] = to_float(type, words.y >> 16);
}

ATTN_DEVICE void store_four(i32 type, char *p, const float *from)
{
    if (type == kFloat32) {
        store(p,
              Words4{bits_of_float(from[0]), bits_of_float(from[1]), bits_of_float(from[2]), bits_of_float(from[3])});
        return;
    }
    store(p, Words2{to_half(type, from[0]) | to_half(type, from[1]) << 16,
                    to_half(type, from[2]) | to_half(type, from[3]) << 16});
}

/// 8 adjacent elements at an address aligned to 16 bytes.
ATTN_DEVICE void load_eight(i32 type, const char *p, float *to)
{
    if (type == kFloat32) {
        load_four(type, p, to);
        load_four(type, p + 16, to + 4);
        return;
    }
    const Words4 words = load<Words4>(p);
    const u32 pairs[4] = {words.x, words.y, words.z, words.w};
    ATTN_UNROLL
    for (i32 i = 0; i < 4; ++i)
        to[2 * i] = to_float(type, pairs[i] & 0xffff), to[2 * i + 1] = to_float(type, pairs[i] >> 16);
}

ATTN_DEVICE void store_eight(i32 type, char *p, const float *from)
{
    if (type == kFloat32) {
        store_four(type, p, from);
        store_four(type, p + 16, from + 4);
        return;
    }
    u32 pairs[4];
    ATTN_UNROLL
    for (i32 i = 0; i < 4; ++i) pairs[i] = to_half(type, from[2 * i]) | to_half(type, from[2 * i + 1]) << 16;
    store(p, Words4{pairs[0], pairs[1], pairs[2], pairs[3]});
}

ATTN_DEVICE i64 load_integer(const char *p, bool wide)
{
    return wide ? load<i64>(p) : static_cast<i64>(load<i32>(p));
}
ATTN_DEVICE i64 load_integer(const IntegerVector &v, i64 i)
{
    return load_integer(v.base + i * v.step, v.wide != 0);
}
/// An integer of a token, or of a page.
ATTN_DEVICE i64 load_integer(const TokenView &v, i64 batch, i64 token)
{
    return load_integer(v.base + batch * v.batch_step + token * v.token_step, v.type != 0);
}

/// Quotient and remainder of numbers that are not negative, in 32 bits where they fit: the others cost several times as
/// much.
ATTN_DEVICE i64 divide(i64 n, i64 by, i64 *remainder)
{
    i64 quotient;
    if (((n | by) >> 32) == 0)
        quotient = static_cast<u32>(n) / static_cast<u32>(by);
    else
        quotient = n / by;
    *remainder = n - quotient * by;
    return quotient;
}

/// The sequence that owns a packed row: the last that begins at it or before. `cu` has batch + 1 boundaries.
ATTN_DEVICE i64 sequence_of(const IntegerVector &cu, i64 batch, i64 row)
{
    i64 b = 0, end = batch;
    while (end - b > 1) {
        const i64 middle = b + (end - b) / 2;
        if (load_integer(cu, middle) <= row)
            b = middle;
        else
            end = middle;
    }
    return b;
}

} // namespace attn::gpu

#endif

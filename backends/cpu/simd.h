// Vectors of floats for the kernels, as wide as the translation unit that includes this is compiled for.
//
// Built on the vector extensions of gcc and clang; intrinsics only where the language has no word for the instruction
// (half conversions, vscalef). Everything has internal linkage: units compiled for different processors must not share
// a function, or the linker could keep the copy that needs the newer one.
#ifndef ATTN_BACKENDS_CPU_SIMD_H
#define ATTN_BACKENDS_CPU_SIMD_H

#include <stdint.h>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(ATTN_NEON) // by the units for NEON: no compiler flag tells them from the baseline
#include <arm_neon.h>
#endif

#define ATTN_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define ATTN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ATTN_UNROLL _Pragma("GCC unroll 64")
#endif

namespace attn::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float Vec __attribute__((vector_size(kWidth * 4)));
typedef int32_t VecI __attribute__((vector_size(kWidth * 4)));
typedef uint32_t VecU __attribute__((vector_size(kWidth * 4)));
typedef uint16_t VecHalf __attribute__((vector_size(kWidth * 2)));

constexpr float kLowest = -__builtin_inff();

ATTN_INLINE Vec load(const float *p)
{
    Vec v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

/// Kept in a register for several uses: compilers would rather load again with each.
ATTN_INLINE Vec in_register(Vec v)
{
#if defined(ATTN_NEON)
    __asm__("" : "+w"(v));
#elif defined(__AVX512F__)
    __asm__("" : "+v"(v));
#elif defined(__x86_64__)
    __asm__("" : "+x"(v));
#endif
    return v;
}

ATTN_INLINE void store(float *p, Vec v)
{
    __builtin_memcpy(p, &v, sizeof v);
}

ATTN_INLINE VecI load_integers(const int32_t *p)
{
    VecI v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

/// 0, 1, 2 ...
ATTN_INLINE VecI lane_numbers()
{
    int32_t lanes[kWidth];
    for (int i = 0; i < kWidth; ++i) lanes[i] = i;
    return load_integers(lanes);
}

/// p[index] in each lane.
ATTN_INLINE Vec gather(const float *p, VecI index)
{
#if defined(__AVX512F__)
    return _mm512_mask_i32gather_ps(Vec{}, 0xffff, reinterpret_cast<__m512i>(index), p, 4);
#elif defined(__AVX2__)
    const Vec all = reinterpret_cast<Vec>(VecI{} - 1);
    return _mm256_mask_i32gather_ps(Vec{}, p, reinterpret_cast<__m256i>(index), all, 4);
#else
    float lanes[kWidth];
    for (int i = 0; i < kWidth; ++i) lanes[i] = p[index[i]];
    return load(lanes);
#endif
}

ATTN_INLINE Vec splat(float x)
{
    return x - Vec{}; // x - 0 is x for every x, so the compiler is left with the broadcast
}

/// The larger; `a` where `b` is NaN or equal.
ATTN_INLINE Vec larger(Vec a, Vec b)
{
    return b > a ? b : a;
}

ATTN_INLINE VecI bits(Vec v)
{
    return reinterpret_cast<VecI>(v);
}

ATTN_INLINE Vec from_bits(VecI v)
{
    return reinterpret_cast<Vec>(v);
}

#if defined(__clang__) || __GNUC__ >= 12
template <int... Index>
ATTN_INLINE Vec shuffle(Vec a, Vec b)
{
    return __builtin_shufflevector(a, b, Index...);
}
#else
template <int... Index>
ATTN_INLINE Vec shuffle(Vec a, Vec b)
{
    return __builtin_shuffle(a, b, VecI{Index...});
}
#endif

template <int... Index>
struct Indices {
};
template <int Count, int... Index>
struct MakeIndices : MakeIndices<Count - 1, Count - 1, Index...> {
};
template <int... Index>
struct MakeIndices<0, Index...> {
    using type = Indices<Index...>;
};

/// One stage of a transposition: exchanges the off-diagonal blocks of `Block` lanes between two rows.
template <int Block, int... Index>
ATTN_INLINE void exchange(Vec &a, Vec &b, Indices<Index...>)
{
    const Vec low = shuffle<((Index & Block) ? kWidth + Index - Block : Index)...>(a, b);
    const Vec high = shuffle<((Index & Block) ? kWidth + Index : Index + Block)...>(a, b);
    a = low, b = high;
}

template <int Block>
ATTN_INLINE void transpose_from(Vec (&rows)[kWidth])
{
    ATTN_UNROLL
    for (int i = 0; i < kWidth; ++i)
        if (!(i & Block)) exchange<Block>(rows[i], rows[i + Block], typename MakeIndices<kWidth>::type{});
    if constexpr (Block > 1) transpose_from<Block / 2>(rows);
}

/// Transposes a square of kWidth x kWidth floats in registers.
ATTN_INLINE void transpose(Vec (&rows)[kWidth])
{
    transpose_from<kWidth / 2>(rows);
}

/// Lane i of `a` where bit `Block` of i is clear, else of `b`.
template <int Block, int... Index>
ATTN_INLINE Vec blend(Vec a, Vec b, Indices<Index...>)
{
#if defined(__AVX512F__) // a shuffle would need the one unit that shuffles
    constexpr unsigned kMask = (... | ((Index & Block) ? 1u << Index : 0u));
    return _mm512_mask_blend_ps(kMask, a, b);
#else
    return shuffle<((Index & Block) ? kWidth + Index : Index)...>(a, b);
#endif
}

/// Half of the way from the lanes of two vectors to one value each: lane i of the result is of `a` where bit `Block` of
/// i is clear, else of `b`.
template <int Block, class Combine, int... Index>
ATTN_INLINE Vec fold_pair(Vec a, Vec b, Combine combine, Indices<Index...> indices)
{
    const Vec kept = blend<Block>(a, b, indices);
    const Vec moved = shuffle<((Index & Block) ? kWidth + Index - Block : Index + Block)...>(a, b);
    return combine(kept, moved);
}

template <int Block, class Combine>
ATTN_INLINE void fold_from(Vec (&rows)[kWidth], Combine combine)
{
    ATTN_UNROLL
    for (int i = 0; i < Block; ++i)
        rows[i] = fold_pair<Block>(rows[i], rows[i + Block], combine, typename MakeIndices<kWidth>::type{});
    if constexpr (Block > 1) fold_from<Block / 2>(rows, combine);
}

/// The lanes of each of kWidth vectors combined to one, as the lanes of one vector. The order of combining does not
/// depend on which vector it is.
template <class Combine>
ATTN_INLINE Vec fold(Vec (&rows)[kWidth], Combine combine)
{
    fold_from<kWidth / 2>(rows, combine);
    return rows[0];
}

ATTN_INLINE float reduce_max(Vec v)
{
#if defined(ATTN_NEON)
    return vmaxnmvq_f32(v);
#else
    float lanes[kWidth];
    store(lanes, v);
    ATTN_UNROLL
    for (int step = kWidth / 2; step > 0; step /= 2) {
        for (int i = 0; i < step; ++i) lanes[i] = lanes[i + step] > lanes[i] ? lanes[i + step] : lanes[i];
    }
    return lanes[0];
#endif
}

ATTN_INLINE float reduce_add(Vec v)
{
#if defined(ATTN_NEON)
    return vaddvq_f32(v);
#else
    float lanes[kWidth];
    store(lanes, v);
    ATTN_UNROLL
    for (int step = kWidth / 2; step > 0; step /= 2) {
        for (int i = 0; i < step; ++i) lanes[i] += lanes[i + step];
    }
    return lanes[0];
#endif
}

/// 2^f on [-1/2, 1/2], 1 at 0: minimax, relative error 2e-9 (degree 6) or 2.8e-6 (degree 4) before rounding.
template <int Degree>
ATTN_INLINE Vec exp2_fraction(Vec f)
{
    static_assert(Degree == 4 || Degree == 6);
    if constexpr (Degree == 4) {
        Vec p = splat(0.009582852944731712f);
        p = p * f + 0.055906426161527634f;
        p = p * f + 0.24024099111557007f;
        p = p * f + 0.6931241750717163f;
        return p * f + 1.0f;
    } else {
        Vec p = splat(0.00015353366325143725f);
        p = p * f + 0.0013398875016719103f;
        p = p * f + 0.00961843691766262f;
        p = p * f + 0.055503323674201965f;
        p = p * f + 0.24022647738456726f;
        p = p * f + 0.6931471824645996f;
        return p * f + 1.0f;
    }
}

/// 2^x for x < 128 (degree 6: 1 ulp, without FMA 1.2). 2^-inf = 0, 2^0 = 1, NaN stays. Results below 2^Least are
/// flushed to 0, at least those below 2^-126: with those, processors multiply a hundred times slower.
template <int Degree = 6, int Least = -126>
ATTN_INLINE Vec exp2_below_128(Vec x)
{
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    // x - round(x), 0 for an infinity. (The masked form: that without is "maybe uninitialized" to gcc 12.)
    const Vec f = _mm512_maskz_reduce_ps(0xffff, x, 0x08);
    const __mmask16 normal = _mm512_cmp_ps_mask(x, splat(float{Least}), _CMP_NLT_UQ); // or NaN
    return _mm512_maskz_scalef_ps(normal, exp2_fraction<Degree>(f), x - f);
#else
    // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
    constexpr float kRound = 12582912.0f;
    const Vec shifted = x + kRound;
    const Vec p = exp2_fraction<Degree>(x - (shifted - kRound));
    const VecU scaled = reinterpret_cast<VecU>(p) + (reinterpret_cast<VecU>(shifted) << 23);
    const Vec normal = x < float{Least} ? Vec{} : reinterpret_cast<Vec>(scaled);
    return x == x ? normal : x;
#endif
}

/// Likewise for every x: infinity from 128 on.
ATTN_INLINE Vec exp2(Vec x)
{
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    return exp2_below_128(x);
#else
    return x >= 128.0f ? splat(-kLowest) : exp2_below_128(x);
#endif
}

/// e^x, through 2^x.
ATTN_INLINE Vec exp(Vec x)
{
    return exp2(x * 1.44269504088896341f);
}

/// tanh(x) with a relative error below 1.1e-7: an odd polynomial below 1, else 1 - 2 / (e^2x + 1).
ATTN_INLINE Vec tanh(Vec x)
{
    const Vec square = x * x;
    Vec p = splat(-0.0003584519727155566f);
    p = p * square + 0.0023013646714389324f;
    p = p * square + -0.007946106605231762f;
    p = p * square + 0.021486658602952957f;
    p = p * square + -0.05387980118393898f;
    p = p * square + 0.13332344591617584f;
    p = p * square + -0.33333295583724976f;
    const Vec near = x + x * (square * p);
    const Vec magnitude = from_bits(bits(x) & 0x7fffffff);
    const Vec far_magnitude = 1.0f - 2.0f / (exp2(magnitude * 2.88539008177792681f) + 1.0f);
    const Vec far = from_bits(bits(far_magnitude) | (bits(x) & INT32_MIN));
    return magnitude < 1.0f ? near : far;
}

/// kWidth bfloat16 to float: exact.
ATTN_INLINE Vec from_bfloat16(const uint16_t *p)
{
    VecHalf h;
    __builtin_memcpy(&h, p, sizeof h);
    return reinterpret_cast<Vec>(__builtin_convertvector(h, VecU) << 16);
}

/// kWidth IEEE halves to float: exact.
ATTN_INLINE Vec from_float16(const uint16_t *p)
{
#if defined(__AVX512F__)
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)));
#elif defined(__F16C__)
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
#elif defined(ATTN_NEON)
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
    VecHalf h;
    __builtin_memcpy(&h, p, sizeof h);
    const VecU wide = __builtin_convertvector(h, VecU);
    // Exponent and mantissa in place, then a multiplication re-biases, also of subnormal halves.
    const VecU magnitude = (wide & 0x7fff) << 13;
    const Vec value = reinterpret_cast<Vec>(magnitude) * 0x1p112f;
    const VecU special = reinterpret_cast<VecU>(magnitude >= (0x7c00u << 13)) & 0x7f800000u;
    return reinterpret_cast<Vec>(reinterpret_cast<VecU>(value) | special | ((wide & 0x8000) << 16));
#endif
}

/// Rounds to bfloat16, nearest even; NaN stays a NaN.
ATTN_INLINE uint16_t to_bfloat16(float x)
{
    uint32_t u;
    __builtin_memcpy(&u, &x, sizeof u);
    if ((u & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((u >> 16) | 0x40);
    return static_cast<uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

/// Rounds to an IEEE half, nearest even; overflow gives infinity, NaN stays a NaN.
ATTN_INLINE uint16_t to_float16(float x)
{
    uint32_t u;
    __builtin_memcpy(&u, &x, sizeof u);
    const uint32_t sign = (u >> 16) & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | ((u >> 13) & 0x3ff));
    if (u >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00); // from 65520 on
    if (u < 0x38800000) {                                             // subnormal half: the addition of 1/2 rounds
        float magnitude;
        __builtin_memcpy(&magnitude, &u, sizeof u);
        magnitude += 0.5f;
        __builtin_memcpy(&u, &magnitude, sizeof u);
        return static_cast<uint16_t>(sign | (u - 0x3f000000));
    }
    u += 0xfff + ((u >> 13) & 1);
    return static_cast<uint16_t>(sign | ((u - 0x38000000) >> 13));
}

} // namespace
} // namespace attn::cpu

#endif

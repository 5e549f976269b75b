// Elementary functions to the last bit or nearly so, where the fast ones of a GPU are not accurate enough. They are
// series on a reduced argument, the same everywhere: compilers of kernels have no mathematical library in common.
#ifndef ATTN_BACKENDS_GPU_FUNCTIONS_CUH
#define ATTN_BACKENDS_GPU_FUNCTIONS_CUH

#include "backends/gpu/convert.cuh"

namespace attn::gpu {

/// exp(x + rest) for x <= 0, `rest` a correction far smaller than x; 0 below -87. Within 1.4 units in the last place.
ATTN_DEVICE float exp_negative(float x, float rest)
{
    if (x < -87) return 0; // never so for NaN
    const float n = nearest(x * 1.44269504f);
    // ln 2 in two parts, the first with so few bits that its products with n are exact.
    float r = multiply_add(n, -0x1.62e4p-1f, x);
    r = multiply_add(n, -0x1.7f7d1cp-20f, r) + rest;
    float series = multiply_add(r, 1.0f / 5040, 1.0f / 720);
    series = multiply_add(r, series, 1.0f / 120);
    series = multiply_add(r, series, 1.0f / 24);
    series = multiply_add(r, series, 1.0f / 6);
    series = multiply_add(r, series, 0.5f);
    const float less_one = multiply_add(r * r, series, r);
    return (1 + less_one) * float_of_bits(static_cast<u32>((static_cast<i32>(n) + 127) << 23));
}

/// exp(x - top), x <= top, where the difference is no float.
ATTN_DEVICE float exp_difference(float x, float top)
{
    const float difference = x - top;
    const float part = difference - x;
    const float rest = (x - (difference - part)) + (-top - part);
    return exp_negative(difference, rest);
}

/// 1 / (1 + exp(-x)).
ATTN_DEVICE float sigmoid(float x)
{
    const float e = exp_negative(x < 0 ? x : -x, 0);
    return (x < 0 ? e : 1.0f) / (1 + e);
}

/// The natural logarithm of a positive number, within 1e-11; inf and NaN give themselves.
ATTN_DEVICE double logarithm(double x)
{
    if (!(x < 1e300)) return x;
    double exponent = 0;
    while (x > 0x1.6a09e667f3bcdp+8) x *= 0x1p-16, exponent += 16; // of sums a few times at most
    while (x > 0x1.6a09e667f3bcdp+0) x *= 0.5, exponent += 1;
    while (x < 0x1.6a09e667f3bcdp-1) x *= 2, exponent -= 1;
    const double s = (x - 1) / (x + 1), square = s * s; // ln x = 2 artanh s
    double series = multiply_add(square, 1.0 / 13, 1.0 / 11);
    series = multiply_add(square, series, 1.0 / 9);
    series = multiply_add(square, series, 1.0 / 7);
    series = multiply_add(square, series, 1.0 / 5);
    series = multiply_add(square, series, 1.0 / 3);
    series = multiply_add(square, series, 1.0);
    return multiply_add(exponent, 0x1.62e42fefa39efp-1, 2 * s * series);
}

/// Sine and cosine within 3e-16 for |x| < 2^40 and 1e-13 for |x| < 2^63; beyond they lose accuracy, but stay within
/// -1 .. 1.
ATTN_DEVICE void sine_and_cosine(double x, double *sine, double *cosine)
{
    // x = n pi/2 + r. Each product is exact within its fused addition, so three parts of pi/2 leave an error of
    // 2^-160 n; and r itself is small only where n is exact: if x is huge, once more.
    i32 quadrant = 0;
    double r = x, size;
    do {
        const double n = nearest(r * 0x1.45f306dc9c883p-1);
        r = multiply_add(n, -0x1.921fb54442d18p+0, r);
        r = multiply_add(n, -0x1.1a62633145c07p-54, r);
        r = multiply_add(n, 0x1.f1976b7ed8fbcp-110, r);
        quadrant += static_cast<i32>(multiply_add(nearest(n * 0.25), -4.0, n)); // n modulo 4
        size = r < 0 ? -r : r;
    } while (size > 1);
    const double square = r * r;
    double s = multiply_add(square, -1.0 / 1307674368000, 1.0 / 6227020800);
    s = multiply_add(square, s, -1.0 / 39916800);
    s = multiply_add(square, s, 1.0 / 362880);
    s = multiply_add(square, s, -1.0 / 5040);
    s = multiply_add(square, s, 1.0 / 120);
    s = multiply_add(square, s, -1.0 / 6);
    s = multiply_add(square * r, s, r);
    double c = multiply_add(square, 1.0 / 20922789888000, -1.0 / 87178291200);
    c = multiply_add(square, c, 1.0 / 479001600);
    c = multiply_add(square, c, -1.0 / 3628800);
    c = multiply_add(square, c, 1.0 / 40320);
    c = multiply_add(square, c, -1.0 / 720);
    c = multiply_add(square, c, 1.0 / 24);
    c = multiply_add(square, c, -0.5);
    c = multiply_add(square, c, 1.0);
    const bool swap = (quadrant & 1) != 0;
    const double first = swap ? c : s, second = swap ? s : c;
    *sine = (quadrant & 2) != 0 ? -first : first;
    *cosine = ((quadrant + 1) & 2) != 0 ? -second : second;
}

} // namespace attn::gpu

#endif

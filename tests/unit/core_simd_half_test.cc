// Conversions of half and bfloat16: all 65536 values to float, and every rounding boundary back, against a conversion
// in doubles that shares nothing with the library's.
#include "core_random.h"
#include "core_simd_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace attn::test {
namespace {

/// A 16-bit format: sign, exponent, `mantissa` bits.
struct Format {
    int mantissa;
    int least_exponent; ///< Of the normal numbers.
    uint16_t infinity;
};
constexpr Format kHalf = {10, -14, 0x7c00}, kBfloat16 = {7, -126, 0x7f80};

/// The value that 16 bits stand for.
double decode(const Format &format, uint16_t bits)
{
    const int magnitude = bits & 0x7fff, exponent = magnitude >> format.mantissa;
    const int fraction = magnitude & ((1 << format.mantissa) - 1);
    const double sign = bits & 0x8000 ? -1 : 1;
    if (magnitude > format.infinity) return std::numeric_limits<double>::quiet_NaN();
    if (magnitude == format.infinity) return sign * std::numeric_limits<double>::infinity();
    if (exponent == 0) return sign * std::ldexp(fraction, format.least_exponent - format.mantissa);
    return sign * std::ldexp(fraction + (1 << format.mantissa), exponent - 1 + format.least_exponent - format.mantissa);
}

/// The nearest, ties to the even one; not for NaN.
uint16_t encode(const Format &format, double value)
{
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const double magnitude = std::abs(value);
    if (magnitude == 0) return sign;
    if (std::isinf(magnitude)) return static_cast<uint16_t>(sign | format.infinity);
    const int exponent = std::max(std::ilogb(magnitude), format.least_exponent);
    // In units of the last place this is below 2^(mantissa + 1); nearbyint() rounds ties to even. A carry into the next
    // exponent, or to infinity, comes out right because the encodings are consecutive.
    const int64_t units = std::llrint(std::ldexp(magnitude, format.mantissa - exponent));
    const int64_t bits = (static_cast<int64_t>(exponent - format.least_exponent) << format.mantissa) + units;
    return static_cast<uint16_t>(sign | std::min<int64_t>(bits, format.infinity));
}

/// Every float at which the rounding could change, and its neighbours.
std::vector<float> boundaries(const Format &format)
{
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    std::vector<float> all;
    for (uint16_t bits = 0; bits < format.infinity; ++bits) {
        const double low = decode(format, bits);
        // One step beyond the largest finite value lies where rounding to infinity begins.
        const double high = bits + 1 < format.infinity ? decode(format, static_cast<uint16_t>(bits + 1))
                                                       : 2 * low - decode(format, static_cast<uint16_t>(bits - 1));
        for (const float x : {static_cast<float>(low), static_cast<float>((low + high) / 2)})
            for (const float near : {std::nextafter(x, -kInfinity), x, std::nextafter(x, kInfinity)})
                all.push_back(near), all.push_back(-near);
    }
    for (const float x : {kInfinity, std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min(), 0.0f,
                          65504.0f, 65519.996f, 65520.0f, 65536.0f, 1e30f, 0x1p-24f, 0x1p-25f, 0x1.8p-25f, 0x1p-26f})
        all.push_back(x), all.push_back(-x);
    return all;
}

class SimdHalf : public SimdTest {
protected:
    using FromFunction = void (*)(const uint16_t *, float *, int64_t);
    using ToFunction = void (*)(const float *, uint16_t *, int64_t);

    static void check_from(const Format &format, FromFunction from)
    {
        std::vector<uint16_t> x(65536);
        std::vector<float> y(x.size());
        for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint16_t>(i);
        from(x.data(), y.data(), static_cast<int64_t>(x.size()));
        for (size_t i = 0; i < x.size(); ++i) {
            const double exact = decode(format, x[i]);
            if (std::isnan(exact)) {
                ASSERT_TRUE(std::isnan(y[i])) << std::hex << i;
                continue;
            }
            ASSERT_EQ(static_cast<double>(y[i]), exact) << std::hex << i;
            ASSERT_EQ(std::signbit(y[i]), (x[i] & 0x8000) != 0) << std::hex << i;
        }
    }

    static void check_to(const Format &format, ToFunction to, std::vector<float> x)
    {
        x.resize((x.size() + kMostLanes - 1) / kMostLanes * kMostLanes);
        std::vector<uint16_t> y(x.size());
        to(x.data(), y.data(), static_cast<int64_t>(x.size()));
        for (size_t i = 0; i < x.size(); ++i) {
            if (std::isnan(x[i])) {
                ASSERT_GT(y[i] & 0x7fff, format.infinity) << std::hex << std::bit_cast<uint32_t>(x[i]);
                ASSERT_EQ((y[i] & 0x8000) != 0, std::signbit(x[i])) << std::hex << std::bit_cast<uint32_t>(x[i]);
                continue;
            }
            ASSERT_EQ(y[i], encode(format, static_cast<double>(x[i])))
                << x[i] << ", bits " << std::hex << std::bit_cast<uint32_t>(x[i]);
        }
    }

    /// Random bits are mostly far outside of a half; exponents within it come from the second half of them.
    static std::vector<float> random_floats()
    {
        Random random(50);
        std::vector<float> x;
        for (int i = 0; i < 500000; ++i) x.push_back(std::bit_cast<float>(static_cast<uint32_t>(random.bits())));
        for (int i = 0; i < 500000; ++i)
            x.push_back(std::ldexp(random.uniform(-2, 2), static_cast<int>(random.integer(-27, 17))));
        for (uint32_t payload = 1; payload < 0x800000; payload = payload * 3 + 1)
            for (const uint32_t sign : {0u, 0x80000000u})
                x.push_back(std::bit_cast<float>(sign | 0x7f800000u | payload));
        for (const uint32_t payload : {1u, 0x1fffu, 0x2000u, 0xffffu, 0x10000u, 0x3fffffu, 0x400000u, 0x7fffffu})
            x.push_back(std::bit_cast<float>(0x7f800000u | payload));
        return x;
    }
};

TEST_P(SimdHalf, FromHalfIsExact)
{
    check_from(kHalf, unit().from_float16);
}

TEST_P(SimdHalf, FromBfloat16IsExact)
{
    check_from(kBfloat16, unit().from_bfloat16);
}

TEST_P(SimdHalf, ToHalfRoundsToNearestEven)
{
    for (const auto convert : {unit().to_float16, unit().write_float16}) {
        check_to(kHalf, convert, boundaries(kHalf));
        check_to(kHalf, convert, random_floats());
    }
}

TEST_P(SimdHalf, ToBfloat16RoundsToNearestEven)
{
    for (const auto convert : {unit().to_bfloat16, unit().write_bfloat16}) {
        check_to(kBfloat16, convert, boundaries(kBfloat16));
        check_to(kBfloat16, convert, random_floats());
    }
}

TEST_P(SimdHalf, ThereAndBackIsTheSame)
{
    std::vector<uint16_t> x(65536), back(65536);
    std::vector<float> y(65536);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint16_t>(i);
    const auto count = static_cast<int64_t>(x.size());
    unit().from_float16(x.data(), y.data(), count);
    unit().to_float16(y.data(), back.data(), count);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_TRUE(back[i] == x[i] || std::isnan(y[i])) << std::hex << i;
    unit().from_bfloat16(x.data(), y.data(), count);
    unit().to_bfloat16(y.data(), back.data(), count);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_TRUE(back[i] == x[i] || std::isnan(y[i])) << std::hex << i;
}

INSTANTIATE_TEST_SUITE_P(Isa, SimdHalf, testing::ValuesIn(simd_units()), simd_name);

} // namespace
} // namespace attn::test

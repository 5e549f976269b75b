// backends/cpu/simd.h for every instruction set this processor has, against double arithmetic.
#include "core_random.h"
#include "core_simd_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

namespace attn::test {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using Apply = void (*)(const float *, float *, int64_t);

/// y = f(x), padded to whole vectors.
std::vector<float> apply(Apply f, std::vector<float> x)
{
    const size_t count = x.size();
    x.resize((count + kMostLanes - 1) / kMostLanes * kMostLanes);
    std::vector<float> y(x.size());
    f(x.data(), y.data(), static_cast<int64_t>(x.size()));
    y.resize(count);
    return y;
}

float apply(Apply f, float x)
{
    return apply(f, std::vector<float>{x})[0];
}

/// Distance of consecutive floats at a magnitude.
double ulp(double value)
{
    return std::ldexp(1.0, std::max(std::ilogb(value), -126) - 23);
}

class Simd : public SimdTest {};

TEST_P(Simd, Exp2IsWithinItsError)
{
    Random random(40);
    std::vector<float> x = {-126.0f, std::nextafter(128.0f, 0.0f), -0.5f, 0.5f, 1e-30f, -1e-30f, 127.5f, -125.5f};
    for (float n = -126; n < 128; ++n)
        for (const float f : {0.0f, 0.25f, 0.49999997f, 0.5f, 0.50000006f, 0.75f, 0.9999999f})
            if (n + f < 128) x.push_back(n + f);
    for (int i = 0; i < 300000; ++i) x.push_back(random.uniform(-126, 128));
    for (int i = 0; i < 100000; ++i) x.push_back(random.uniform(-1, 1));
    for (int i = 0; i < 100000; ++i) x.push_back(std::ldexp(random.uniform(-1, 1), -static_cast<int>(i % 60)));
    std::erase_if(x, [](float value) { return !(value < 128); });
    const std::vector<float> y = apply(unit().exp2, x);
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
        const double exact = std::exp2(static_cast<double>(x[i]));
        const double error = std::abs(y[i] - exact) / ulp(exact);
        ASSERT_LE(error, 1.5) << "exp2(" << x[i] << ") = " << y[i];
        worst = std::max(worst, error);
    }
    std::printf("exp2.%s: at most %.3f ulp\n", unit().isa, worst);
}

TEST_P(Simd, Exp2AtTheEdges)
{
    EXPECT_EQ(std::bit_cast<uint32_t>(apply(unit().exp2, -kInfinity)), 0u);
    EXPECT_EQ(apply(unit().exp2, 0.0f), 1.0f);
    EXPECT_EQ(apply(unit().exp2, -0.0f), 1.0f);
    EXPECT_EQ(apply(unit().exp2, std::numeric_limits<float>::denorm_min()), 1.0f);
    for (int n = -126; n < 128; ++n)
        EXPECT_EQ(apply(unit().exp2, static_cast<float>(n)), std::ldexp(1.0f, n)) << "exp2(" << n << ")";
    for (const float x : {128.0f, 128.00002f, 1000.0f, 3e9f, 1e38f, kInfinity})
        EXPECT_EQ(apply(unit().exp2, x), kInfinity) << "exp2(" << x << ")";
    for (const float x : {kNan, -kNan, std::bit_cast<float>(0x7f800001u), std::bit_cast<float>(0xffffffffu)})
        EXPECT_TRUE(std::isnan(apply(unit().exp2, x)));
}

TEST_P(Simd, Exp2BelowTheNormalFloats)
{
    // 0, or the denormal nearby.
    for (const float x :
         {-126.00001f, -126.5f, -127.0f, -130.25f, -149.0f, -150.0f, -151.0f, -200.0f, -300.0f, -1e4f, -1e9f, -3e38f}) {
        const float y = apply(unit().exp2, x);
        const double exact = std::exp2(static_cast<double>(x));
        EXPECT_TRUE(y == 0 || std::abs(y - exact) <= 1.5 * ulp(exact)) << "exp2(" << x << ") = " << y;
        EXPECT_FALSE(std::signbit(y));
    }
}

TEST_P(Simd, ExpIsWithinTheRoundingOfItsArgument)
{
    Random random(41);
    std::vector<float> x = {0.0f, -0.0f, 1.0f, -1.0f, 88.0f, -87.0f};
    for (int i = 0; i < 200000; ++i) x.push_back(random.uniform(-87, 88));
    for (int i = 0; i < 100000; ++i) x.push_back(random.uniform(-1, 1));
    const std::vector<float> y = apply(unit().exp, x);
    for (size_t i = 0; i < x.size(); ++i) {
        const double exact = std::exp(static_cast<double>(x[i]));
        // The product x * log2(e) is rounded, and so is log2(e): each to 2^-24 of the exponent.
        ASSERT_LE(std::abs(y[i] / exact - 1), (2 * std::abs(x[i]) + 3) * 0x1p-24) << "exp(" << x[i] << ") = " << y[i];
    }
    EXPECT_EQ(y[0], 1.0f);
    EXPECT_EQ(apply(unit().exp, -kInfinity), 0.0f);
    EXPECT_EQ(apply(unit().exp, kInfinity), kInfinity);
    EXPECT_TRUE(std::isnan(apply(unit().exp, kNan)));
}

TEST_P(Simd, TanhIsWithinItsError)
{
    Random random(42);
    std::vector<float> x = {0.65f,
                            -0.65f,
                            std::nextafter(0.65f, 0.0f),
                            std::nextafter(0.65f, 1.0f),
                            1e-38f,
                            1e-40f,
                            -1e-45f,
                            9.0f,
                            -9.1f,
                            20.0f,
                            44.3f,
                            60.0f,
                            100.0f,
                            -3e38f};
    for (int i = 0; i < 300000; ++i) x.push_back(random.uniform(-1, 1));
    for (int i = 0; i < 200000; ++i) x.push_back(random.uniform(-12, 12));
    for (int i = 0; i < 100000; ++i) x.push_back(std::ldexp(random.uniform(-1, 1), 6 - static_cast<int>(i % 120)));
    const std::vector<float> y = apply(unit().tanh, x);
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
        const double exact = std::tanh(static_cast<double>(x[i]));
        // Where the result is denormal the last place is all there is.
        const double allowed = std::max(2e-7 * std::abs(exact), std::abs(exact) < 0x1p-126 ? 0x1p-149 : 0.0);
        ASSERT_LE(std::abs(y[i] - exact), allowed) << "tanh(" << x[i] << ") = " << y[i];
        if (std::abs(exact) >= 0x1p-126) worst = std::max(worst, std::abs(y[i] / exact - 1));
        ASSERT_LE(std::abs(y[i]), 1.0f);
    }
    std::printf("tanh.%s: at most %.2e relative\n", unit().isa, worst);
    EXPECT_EQ(std::bit_cast<uint32_t>(apply(unit().tanh, 0.0f)), 0u);
    EXPECT_EQ(apply(unit().tanh, -0.0f), 0.0f); // of either sign
    EXPECT_EQ(apply(unit().tanh, kInfinity), 1.0f);
    EXPECT_EQ(apply(unit().tanh, -kInfinity), -1.0f);
    EXPECT_TRUE(std::isnan(apply(unit().tanh, kNan)));
    EXPECT_TRUE(std::isnan(apply(unit().tanh, -kNan)));
}

TEST_P(Simd, TransposeExchangesRowsAndColumns)
{
    const int width = unit().width;
    std::vector<float> x(static_cast<size_t>(width * width)), y(x.size());
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
    unit().transpose(x.data(), y.data());
    for (int i = 0; i < width; ++i)
        for (int j = 0; j < width; ++j)
            EXPECT_EQ(y[static_cast<size_t>(j * width + i)], static_cast<float>(i * width + j)) << i << " " << j;
}

TEST_P(Simd, ReductionsSeeEveryLane)
{
    const size_t width = static_cast<size_t>(unit().width);
    for (size_t lane = 0; lane < width; ++lane) {
        std::vector<float> x(width, -5.0f);
        x[lane] = 3.0f;
        EXPECT_EQ(unit().reduce_max(x.data()), 3.0f) << lane;
        EXPECT_EQ(unit().reduce_add(x.data()), 3.0f - 5.0f * static_cast<float>(width - 1)) << lane;
        x.assign(width, -kInfinity);
        EXPECT_EQ(unit().reduce_max(x.data()), -kInfinity);
        x[lane] = -1e30f;
        EXPECT_EQ(unit().reduce_max(x.data()), -1e30f) << lane;
    }
    Random random(43);
    for (int round = 0; round < 1000; ++round) {
        std::vector<float> x(width);
        for (float &value : x) value = static_cast<float>(random.integer(-1000, 1000)); // sums are exact
        double sum = 0;
        for (const float value : x) sum += value;
        EXPECT_EQ(unit().reduce_add(x.data()), sum);
        EXPECT_EQ(unit().reduce_max(x.data()), *std::max_element(x.begin(), x.end()));
    }
}

TEST_P(Simd, LargerKeepsTheFirstAtANan)
{
    const size_t width = static_cast<size_t>(unit().width);
    const struct {
        float a, b, larger;
    } cases[] = {{1, 2, 2},
                 {2, 1, 2},
                 {-kInfinity, -1, -1},
                 {1, kInfinity, kInfinity},
                 {1, kNan, 1},
                 {-kInfinity, kNan, -kInfinity}};
    for (const auto &given : cases) {
        std::vector<float> a(width, given.a), b(width, given.b), y(width);
        unit().larger(a.data(), b.data(), y.data());
        for (const float value : y) EXPECT_EQ(value, given.larger) << given.a << " " << given.b;
    }
}

TEST_P(Simd, SplatKeepsEveryBit)
{
    for (const uint32_t bits : {0u, 0x80000000u, 0x3f800000u, 0x7f800000u, 0xff800000u, 1u, 0x80000001u, 0x7fc00000u}) {
        std::vector<float> y(static_cast<size_t>(unit().width));
        unit().splat(std::bit_cast<float>(bits), y.data());
        for (const float value : y) EXPECT_EQ(std::bit_cast<uint32_t>(value), bits);
    }
}

INSTANTIATE_TEST_SUITE_P(Isa, Simd, testing::ValuesIn(simd_units()), simd_name);

} // namespace
} // namespace attn::test

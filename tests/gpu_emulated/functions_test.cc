// The elementary functions and conversions of kernels against those of the host in more precision.
#include "backends/gpu/functions.cuh"
#include "tests/conformance/number.h"
#include "tests/conformance/session.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace gpu_emulated {
namespace {

using conformance::Random;
using conformance::session;

constexpr float infinity = std::numeric_limits<float>::infinity();

double unit_of(double x) // in the last place of a float
{
    return std::ldexp(1.0, std::ilogb(x) - 23);
}

TEST(EmulatedFunctions, Exponential)
{
    Random random(session().seed, 950);
    for (int n = 0; n < 200000; ++n) {
        const float top = float(std::ldexp(random.normal(), int(random.integer(-3, 12))));
        const float x = top - float(random.uniform() * (n % 2 ? 1 : 87));
        const double wanted = std::exp(double(x) - double(top));
        if (wanted < 2e-38) continue; // may be 0
        EXPECT_LE(std::abs(attn::gpu::exp_difference(x, top) - wanted), 1.4 * unit_of(wanted)) << x << ' ' << top;
    }
    EXPECT_EQ(attn::gpu::exp_difference(-3.3e38f, 3.3e38f), 0);
    EXPECT_EQ(attn::gpu::exp_difference(-infinity, 3), 0);
    EXPECT_EQ(attn::gpu::exp_difference(3, 3), 1);
    EXPECT_TRUE(std::isnan(attn::gpu::exp_difference(NAN, 3)));
    EXPECT_TRUE(std::isnan(attn::gpu::exp_difference(infinity, infinity)));
}

TEST(EmulatedFunctions, Sigmoid)
{
    Random random(session().seed, 951);
    for (int n = 0; n < 100000; ++n) {
        const float x = float(random.normal() * (n % 2 ? 1 : 30));
        const double wanted = 1 / (1 + std::exp(-double(x)));
        EXPECT_NEAR(attn::gpu::sigmoid(x), wanted, 2e-7 * wanted + 1e-37) << x;
    }
    EXPECT_EQ(attn::gpu::sigmoid(infinity), 1);
    EXPECT_EQ(attn::gpu::sigmoid(-infinity), 0);
    EXPECT_TRUE(std::isnan(attn::gpu::sigmoid(NAN)));
}

TEST(EmulatedFunctions, Logarithm)
{
    Random random(session().seed, 952);
    for (int n = 0; n < 100000; ++n) {
        const double x = std::exp(random.normal() * (n % 2 ? 1 : 5));
        EXPECT_NEAR(attn::gpu::logarithm(x), std::log(x), 1e-11 * std::max(1.0, std::abs(std::log(x)))) << x;
    }
    EXPECT_EQ(attn::gpu::logarithm(1), 0);
    EXPECT_TRUE(std::isnan(attn::gpu::logarithm(NAN)));
    EXPECT_EQ(attn::gpu::logarithm(INFINITY), INFINITY);
}

// Of angles that positions of any size give: the floats are those of the host, but where a tie is near.
TEST(EmulatedFunctions, SineAndCosine)
{
    Random random(session().seed, 953);
    int different = 0;
    for (int n = 0; n < 200000; ++n) {
        const double x = std::ldexp(random.uniform() - 0.5, int(random.integer(-8, 63)));
        double sine = 0, cosine = 0;
        attn::gpu::sine_and_cosine(x, &sine, &cosine);
        const double tolerated = std::abs(x) < 0x1p40 ? 3e-16 : 1e-13;
        EXPECT_NEAR(sine, std::sin(x), tolerated) << x;
        EXPECT_NEAR(cosine, std::cos(x), tolerated) << x;
        different += float(sine) != float(std::sin(x)) || float(cosine) != float(std::cos(x));
    }
    EXPECT_LE(different, 2);
    for (const double x : {0.0, 1e-300, M_PI, -M_PI / 2, 0x1p62, 1e300, -1e200}) {
        double sine = 0, cosine = 0;
        attn::gpu::sine_and_cosine(x, &sine, &cosine);
        EXPECT_NEAR(sine * sine + cosine * cosine, 1, 1e-12) << x;
    }
    for (const double x : {double(NAN), double(INFINITY)}) {
        double sine = 0, cosine = 0;
        attn::gpu::sine_and_cosine(x, &sine, &cosine);
        EXPECT_TRUE(std::isnan(sine) && std::isnan(cosine));
    }
}

// What stands in for the instructions of a GPU.
TEST(EmulatedFunctions, ConversionsOfEveryHalf)
{
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits)
        for (const attn_dtype dtype : {ATTN_FLOAT16, ATTN_BFLOAT16}) {
            const auto half = static_cast<std::uint16_t>(bits);
            const double wanted = conformance::decode(dtype, reinterpret_cast<const unsigned char *>(&half));
            const attn::gpu::i32 type = dtype == ATTN_FLOAT16 ? attn::gpu::kFloat16 : attn::gpu::kBfloat16;
            const float got = attn::gpu::to_float(type, bits);
            if (std::isnan(wanted)) {
                EXPECT_TRUE(std::isnan(got)) << bits;
                EXPECT_TRUE(std::isnan(attn::gpu::to_float(type, attn::gpu::to_half(type, got)))) << bits;
                continue;
            }
            EXPECT_EQ(got, wanted) << bits;
            EXPECT_EQ(attn::gpu::to_half(type, got), bits);
            // Between this number and the next: to the nearer, in the middle to the even one.
            const float next = attn::gpu::to_float(type, bits + 1);
            if ((bits & 0x7fff) == 0x7fff || !std::isfinite(got) || !std::isfinite(next)) continue;
            const float middle = float((double(got) + double(next)) / 2);
            EXPECT_EQ(attn::gpu::to_half(type, middle), bits % 2 ? bits + 1 : bits);
            EXPECT_EQ(attn::gpu::to_half(type, std::nextafter(middle, got)), bits);
            EXPECT_EQ(attn::gpu::to_half(type, std::nextafter(middle, next)), bits + 1);
        }
}

} // namespace
} // namespace gpu_emulated

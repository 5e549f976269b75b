// Runs a test for each instruction set that the processor has, and names those it lacks.
#ifndef ATTN_TESTS_UNIT_CORE_SIMD_FIXTURE_H
#define ATTN_TESTS_UNIT_CORE_SIMD_FIXTURE_H

#include "core_simd.h"

#include "backends/cpu/features.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

namespace attn::test {

inline void PrintTo(const SimdUnit *unit, std::ostream *out)
{
    *out << unit->isa;
}

class SimdTest : public testing::TestWithParam<const SimdUnit *> {
protected:
    void SetUp() override
    {
        int needed = 0;
        while (std::strcmp(cpu::isa_name(static_cast<cpu::Isa>(needed)), unit().isa) != 0) ++needed;
        if (needed > static_cast<int>(cpu::best_isa())) {
            std::printf("absent: %s\n", unit().isa);
            GTEST_SKIP() << "absent: " << unit().isa;
        }
    }
    const SimdUnit &unit() const { return *GetParam(); }
};

/// Every instruction set that kernels are compiled for.
inline std::vector<const SimdUnit *> simd_units()
{
    std::vector<const SimdUnit *> all = {&kSimdBaseline};
#if defined(__x86_64__)
    all.push_back(&kSimdAvx2);
    all.push_back(&kSimdAvx512);
#elif defined(__aarch64__)
    all.push_back(&kSimdNeon);
#endif
    return all;
}

inline std::string simd_name(const testing::TestParamInfo<const SimdUnit *> &info)
{
    return info.param->isa;
}

} // namespace attn::test

#endif

// Runs the tests of convolutions and scans. Settings come from the environment:
//   ATTN_TEST_SEED    base seed, decimal; without it a random one, printed at the start
//   ATTN_TEST_SUBSET  not empty: fewer and smaller cases, for builds with sanitizers
#include "sequence_spec.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <random>

namespace sequence {

const Session &session()
{
    static const Session settings = [] {
        const char *seed = std::getenv("ATTN_TEST_SEED"), *subset = std::getenv("ATTN_TEST_SUBSET");
        Session s;
        s.seed = seed && *seed ? std::strtoull(seed, nullptr, 10) : std::random_device{}();
        s.subset = subset && *subset;
        return s;
    }();
    return settings;
}

} // namespace sequence

int main(int argc, char **argv)
{
    testing::InitGoogleTest(&argc, argv);
    std::printf("ATTN_TEST_SEED=%llu\n", static_cast<unsigned long long>(sequence::session().seed));
    return RUN_ALL_TESTS();
}

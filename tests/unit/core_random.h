// Random numbers of the tests: one seed per process, printed, and repeatable by the variable ATTN_TEST_SEED.
#ifndef ATTN_TESTS_UNIT_CORE_RANDOM_H
#define ATTN_TESTS_UNIT_CORE_RANDOM_H

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace attn::test {

/// The seed of this process.
inline uint64_t test_seed()
{
    static const uint64_t seed = [] {
        const char *given = std::getenv("ATTN_TEST_SEED");
        const uint64_t value = given ? std::strtoull(given, nullptr, 0) : std::random_device{}();
        std::printf("ATTN_TEST_SEED=%llu\n", static_cast<unsigned long long>(value));
        return value;
    }();
    return seed;
}

/// Random integers and floats of one test; `stream` keeps tests independent of each other.
class Random {
public:
    explicit Random(uint64_t stream) : engine_(test_seed() * 0x9e3779b97f4a7c15u + stream) {}

    uint64_t bits() { return engine_(); }
    /// Uniform in low .. high, both included.
    int64_t integer(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine_); }
    bool one_in(int64_t n) { return integer(1, n) == 1; }
    float uniform(float low, float high) { return std::uniform_real_distribution<float>(low, high)(engine_); }

private:
    std::mt19937_64 engine_;
};

} // namespace attn::test

#endif

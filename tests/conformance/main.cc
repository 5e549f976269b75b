#include "measure.h"
#include "session.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <random>

namespace conformance {

const Session &session()
{
    static const Session settings = [] {
        Session s;
        const auto variable = [](const char *name) {
            const char *text = std::getenv(name);
            return std::string(text ? text : "");
        };
        const std::string seed = variable("ATTN_TEST_SEED"), count = variable("ATTN_TEST_RANDOM");
        s.seed = seed.empty() ? std::random_device{}() : std::stoull(seed);
        s.subset = !variable("ATTN_TEST_SUBSET").empty();
        s.random_cases = count.empty() ? (s.subset ? 40 : 300) : std::stoll(count);
        s.replay = variable("ATTN_TEST_CASE");
        return s;
    }();
    return settings;
}

namespace {

class PrintSummary : public testing::Environment {
public:
    void SetUp() override { std::printf("ATTN_TEST_SEED=%llu\n", static_cast<unsigned long long>(session().seed)); }
    void TearDown() override { Summary::instance().print(); }
};

} // namespace
} // namespace conformance

int main(int argc, char **argv)
{
    testing::InitGoogleTest(&argc, argv);
    testing::AddGlobalTestEnvironment(new conformance::PrintSummary); // owned by GoogleTest
    return RUN_ALL_TESTS();
}

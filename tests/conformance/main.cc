#include "measure.h"
#include "session.h"

#include "tests/gpu/driver.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <stdexcept>

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
        if (const std::string shard = variable("ATTN_TEST_SHARD"); !shard.empty()) {
            const std::size_t slash = shard.find('/');
            if (slash == std::string::npos) throw std::invalid_argument("ATTN_TEST_SHARD = " + shard);
            s.shard = std::stoll(shard), s.shards = std::stoll(shard.substr(slash + 1));
            if (s.shard < 0 || s.shard >= s.shards) throw std::invalid_argument("ATTN_TEST_SHARD = " + shard);
        }
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

// Once a kernel has gone wrong the context is useless: what follows would fail for that reason alone.
class StopAtLostDevice : public testing::EmptyTestEventListener {
    void OnTestEnd(const testing::TestInfo &info) override
    {
        if (!gpu_test::device_is_lost()) return;
        std::printf("the device is lost in %s.%s: the rest is not run\n", info.test_suite_name(), info.name());
        Summary::instance().print();
        std::fflush(stdout);
        std::_Exit(3);
    }
};

} // namespace
} // namespace conformance

int main(int argc, char **argv)
{
    testing::InitGoogleTest(&argc, argv);
    testing::AddGlobalTestEnvironment(new conformance::PrintSummary); // owned by GoogleTest
    testing::UnitTest::GetInstance()->listeners().Append(new conformance::StopAtLostDevice);
    return RUN_ALL_TESTS();
}

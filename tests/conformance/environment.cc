#include "environment.h"

#include "measure.h"
#include "session.h"

#include "tests/gpu/driver.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

namespace conformance {
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

void set_up_environment()
{
    testing::AddGlobalTestEnvironment(new PrintSummary); // owned by GoogleTest
    testing::UnitTest::GetInstance()->listeners().Append(new StopAtLostDevice);
}

} // namespace conformance

#include "tests/conformance/environment.h"

#include <gtest/gtest.h>

#include <cstdlib>

int main(int argc, char **argv)
{
    setenv("ATTN_TEST_BACKEND", "cuda", 0);
    testing::InitGoogleTest(&argc, argv);
    GTEST_FLAG_SET(death_test_style, "threadsafe"); // a child starts anew: the driver does not survive a fork
    conformance::set_up_environment();
    return RUN_ALL_TESTS();
}

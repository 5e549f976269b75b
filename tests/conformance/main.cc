#include "environment.h"

#include <gtest/gtest.h>

int main(int argc, char **argv)
{
    testing::InitGoogleTest(&argc, argv);
    conformance::set_up_environment();
    return RUN_ALL_TESTS();
}

// Every test of this program finds the fake driver.
#include <cstdlib>
#include <gtest/gtest.h>

int main(int argc, char **argv)
{
    testing::InitGoogleTest(&argc, argv);
    setenv("ATTN_CUDA_DRIVER", ATTN_FAKE_CUDA, 1);
    return RUN_ALL_TESTS();
}

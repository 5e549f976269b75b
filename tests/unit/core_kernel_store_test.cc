// The kernel store with a real compiler, where there is one.
#include "core_kernel_fixture.h"

#include <cstring>
#include <gtest/gtest.h>

namespace attn::kernel {
namespace {

bool has_compiler(Store *store)
{
    return store->compiler().rfind("NVRTC", 0) == 0;
}

TEST(KernelStore, CompilesForAnArchitecture)
{
    std::unique_ptr<Store> store;
    ASSERT_EQ(open_store({}, test_sources(), &store), ATTN_OK) << last_error();
    if (!has_compiler(store.get())) GTEST_SKIP() << store->compiler();
    for (const char *arch : {"sm_80", "sm_90a"}) {
        Image image;
        ASSERT_EQ(store->find(scale_request(), arch, true, &image), ATTN_OK) << last_error();
        EXPECT_EQ(image.origin, Origin::compiled);
        EXPECT_FALSE(image.is_ptx);
        ASSERT_GT(image.bytes, 64u);
        EXPECT_EQ(std::memcmp(image.data, "\177ELF", 4), 0);
    }
    Image image;
    ASSERT_NE(store->find(scale_request(), "sm_1", true, &image), ATTN_OK);
    Request bad = scale_request();
    bad.generated = "nonsense";
    ASSERT_NE(store->find(bad, "sm_90a", true, &image), ATTN_OK);
}

} // namespace
} // namespace attn::kernel

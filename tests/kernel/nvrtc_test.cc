// The real compiler, where there is one.
#include "fixture.h"

#include "kernel/pack_builder.h"

#include <cstring>

namespace attn::kernel {
namespace {

class NvrtcTest : public testing::Test {
protected:
    void SetUp() override
    {
        options_.cache_dir = scratch_ / "cache";
        ASSERT_EQ(open_store(options_, test_sources(), {}, &store_), ATTN_OK) << last_error();
        if (store_->compiler().rfind("NVRTC", 0) != 0) GTEST_SKIP() << store_->compiler();
    }

    Scratch scratch_;
    StoreOptions options_;
    std::unique_ptr<Store> store_;
};

TEST_F(NvrtcTest, Cubins)
{
    for (const char *arch : {"sm_80", "sm_90a"}) {
        Image image;
        ASSERT_EQ(store_->find(scale_request(), arch, true, &image), ATTN_OK) << last_error();
        EXPECT_FALSE(image.is_ptx);
        ASSERT_GT(image.bytes, 64u);
        EXPECT_EQ(std::memcmp(image.data, "\177ELF", 4), 0);
    }
}

TEST_F(NvrtcTest, PtxForALaterDevice)
{
    Image image;
    ASSERT_EQ(store_->find(scale_request(), "sm_500a", true, &image), ATTN_OK) << last_error();
    EXPECT_TRUE(image.is_ptx);
    EXPECT_TRUE(std::strstr(static_cast<const char *>(image.data), ".visible .entry attn_test_scale"));
}

TEST_F(NvrtcTest, ErrorsOfASource)
{
    Request request = scale_request();
    request.generated = "nonsense";
    Image image;
    ASSERT_EQ(store_->find(request, "sm_90a", true, &image), ATTN_ERROR_COMPILE);
    EXPECT_TRUE(std::strstr(last_error(), "attn_generated.cuh(1): error")) << last_error();
}

TEST_F(NvrtcTest, APackServesAStoreWithoutACompiler)
{
    PackOptions options;
    options.cache_dir = scratch_ / "cache";
    options.jobs = 2;
    std::vector<PackItem> items;
    for (const char *target : {"sm_80", "sm_90a", "compute_80", "sm_80"}) items.push_back({scale_request(), target});
    std::string pack, again, why;
    PackReport report;
    ASSERT_TRUE(build_pack(test_sources(), items, options, &pack, &report, &why)) << why;
    EXPECT_EQ(report.compiled, 3u);
    EXPECT_EQ(report.cached, 0u);
    ASSERT_TRUE(build_pack(test_sources(), items, options, &again, &report, &why)) << why;
    EXPECT_EQ(report.compiled, 0u);
    EXPECT_EQ(report.cached, 3u);
    EXPECT_EQ(again, pack);
    StoreOptions without = options_;
    without.compiler_path = scratch_ / "none";
    without.disk_cache = false;
    std::unique_ptr<Store> store;
    ASSERT_EQ(open_store(without, test_sources(), pack, &store), ATTN_OK) << last_error();
    for (const char *arch : {"sm_80", "sm_89", "sm_90a", "sm_120a"}) {
        Image image;
        ASSERT_EQ(store->find(scale_request(), arch, true, &image), ATTN_OK) << last_error();
        EXPECT_EQ(image.origin, Origin::embedded);
        EXPECT_EQ(image.is_ptx, std::strcmp(arch, "sm_120a") == 0);
    }
    items.push_back({scale_request(4), "sm_500"});
    EXPECT_FALSE(build_pack(test_sources(), items, options, &pack, &report, &why));
    EXPECT_NE(why.find("for sm_500: NVRTC"), std::string::npos) << why;
}

} // namespace
} // namespace attn::kernel

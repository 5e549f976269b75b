// The real compiler, where there is one.
#include "cubin.h"
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

TEST_F(NvrtcTest, WhatAKernelTakes)
{
    const auto resources = [&](const char *offset) {
        Request request = scale_request();
        request.generated = std::string("__device__ __forceinline__ float offset() { ") + offset + " }\n";
        Image image;
        EXPECT_EQ(store_->find(request, "sm_80", true, &image), ATTN_OK) << last_error();
        const auto kernels = read_cubin(std::string(static_cast<const char *>(image.data), image.bytes));
        EXPECT_EQ(kernels.size(), 1u);
        EXPECT_EQ(kernels[0].name, "attn_test_scale");
        return kernels[0];
    };
    const KernelResources plain = resources("return 1.0f;");
    EXPECT_GE(plain.registers, 4);
    EXPECT_LE(plain.registers, 24);
    EXPECT_EQ(plain.local_bytes, 0);
    EXPECT_EQ(plain.shared_bytes, 0);
    const KernelResources large =
        resources("__shared__ volatile float s[100]; volatile float l[50]; s[threadIdx.x] = 1.0f; "
                  "l[threadIdx.x % 50] = s[99 - threadIdx.x]; return l[threadIdx.x % 7];");
    EXPECT_EQ(large.local_bytes, 200);
    EXPECT_EQ(large.shared_bytes, 400);
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
    std::vector<PackItem> items;
    for (const char *target : {"sm_80", "sm_90a", "compute_80"}) items.push_back({scale_request(), target});
    std::string pack, why;
    for (const size_t compiled : {3, 0}) {
        PackBuilder builder(test_sources(), options_);
        std::vector<PackImage> images;
        ASSERT_TRUE(builder.open(&why)) << why;
        ASSERT_TRUE(builder.make_all(items, 2, &images, &why)) << why;
        EXPECT_EQ(builder.compiled(), compiled);
        EXPECT_EQ(builder.cached(), 3 - compiled);
        EXPECT_EQ(builder.compiler().empty(), compiled == 0);
        const std::string bytes = write_pack(images);
        EXPECT_TRUE(pack.empty() || bytes == pack);
        pack = bytes;
    }
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
    PackBuilder builder(test_sources(), options_);
    PackImage image;
    EXPECT_FALSE(builder.make({scale_request(4), "sm_500"}, &image, &why));
    EXPECT_NE(why.find("does not know sm_500"), std::string::npos) << why;
}

} // namespace
} // namespace attn::kernel

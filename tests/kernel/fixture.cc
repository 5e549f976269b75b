#include "fixture.h"

#include "kernel/key.h"

#include <dlfcn.h>

namespace attn::kernel {

void KernelTest::SetUp()
{
    void *library = dlopen(ATTN_FAKE_NVRTC, RTLD_NOW | RTLD_LOCAL);
    ASSERT_TRUE(library) << dlerror();
    const auto get = reinterpret_cast<FakeNvrtc *(*)()>(dlsym(library, "fake_nvrtc"));
    ASSERT_TRUE(get);
    fake_ = get();
    fake_->version = 13000;
    fake_->latest = 120;
    fake_->milliseconds = 0;
    fake_->failing = nullptr;
    fake_->log_lines = 1;
    fake_->compiles = 0;
    ASSERT_EQ(fake_->programs, 0) << "of an earlier test";
}

StoreOptions KernelTest::options() const
{
    StoreOptions options;
    options.compiler_path = ATTN_FAKE_NVRTC;
    options.cache_dir = scratch_ / "cache";
    return options;
}

std::unique_ptr<Store> KernelTest::open(const StoreOptions &options, std::string_view pack)
{
    std::unique_ptr<Store> store;
    EXPECT_EQ(open_store(options, test_sources(), pack, &store), ATTN_OK) << last_error();
    return store;
}

std::string KernelTest::make_pack(const std::vector<std::string> &targets, int factor, int32_t compiler)
{
    const Request request = scale_request(factor);
    Digest digest;
    std::string why;
    EXPECT_TRUE(digest_request(test_sources(), request, &digest, &why)) << why;
    std::vector<PackImage> images;
    for (const std::string &target : targets) {
        PackImage image;
        image.entry.key = key_of(digest, target);
        image.entry.target = target;
        image.entry.compiler = compiler;
        image.entry.is_ptx = target.rfind("compute_", 0) == 0;
        image.entry.label = label_of(request);
        image.image = "packed for " + target;
        images.push_back(image);
    }
    return write_pack(images);
}

} // namespace attn::kernel

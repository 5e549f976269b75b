// Where kernels are found, in which order, and what is said when they are not. With the fake compiler.
#include "fixture.h"

#include "kernel/nvrtc.h"

#include <barrier>
#include <cstring>
#include <thread>

namespace attn::kernel {
namespace {

std::string text_of(const Image &image)
{
    return std::string(static_cast<const char *>(image.data), image.bytes);
}

bool contains(const std::string &text, const std::string &part)
{
    return text.find(part) != std::string::npos;
}

class StoreTest : public KernelTest {
protected:
    /// Finds the test kernel; its failure is a failure of the test.
    Image find(Store *store, const char *arch = "sm_90a", bool compile = true)
    {
        Image image;
        EXPECT_EQ(store->find(scale_request(), arch, compile, &image), ATTN_OK) << last_error();
        return image;
    }
    /// The message of a find() that must fail.
    std::string failure(Store *store, const char *arch = "sm_90a", bool compile = true)
    {
        Image image;
        EXPECT_EQ(store->find(scale_request(), arch, compile, &image), ATTN_ERROR_COMPILE);
        return last_error();
    }
    /// The message of an open_store() that must fail.
    std::string refusal(const StoreOptions &options)
    {
        std::unique_ptr<Store> store;
        EXPECT_EQ(open_store(options, test_sources(), {}, &store), ATTN_ERROR_INVALID);
        EXPECT_FALSE(store);
        return last_error();
    }
};

TEST_F(StoreTest, WhatTheCompilerIsGiven)
{
    const auto store = open(options());
    const Image image = find(store.get());
    EXPECT_EQ(image.origin, Origin::compiled);
    EXPECT_FALSE(image.is_ptx);
    const std::string text = text_of(image);
    for (const char *part : {"--std=c++20\n", "-default-device\n", "--gpu-architecture=sm_90a\n", "-DSCALE=3\n",
                             "test/scale.cuh\n", "attn_generated.cuh\n__device__ inline float offset()",
                             "test/index.h\n// Which", "test/types.h\n// Integers"})
        EXPECT_TRUE(contains(text, part)) << part << "\nin\n" << text;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(image.data) % 16, 0u);
}

TEST_F(StoreTest, MemoryThenDisk)
{
    {
        const auto store = open(options());
        const Image first = find(store.get()), second = find(store.get());
        EXPECT_EQ(first.data, second.data);
        EXPECT_EQ(fake().compiles, 1);
        find(store.get(), "sm_80");
        EXPECT_EQ(fake().compiles, 2);
    }
    const auto store = open(options());
    EXPECT_TRUE(store->has(scale_request(), "sm_90a"));
    EXPECT_FALSE(store->has(scale_request(), "sm_89"));
    const Image image = find(store.get(), "sm_90a", false);
    EXPECT_EQ(image.origin, Origin::disk);
    EXPECT_TRUE(contains(text_of(image), "--gpu-architecture=sm_90a\n"));
    EXPECT_EQ(fake().compiles, 2);
    EXPECT_EQ(fake().programs, 0);
}

TEST_F(StoreTest, EmbeddedBeforeNamedBeforeDiskBeforePtxBeforeCompiler)
{
    StoreOptions with = options();
    const std::string embedded = make_pack({"sm_90a"}), ptx = make_pack({"compute_80"});
    find(open(with).get()); // now on the disk
    EXPECT_EQ(fake().compiles, 1);
    write_file(scratch_ / "a.attnpack", make_pack({"sm_90a"}));
    write_file(scratch_ / "ptx.attnpack", ptx);
    const auto origin = [&](std::string_view pack, const std::string &path) {
        with.kernel_path = path;
        const auto store = open(with, pack);
        const Image image = find(store.get());
        EXPECT_EQ(image.is_ptx, contains(text_of(image), "compute_80"));
        return image.origin;
    };
    EXPECT_EQ(origin(embedded, scratch_ / "a.attnpack"), Origin::embedded);
    EXPECT_EQ(origin({}, scratch_ / "a.attnpack"), Origin::pack);
    EXPECT_EQ(origin(ptx, scratch_ / "a.attnpack"), Origin::pack) << "a cubin before PTX";
    EXPECT_EQ(origin(ptx, scratch_ / "ptx.attnpack"), Origin::disk);
    with.disk_cache = false;
    EXPECT_EQ(origin(ptx, scratch_ / "ptx.attnpack"), Origin::embedded);
    EXPECT_EQ(origin({}, scratch_ / "ptx.attnpack"), Origin::pack);
    EXPECT_EQ(fake().compiles, 1);
    EXPECT_EQ(origin({}, ""), Origin::compiled);
}

TEST_F(StoreTest, PacksNeedNoCompiler)
{
    StoreOptions with = options();
    with.compiler_path = scratch_ / "none.so";
    with.disk_cache = false;
    const std::string pack = make_pack({"sm_80", "compute_80"});
    const auto store = open(with, pack);
    EXPECT_EQ(text_of(find(store.get(), "sm_80")), "packed for sm_80");
    EXPECT_EQ(text_of(find(store.get(), "sm_86")), "packed for sm_80");
    const Image image = find(store.get(), "sm_120a");
    EXPECT_EQ(text_of(image), "packed for compute_80");
    EXPECT_TRUE(image.is_ptx);
    EXPECT_EQ(static_cast<const char *>(image.data)[image.bytes], 0);
    const std::string message = failure(store.get(), "sm_75");
    EXPECT_TRUE(contains(message, "kernel attn_test_scale of test/scale.cuh, SCALE=3")) << message;
    EXPECT_TRUE(contains(message, "for sm_75: not in the embedded pack, no packs, disk cache off; "
                                  "attn_options.compiler_path = " +
                                      scratch_ / "none.so: "))
        << message;
}

TEST_F(StoreTest, TheBestTargetOfAnyPack)
{
    StoreOptions with = options();
    write_file(scratch_ / "86.attnpack", make_pack({"sm_86"}));
    with.kernel_path = scratch_ / "86.attnpack";
    const std::string pack = make_pack({"sm_80"});
    const auto store = open(with, pack);
    EXPECT_EQ(text_of(find(store.get(), "sm_89")), "packed for sm_86");
    EXPECT_EQ(text_of(find(store.get(), "sm_80")), "packed for sm_80");
}

TEST_F(StoreTest, WhatTheDriverCannotLoadIsPassedOver)
{
    StoreOptions with = options();
    with.driver = 12080;
    fake().version = 12060;
    const std::string made_by_13 = make_pack({"sm_90a"}, 3, 13000), ptx_of_12_9 = make_pack({"compute_80"}, 3, 12090);
    EXPECT_EQ(find(open(with, made_by_13).get()).origin, Origin::compiled);
    with.cache_dir = scratch_ / "second";
    EXPECT_EQ(find(open(with, ptx_of_12_9).get()).origin, Origin::compiled);
    with.cache_dir = scratch_ / "third";
    const std::string message = failure(open(with, made_by_13).get(), "sm_90a", false);
    EXPECT_TRUE(contains(message, "sm_90a code of NVRTC 13.0 is there, which the driver (CUDA 12.8) cannot load"))
        << message;
    fake().version = 13000;
    EXPECT_TRUE(contains(failure(open(with).get()), "is NVRTC 13.0, whose code the driver (CUDA 12.8) cannot load"))
        << last_error();
    with.driver = 13000;
    EXPECT_EQ(find(open(with, made_by_13).get()).origin, Origin::embedded);
}

TEST_F(StoreTest, ALaterDeviceThanTheCompiler)
{
    fake().latest = 100;
    for (const Origin expected : {Origin::compiled, Origin::disk}) {
        const auto store = open(options());
        const Image image = find(store.get(), "sm_130a");
        EXPECT_EQ(image.origin, expected);
        EXPECT_TRUE(image.is_ptx);
        EXPECT_TRUE(contains(text_of(image), "--gpu-architecture=compute_100\n"));
    }
    EXPECT_EQ(fake().compiles, 1);
    const auto store = open(options());
    EXPECT_TRUE(contains(failure(store.get(), "sm_75"), " does not know sm_75")) << last_error();
    EXPECT_TRUE(contains(failure(store.get(), "gfx942"), "not for gfx942")) << last_error();
}

TEST_F(StoreTest, CompilingNotWanted)
{
    StoreOptions with = options();
    const auto store = open(with);
    EXPECT_TRUE(contains(failure(store.get(), "sm_90a", false), "the caller does not wait for a compiler"));
    with.compile = false;
    EXPECT_TRUE(contains(failure(open(with).get()), "the handle's flags forbid it"));
    EXPECT_EQ(fake().compiles, 0);
    EXPECT_FALSE(std::filesystem::exists(with.cache_dir)) << "nothing to save, so no directory";
    find(store.get());
    EXPECT_EQ(find(open(with).get()).origin, Origin::disk);
    with.disk_cache = false;
    EXPECT_TRUE(contains(failure(open(with).get()), "disk cache off")) << last_error();
}

TEST_F(StoreTest, NoDiskCache)
{
    StoreOptions with = options();
    with.disk_cache = false;
    find(open(with).get());
    find(open(with).get());
    EXPECT_EQ(fake().compiles, 2);
    EXPECT_FALSE(std::filesystem::exists(with.cache_dir));
}

TEST_F(StoreTest, EveryFailureOfTheCompiler)
{
    StoreOptions with = options();
    with.disk_cache = false;
    for (const char *function : {"nvrtcVersion", "nvrtcGetNumSupportedArchs", "nvrtcGetSupportedArchs",
                                 "nvrtcCreateProgram", "nvrtcCompileProgram", "nvrtcGetCUBINSize", "nvrtcGetCUBIN"}) {
        fake().failing = function;
        const auto store = open(with);
        EXPECT_GT(failure(store.get()).size(), 40u) << function;
        EXPECT_EQ(fake().programs, 0) << function;
        const bool loads = std::strstr(function, "Program") || std::strstr(function, "CUBIN");
        EXPECT_EQ(contains(store->compiler(), "NVRTC 13.0"), loads) << store->compiler();
        fake().failing = nullptr;
        if (loads) find(store.get()); // a failure does not stay
    }
    fake().latest = 90;
    for (const char *function : {"nvrtcGetPTXSize", "nvrtcGetPTX"}) {
        fake().failing = function;
        EXPECT_TRUE(contains(failure(open(with).get(), "sm_120a"), "FAKE_ERROR")) << function;
    }
    fake().version = 11080;
    fake().failing = nullptr;
    EXPECT_TRUE(contains(failure(open(with).get()), "is NVRTC 11.8: must be 12.0 or later")) << last_error();
}

TEST_F(StoreTest, TheLogIsCutAtALine)
{
    fake().failing = "nvrtcCompileProgram";
    std::string message = failure(open(options()).get());
    EXPECT_TRUE(contains(message, "FAKE_ERROR:\nerror 0: fake")) << message;
    EXPECT_FALSE(contains(message, "more lines"));
    fake().log_lines = 1000;
    message = failure(open(options()).get());
    EXPECT_TRUE(contains(message, "error 100: fake\n")) << message;
    EXPECT_TRUE(contains(message, " more lines)")) << message;
    EXPECT_LT(message.size(), 4095u) << "nothing of it was cut by the message itself";
    fake().log_lines = 0;
    EXPECT_TRUE(contains(failure(open(options()).get()), "no log")) << last_error();
    fake().failing = "nvrtcGetProgramLog";
    EXPECT_FALSE(std::filesystem::exists(options().cache_dir)) << "what failed is not kept";
}

TEST_F(StoreTest, NoCompilerAnywhere)
{
    StoreOptions with = options();
    with.compiler_path = scratch_ / "text";
    write_file(with.compiler_path, "no library");
    EXPECT_TRUE(contains(failure(open(with).get()), "attn_options.compiler_path = " + with.compiler_path + ": "));
    with.compiler_path = "libm.so.6";
    EXPECT_TRUE(contains(failure(open(with).get()), "a function is missing")) << last_error();
}

// The loader first; then what an active Python environment and a toolkit bring.
TEST_F(StoreTest, WhereCompilersAreSearched)
{
    const std::string packages = scratch_ / "lib/python3.11/site-packages/nvidia/";
    std::filesystem::create_directories(packages);
    const Variable environment("VIRTUAL_ENV", scratch_.path().c_str()), conda("CONDA_PREFIX", "relative/path");
    const Variable toolkit("CUDA_HOME", "/toolkit"), other("CUDA_PATH", nullptr);
    const std::vector<std::string> expected = {"libnvrtc.so.13",
                                               "libnvrtc.so.12",
                                               packages + "cu13/lib/libnvrtc.so.13",
                                               packages + "cu13/lib/libnvrtc.so.12",
                                               packages + "cuda_nvrtc/lib/libnvrtc.so.13",
                                               packages + "cuda_nvrtc/lib/libnvrtc.so.12",
                                               scratch_ / "lib/libnvrtc.so.13",
                                               scratch_ / "lib/libnvrtc.so.12",
                                               "/toolkit/lib64/libnvrtc.so.13",
                                               "/toolkit/lib64/libnvrtc.so.12",
                                               "/usr/local/cuda/lib64/libnvrtc.so.13",
                                               "/usr/local/cuda/lib64/libnvrtc.so.12"};
    EXPECT_EQ(compiler_places(), expected);
}

TEST_F(StoreTest, TwoThreadsCompileOnce)
{
    fake().milliseconds = 50;
    constexpr int kThreads = 8;
    const auto store = open(options());
    std::barrier start(kThreads);
    std::vector<Image> images(kThreads);
    std::vector<std::thread> threads;
    std::atomic<int> failures{0};
    for (int i = 0; i < kThreads; ++i)
        threads.emplace_back([&, i] {
            start.arrive_and_wait();
            // Two kernels: different ones may be compiled at the same time.
            const size_t index = static_cast<size_t>(i);
            if (store->find(scale_request(i % 2), "sm_90a", true, &images[index]) != ATTN_OK) ++failures;
        });
    for (std::thread &thread : threads) thread.join();
    EXPECT_EQ(failures, 0);
    EXPECT_EQ(fake().compiles, 2);
    for (size_t i = 2; i < kThreads; ++i) EXPECT_EQ(images[i].data, images[i % 2].data);
}

TEST_F(StoreTest, ManyThreadsFailOnce)
{
    fake().milliseconds = 100;
    fake().failing = "nvrtcCompileProgram";
    constexpr int kThreads = 4;
    const auto store = open(options());
    std::barrier start(kThreads);
    std::vector<std::thread> threads;
    std::atomic<int> failures{0};
    for (int i = 0; i < kThreads; ++i)
        threads.emplace_back([&] {
            start.arrive_and_wait();
            Image image;
            if (store->find(scale_request(), "sm_90a", true, &image) == ATTN_ERROR_COMPILE &&
                contains(last_error(), "FAKE_ERROR"))
                ++failures;
        });
    for (std::thread &thread : threads) thread.join();
    EXPECT_EQ(failures, kThreads);
    EXPECT_LE(fake().compiles, kThreads);
}

TEST_F(StoreTest, WhoDoesNotWaitIsNotKept)
{
    fake().milliseconds = 400;
    const auto store = open(options());
    std::thread slow([&] { find(store.get()); });
    while (fake().compiles == 0) std::this_thread::yield();
    EXPECT_FALSE(store->has(scale_request(), "sm_90a"));
    EXPECT_TRUE(contains(failure(store.get(), "sm_90a", false), "another thread is compiling it")) << last_error();
    slow.join();
    EXPECT_TRUE(store->has(scale_request(), "sm_90a"));
}

TEST_F(StoreTest, HasLeavesTheMessageAlone)
{
    const auto store = open(options());
    const std::string before = failure(store.get(), "gfx942");
    EXPECT_FALSE(store->has(scale_request(4), "sm_90a"));
    EXPECT_EQ(last_error(), before);
}

TEST_F(StoreTest, KernelPath)
{
    const std::string directory = scratch_ / "packs";
    std::filesystem::create_directory(directory);
    chmod(directory.c_str(), 0700);
    write_file(directory + "/b.attnpack", make_pack({"sm_90a"}));
    write_file(directory + "/notes.txt", "no pack");
    write_file(scratch_ / "other", make_pack({"sm_80"}));
    StoreOptions with = options();
    with.compile = false;
    with.kernel_path = ":" + directory + "::" + (scratch_ / "other") + ":";
    EXPECT_EQ(find(open(with).get(), "sm_90a").origin, Origin::pack);
    EXPECT_EQ(find(open(with).get(), "sm_80").origin, Origin::pack);
    {
        const Variable variable("ATTN_KERNEL_PATH", directory.c_str());
        EXPECT_EQ(find(open(with).get(), "sm_80").origin, Origin::pack) << "the option has the last word";
        with.kernel_path.clear();
        EXPECT_EQ(find(open(with).get(), "sm_90a").origin, Origin::pack);
    }
    const Variable variable("ATTN_KERNEL_PATH", (scratch_ / "none").c_str());
    EXPECT_EQ(refusal(with), "ATTN_KERNEL_PATH: " + (scratch_ / "none") + ": No such file or directory");
    with.kernel_path = "packs";
    EXPECT_EQ(refusal(with), "attn_options.kernel_path: packs: must be an absolute path: code is never loaded from the "
                             "current directory");
    write_file(directory + "/c.attnpack", "no pack");
    with.kernel_path = directory;
    EXPECT_EQ(refusal(with), "attn_options.kernel_path: " + directory + ": c.attnpack is no pack of libattn");
}

TEST_F(StoreTest, ADamagedPackIsNotUsed)
{
    std::string bytes = make_pack({"sm_90a"});
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    StoreOptions with = options();
    with.compile = false;
    EXPECT_TRUE(contains(failure(open(with, bytes).get()), "a pack is damaged: the checksum of attn_test_scale"))
        << last_error();
    with.compile = true;
    EXPECT_EQ(find(open(with, bytes).get()).origin, Origin::compiled);
    bytes[20] = 1;
    std::unique_ptr<Store> store;
    EXPECT_EQ(open_store(with, test_sources(), bytes, &store), ATTN_ERROR_INTERNAL);
}

TEST(StoreVariable, TheEmbeddedPackIsPassedOver)
{
    StoreOptions options;
    options.compile = options.disk_cache = false;
    Request request;
    request.source = "backends/gpu/dense/combine.cuh", request.entry = "attn_dense_combine";
    std::unique_ptr<Store> store;
    ASSERT_EQ(setenv("ATTN_KERNEL_SOURCES", "nvrtc", 1), 0);
    ASSERT_EQ(open_store(options, &store), ATTN_OK) << last_error();
    EXPECT_FALSE(store->has(request, "sm_90a"));
    Image image;
    EXPECT_EQ(store->find(request, "sm_90a", false, &image), ATTN_ERROR_COMPILE);
    EXPECT_NE(std::string(last_error()).find("no embedded pack"), std::string::npos) << last_error();
    ASSERT_EQ(setenv("ATTN_KERNEL_SOURCES", "packs", 1), 0);
    EXPECT_EQ(open_store(options, &store), ATTN_ERROR_INVALID);
    EXPECT_NE(std::string(last_error()).find("ATTN_KERNEL_SOURCES = packs"), std::string::npos) << last_error();
    unsetenv("ATTN_KERNEL_SOURCES");
}

} // namespace
} // namespace attn::kernel

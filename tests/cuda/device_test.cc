// A device: what is known of it, loading, uploading.
#include "tests/cuda/session.h"

#include <cstring>

namespace attn::cuda::test {
namespace {

class Device : public Session {};

TEST_F(Device, Facts)
{
    const auto device = open();
    const gpu::Facts &facts = device->facts();
    EXPECT_EQ(facts.arch, "sm_90a");
    EXPECT_EQ(facts.major, 9);
    EXPECT_EQ(facts.minor, 0);
    EXPECT_EQ(facts.compute_units, 132);
    EXPECT_EQ(facts.shared_bytes_block, 232448);
    EXPECT_EQ(facts.shared_bytes_unit, 233472);
    EXPECT_EQ(facts.l2_bytes, 50 << 20);
    EXPECT_EQ(facts.memory_bytes, int64_t{80} << 30);
    DeviceOptions second;
    second.device_id = 1;
    const auto other = open(second);
    EXPECT_EQ(other->facts().arch, "sm_80");
    EXPECT_EQ(other->facts().compute_units, 108);
}

TEST_F(Device, Architectures)
{
    const struct {
        int major, minor;
        const char *name;
    } table[] = {{7, 5, "sm_75"},  {8, 0, "sm_80"},    {8, 6, "sm_86"},    {8, 9, "sm_89"},
                 {9, 0, "sm_90a"}, {10, 0, "sm_100a"}, {10, 3, "sm_103a"}, {12, 0, "sm_120a"}};
    for (const auto &[major, minor, name] : table) EXPECT_EQ(arch_name(major, minor), name);
}

/// A slice of a device is a device with fewer SMs; a driver that cannot tell those of a context has told enough.
TEST_F(Device, UnitsWithoutResources)
{
    fake_cuda_set_attribute(0, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 16);
    EXPECT_EQ(open()->facts().compute_units, 16);
    fake_cuda_fail("cuCtxGetDevResource", 1, CUDA_ERROR_NOT_SUPPORTED);
    EXPECT_EQ(open()->facts().compute_units, 16);
    EXPECT_TRUE(fake_cuda_has_failed());
}

TEST_F(Device, LoadsOnce)
{
    const auto device = open();
    gpu::Kernel first, again, other;
    EXPECT_TRUE(device->has(request_for("alpha")));
    ASSERT_EQ(device->load(request_for("alpha"), true, 256, 100 << 10, &first), ATTN_OK) << last_error();
    EXPECT_NE(first.function, nullptr);
    EXPECT_EQ(first.registers, 64);
    EXPECT_EQ(first.local_bytes, 0);
    EXPECT_EQ(first.blocks_per_unit, 2); // of 101 KiB each in 228
    EXPECT_EQ(first.origin, kernel::Origin::compiled);
    fake_cuda_clear_calls();
    ASSERT_EQ(device->load(request_for("alpha"), true, 256, 100 << 10, &again), ATTN_OK);
    EXPECT_EQ(again.function, first.function);
    EXPECT_EQ(again.blocks_per_unit, 2);
    EXPECT_EQ(fake_cuda_all_calls(), 0) << "a kernel that is loaded costs no driver call";
    ASSERT_EQ(device->load(request_for("alpha"), true, 1024, 0, &again), ATTN_OK);
    EXPECT_EQ(again.function, first.function);
    EXPECT_EQ(again.blocks_per_unit, 1); // of 64 Ki registers in 64 Ki
    EXPECT_EQ(record_->finds, 1);

    for (const kernel::Request &request :
         {kernel::Request{"tests/fake.cuh", "alpha", {"A=1"}, ""},
          kernel::Request{"tests/fake.cuh", "alpha", {"A=1", "B=2"}, "x"},
          kernel::Request{"tests/other.cuh", "alpha", {"A=1", "B=2"}, ""}, request_for("beta")}) {
        ASSERT_EQ(device->load(request, true, 256, 0, &other), ATTN_OK) << last_error();
        EXPECT_NE(other.function, first.function);
    }
    EXPECT_EQ(record_->finds, 5);
    EXPECT_EQ(fake_cuda_count_live().modules, 5);
}

TEST_F(Device, RefusesWhatDoesNotFit)
{
    const auto device = open();
    gpu::Kernel kernel;
    EXPECT_TRUE(failed_with(device->load(request_for("alpha"), true, 2048, 0, &kernel), ATTN_ERROR_UNSUPPORTED,
                            {"alpha in tests/fake.cuh", "2048 threads", "does not fit an SM"}));
    EXPECT_TRUE(failed_with(device->load(request_for("alpha"), true, 128, 256 << 10, &kernel), ATTN_ERROR_RUNTIME,
                            {"cuFuncSetAttribute: CUDA_ERROR_INVALID_VALUE (1)", "262144 bytes of shared memory"}));
    EXPECT_EQ(device->load(request_for("alpha"), true, 128, 0, &kernel), ATTN_OK);
}

TEST_F(Device, StoreRefuses)
{
    const auto device = open();
    gpu::Kernel kernel;
    record_->failure = ATTN_ERROR_COMPILE;
    EXPECT_TRUE(failed_with(device->load(request_for("alpha"), true, 128, 0, &kernel), ATTN_ERROR_COMPILE,
                            {"fake store: no alpha"}));
    record_->failure = ATTN_OK;
    EXPECT_EQ(device->load(request_for("alpha"), true, 128, 0, &kernel), ATTN_OK) << "a failure is not kept";
}

TEST_F(Device, DriverRefusesAnImage)
{
    const auto device = open();
    gpu::Kernel kernel;
    record_->broken_images = true;
    EXPECT_TRUE(failed_with(device->load(request_for("alpha"), true, 128, 0, &kernel), ATTN_ERROR_COMPILE,
                            {"cuModuleLoadDataEx: CUDA_ERROR_INVALID_IMAGE (200)", "PTX of alpha in tests/fake.cuh",
                             "fake: neither ELF nor PTX"}));
    EXPECT_EQ(fake_cuda_count_live().modules, 0);
}

TEST_F(Device, Uploads)
{
    const auto device = open();
    unsigned char bytes[1000];
    for (size_t i = 0; i < sizeof bytes; ++i) bytes[i] = static_cast<unsigned char>(i * 7);
    std::unique_ptr<gpu::Buffer> first, second, empty;
    ASSERT_EQ(device->upload(bytes, sizeof bytes, &first), ATTN_OK) << last_error();
    ASSERT_EQ(device->upload(bytes, 1, &second), ATTN_OK);
    ASSERT_EQ(device->upload(nullptr, 0, &empty), ATTN_OK);
    EXPECT_EQ(memcmp(first->data(), bytes, sizeof bytes), 0);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(first->data()) % 256, 0u);
    EXPECT_EQ(empty->data(), nullptr);
    EXPECT_EQ(fake_cuda_count_live().allocations, 2);
    EXPECT_EQ(fake_cuda_count_live().bytes, 1001);
    first.reset();
    EXPECT_EQ(fake_cuda_count_live().bytes, 1);
}

struct Allocator {
    alignas(256) char memory[1024];
    size_t offset = 0;
    bool empty = false;
    int allocations = 0, frees = 0;
    void *current_at_free = nullptr;

    static void *ATTN_CALL alloc(void *self, size_t)
    {
        auto *allocator = static_cast<Allocator *>(self);
        if (allocator->empty) return nullptr;
        ++allocator->allocations;
        return allocator->memory + allocator->offset;
    }
    static void ATTN_CALL free(void *self, void *memory, size_t bytes)
    {
        auto *allocator = static_cast<Allocator *>(self);
        EXPECT_EQ(memory, allocator->memory + allocator->offset);
        EXPECT_EQ(bytes, 100u);
        ++allocator->frees;
        allocator->current_at_free = fake_cuda_current();
    }
};

TEST_F(Device, CallersAllocator)
{
    Allocator allocator;
    DeviceOptions options;
    options.alloc = Allocator::alloc, options.free = Allocator::free, options.alloc_ctx = &allocator;
    const auto device = open(options);
    const char bytes[100] = {3, 1, 4};
    std::unique_ptr<gpu::Buffer> buffer;
    ASSERT_EQ(device->upload(bytes, sizeof bytes, &buffer), ATTN_OK) << last_error();
    EXPECT_EQ(memcmp(allocator.memory, bytes, sizeof bytes), 0);
    buffer.reset();
    EXPECT_EQ(allocator.frees, 1);
    EXPECT_EQ(allocator.current_at_free, fake_cuda_primary_context(0));
    allocator.offset = 64;
    EXPECT_TRUE(failed_with(device->upload(bytes, sizeof bytes, &buffer), ATTN_ERROR_INVALID,
                            {"attn_options.device_alloc returned", "must be a multiple of 256"}));
    EXPECT_EQ(allocator.frees, 2);
    allocator.empty = true;
    EXPECT_TRUE(failed_with(device->upload(bytes, sizeof bytes, &buffer), ATTN_ERROR_MEMORY,
                            {"attn_options.device_alloc returned NULL for 100 bytes"}));
    EXPECT_EQ(allocator.allocations, allocator.frees);
    EXPECT_EQ(fake_cuda_calls("cuMemAlloc"), 0);
    EXPECT_EQ(fake_cuda_calls("cuMemFree"), 0);
}

/// Planning while some stream is captured, whatever this thread's own mode.
TEST_F(Device, PlansDuringACapture)
{
    for (const int mode : {CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL}) {
        fake_cuda_set_capture_mode(mode);
        fake_cuda_begin_capture();
        {
            const auto device = open();
            gpu::Kernel kernel;
            std::unique_ptr<gpu::Buffer> buffer;
            EXPECT_EQ(device->load(request_for("alpha"), true, 128, 64 << 10, &kernel), ATTN_OK) << last_error();
            EXPECT_EQ(fake_cuda_capture_mode(), mode);
            EXPECT_EQ(device->upload("abc", 3, &buffer), ATTN_OK) << last_error();
            EXPECT_EQ(fake_cuda_capture_mode(), mode);
        }
        EXPECT_EQ(fake_cuda_capture_mode(), mode);
        fake_cuda_end_capture();
    }
    fake_cuda_set_capture_mode(CU_STREAM_CAPTURE_MODE_GLOBAL);
}

} // namespace
} // namespace attn::cuda::test

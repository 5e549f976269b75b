// Many threads on one device; under ThreadSanitizer too.
#include "tests/cuda/session.h"

#include <thread>
#include <vector>

namespace attn::cuda::test {
namespace {

class Concurrency : public Session {};

TEST_F(Concurrency, LoadUploadLaunch)
{
    constexpr int kThreads = 8, kRounds = 25, kKernels = 5;
    const auto device = open();
    std::vector<std::thread> threads;
    std::atomic<int> failures{0};
    for (int t = 0; t < kThreads; ++t)
        threads.emplace_back([&, t] {
            void *stream = fake_cuda_create_stream(fake_cuda_primary_context(0));
            for (int round = 0; round < kRounds; ++round) {
                const std::string name = "kernel" + std::to_string((round + t) % kKernels);
                gpu::Kernel kernel;
                std::unique_ptr<gpu::Buffer> buffer;
                attn_status status = device->load(request_for(name.c_str()), true, 128, 64 << 10, &kernel);
                if (status == ATTN_OK) status = device->upload(&round, sizeof round, &buffer);
                if (status == ATTN_OK) {
                    const gpu::Call call(*device, t % 2 ? stream : nullptr);
                    status = call.status();
                    void *pointer = buffer->data();
                    int number = round;
                    void *parameters[] = {&pointer, &number};
                    if (status == ATTN_OK)
                        status = device->launch(kernel, {1, 1, 1, 128, 64 << 10}, t % 2 ? stream : nullptr, parameters);
                }
                failures += status != ATTN_OK;
            }
            fake_cuda_destroy_stream(stream);
        });
    for (std::thread &thread : threads) thread.join();
    EXPECT_EQ(failures, 0);
    EXPECT_EQ(record_->finds, kKernels) << "each is looked for once";
    EXPECT_EQ(fake_cuda_count_live().modules, kKernels);
    EXPECT_EQ(fake_cuda_launch_count(), kThreads * kRounds);
}

TEST_F(Concurrency, DevicesComeAndGo)
{
    std::vector<std::thread> threads;
    std::atomic<int> failures{0};
    for (int t = 0; t < 6; ++t)
        threads.emplace_back([&, t] {
            const Driver *driver = nullptr;
            DeviceOptions options;
            options.device_id = t % 2;
            for (int round = 0; round < 20; ++round) {
                std::unique_ptr<CudaDevice> device;
                gpu::Kernel kernel;
                failures +=
                    open_driver(&driver) != ATTN_OK ||
                    CudaDevice::open(*driver, options, std::make_unique<FakeStore>(record_), &device) != ATTN_OK ||
                    device->load(request_for("alpha"), true, 128, 0, &kernel) != ATTN_OK;
            }
        });
    for (std::thread &thread : threads) thread.join();
    EXPECT_EQ(failures, 0);
}

} // namespace
} // namespace attn::cuda::test

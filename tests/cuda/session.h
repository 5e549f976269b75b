// What tests of the CUDA backend share: a clean fake driver, a store of made-up kernels, expectations of failures.
#ifndef ATTN_TESTS_CUDA_SESSION_H
#define ATTN_TESTS_CUDA_SESSION_H

#include "backends/cuda/device.h"
#include "tests/fake_cuda/fake_cuda.h"

#include <atomic>
#include <gtest/gtest.h>
#include <initializer_list>
#include <memory>
#include <string>

namespace attn::cuda::test {

/// Makes a kernel of any name, as PTX.
class FakeStore final : public kernel::Store {
public:
    struct Record {
        std::atomic<int> finds{0};
        std::atomic<attn_status> failure{ATTN_OK};
        bool broken_images = false;
        int parameters = 2; ///< Of every kernel.
    };

    explicit FakeStore(std::shared_ptr<Record> record) : record_(std::move(record)) {}
    attn_status find(const kernel::Request &request, const std::string &arch, bool compile,
                     kernel::Image *out) override;
    bool has(const kernel::Request &, const std::string &) override { return true; }
    std::string compiler() override { return "none"; }

private:
    std::shared_ptr<Record> record_;
};

/// Checks afterwards that nothing is left and that the driver saw no violation.
class Session : public testing::Test {
protected:
    void SetUp() override;
    void TearDown() override;

    /// Opens a device with a store of its own.
    std::unique_ptr<CudaDevice> open(const DeviceOptions &options = {});

    std::shared_ptr<FakeStore::Record> record_ = std::make_shared<FakeStore::Record>();
};

kernel::Request request_for(const char *entry);

/// "" if nothing is live, else what is.
std::string describe_live();
std::string violations();

/// Whether a call failed with a status and a message that has all parts.
testing::AssertionResult failed_with(attn_status got, attn_status wanted, std::initializer_list<std::string> parts);

/// A stream handle where one is passed.
inline void *special_stream(uintptr_t value)
{
    return reinterpret_cast<void *>(value); // NOLINT(performance-no-int-to-ptr)
}

} // namespace attn::cuda::test

#endif

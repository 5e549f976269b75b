// The kernel that writes bits of mask programs, on a GPU: as an interpreter and with the text of the program in it,
// against the definition of the conformance tests.
#include "device_memory.h"

#include "backends/cuda/device.h"
#include "backends/gpu/dense/mask_bits.h"
#include "kernel/store.h"
#include "tests/conformance/table_masks.h"
#include "tests/unit/core_random.h"
#include "tests/unit/mask_bits_call.h"
#include "tests/unit/mask_texts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>

namespace gpu_test {
namespace {

using namespace attn;

/// Of the device.
class DeviceCopies final : public mask_test::Memory {
public:
    void *upload(const void *data, size_t bytes) override
    {
        memory_.emplace_back(std::max<size_t>(bytes, 1));
        memory_.back().write(data, 0, bytes);
        return memory_.back().data();
    }
    void download(const void *from, void *to, size_t bytes) override
    {
        for (const DeviceMemory &memory : memory_)
            if (memory.data() == from) return memory.read(to, 0, bytes);
    }

private:
    std::deque<DeviceMemory> memory_;
};

class MaskBits : public testing::Test {
protected:
    void SetUp() override
    {
        const cuda::Driver *found = nullptr;
        ASSERT_EQ(cuda::open_driver(&found), ATTN_OK) << last_error();
        kernel::StoreOptions options;
        options.driver = found->version;
        ASSERT_EQ(kernel::open_store(options, &store_), ATTN_OK) << last_error();
        has_compiler_ = store_->compiler().rfind("NVRTC", 0) == 0;
        ASSERT_EQ(cuda::CudaDevice::open(*found, {}, std::move(store_), &device_), ATTN_OK) << last_error();
        context_ = std::make_unique<ContextScope>();
    }
    void run(const kernel::Request &request, const conformance::MaskProgram &definition, const MaskProgram &program,
             conformance::Random &random)
    {
        gpu::Kernel kernel;
        ASSERT_EQ(device_->load(request, has_compiler_, gpu::kMaskThreads, 0, &kernel), ATTN_OK) << last_error();
        EXPECT_EQ(kernel.local_bytes, 0);
        std::vector<conformance::Sequence> sequences;
        for (int64_t b = random.integer(1, 3); b > 0; --b) sequences.push_back(mask_test::draw_sequence(random, 300));
        DeviceCopies memory;
        mask_test::Call call(program, std::move(sequences), random, memory);
        call.prepare();
        void *parameters[] = {&call.p};
        {
            const gpu::Call entered(*device_, nullptr);
            ASSERT_EQ(entered.status(), ATTN_OK) << last_error();
            ASSERT_EQ(device_->launch(kernel, gpu::mask_bits_grid(call.p), nullptr, parameters), ATTN_OK)
                << last_error();
        }
        check(driver().ctx_synchronize(), "cuCtxSynchronize");
        call.compare(definition);
    }

    std::unique_ptr<kernel::Store> store_;
    bool has_compiler_ = false;
    std::unique_ptr<ContextScope> context_;
    std::unique_ptr<cuda::CudaDevice> device_;
};

TEST_F(MaskBits, Interpreter)
{
    conformance::Random random(attn::test::test_seed(), 4);
    for (int round = 0; round < 150 && !HasFailure(); ++round) {
        const std::string text = round < mask_test::kMaskTextCount ? mask_test::kMaskTexts[round]
                                                                   : random_mask(mask_test::case_of("none"), random);
        SCOPED_TRACE(text);
        const conformance::MaskProgram definition = conformance::parse_mask(text);
        run(gpu::mask_bits_request(), definition, mask_test::read(definition), random);
    }
}

TEST_F(MaskBits, TextOfPrograms)
{
    if (!has_compiler_) GTEST_SKIP() << "there is no compiler";
    conformance::Random random(attn::test::test_seed(), 5);
    for (int round = 0; round < mask_test::kMaskTextCount && !HasFailure(); ++round) {
        SCOPED_TRACE(mask_test::kMaskTexts[round]);
        const conformance::MaskProgram definition = conformance::parse_mask(mask_test::kMaskTexts[round]);
        const MaskProgram program = mask_test::read(definition);
        for (int again = 0; again < 3 && !HasFailure(); ++again)
            run(gpu::mask_bits_request(program), definition, program, random);
    }
}

} // namespace
} // namespace gpu_test

// Where the tensors of a CUDA plan may live.
#include "tests/cuda/session.h"

#include "arguments.h"

namespace attn::cuda::test {
namespace {

TEST(CudaArguments, Memory)
{
    TensorSpec spec;
    spec.slot = ATTN_SLOT_Q, spec.dtype = ATTN_FLOAT32, spec.ndim = 1, spec.bounds[0] = 4;
    const std::vector<TensorSpec> tensors = {spec};
    alignas(16) float memory[4] = {};
    Arguments matched;
    const auto match = [&](attn_device device, int32_t device_id) {
        attn_tensor view = {};
        view.data = memory, view.device = device, view.device_id = device_id, view.ndim = 1;
        view.dtype = ATTN_FLOAT32, view.shape[0] = 4, view.strides[0] = 1;
        const attn_arg arg = {ATTN_SLOT_Q, 0, &view};
        return match_arguments(tensors, ATTN_DEVICE_CUDA, 1, &arg, 1, &matched);
    };
    const struct {
        attn_device device;
        int32_t device_id;
    } taken[] = {{ATTN_DEVICE_DEFAULT, 0},      {ATTN_DEVICE_DEFAULT, 7},      {ATTN_DEVICE_CUDA, 1},
                 {ATTN_DEVICE_CUDA_MANAGED, 0}, {ATTN_DEVICE_CUDA_MANAGED, 1}, {ATTN_DEVICE_CUDA_HOST, 0}},
      refused[] = {{ATTN_DEVICE_CUDA, 0}, {ATTN_DEVICE_CPU, 0}, {ATTN_DEVICE_HIP, 1}, {ATTN_DEVICE_HIP_HOST, 0}};
    for (const auto &[device, device_id] : taken) EXPECT_EQ(match(device, device_id), ATTN_OK) << last_error();
    for (const auto &[device, device_id] : refused)
        EXPECT_TRUE(failed_with(
            match(device, device_id), ATTN_ERROR_INVALID,
            {"Q.device = " + std::to_string(device) + ":" + std::to_string(device_id), "must be 2:1 (cuda)"}));
}

} // namespace
} // namespace attn::cuda::test

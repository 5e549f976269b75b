// gpu::Device on the CUDA driver.
#ifndef ATTN_BACKENDS_CUDA_DEVICE_H
#define ATTN_BACKENDS_CUDA_DEVICE_H

#include "backends/cuda/context.h"
#include "backends/cuda/kernels.h"
#include "backends/gpu/device.h"

#include <mutex>

namespace attn::cuda {

/// What of attn_options a device needs.
struct DeviceOptions {
    int32_t device_id = 0;
    bool use_current_context = false;
    bool wait_for_compiler = true;
    attn_device_alloc alloc = nullptr; ///< NULL: the driver's.
    attn_device_free free = nullptr;
    void *alloc_ctx = nullptr;
};

class CudaDevice final : public gpu::Device {
public:
    /// Opens the context and reads the facts.
    [[nodiscard]] static attn_status open(const Driver &driver, const DeviceOptions &options,
                                          std::unique_ptr<kernel::Store> store, std::unique_ptr<CudaDevice> *out);
    ~CudaDevice() override;
    CudaDevice(const CudaDevice &) = delete;
    CudaDevice &operator=(const CudaDevice &) = delete;

    const Context &context() const noexcept { return *context_; }

    const gpu::Facts &facts() const noexcept override { return facts_; }
    [[nodiscard]] attn_status load(const kernel::Request &request, bool compile, uint32_t threads,
                                   uint32_t shared_bytes, gpu::Kernel *out) override;
    bool has(const kernel::Request &request) override;
    [[nodiscard]] attn_status count_clusters(const gpu::Kernel &kernel, const gpu::Grid &grid, int32_t *out) override;
    bool waits_for_compiler() const noexcept override { return options_.wait_for_compiler; }
    [[nodiscard]] attn_status upload(const void *data, size_t bytes, std::unique_ptr<gpu::Buffer> *out) override;

    [[nodiscard]] attn_status enter(void *stream) const noexcept override;
    void leave() const noexcept override { context_->pop(); }
    [[nodiscard]] attn_status encode(const gpu::TensorTiles &tiles, gpu::TensorMap *out) const noexcept override;
    [[nodiscard]] attn_status clear(void *memory, size_t count, void *stream) const noexcept override;
    [[nodiscard]] attn_status launch(const gpu::Kernel &kernel, const gpu::Grid &grid, void *stream,
                                     void **parameters) const noexcept override;

private:
    class DeviceBuffer;

    CudaDevice(const DeviceOptions &options, std::unique_ptr<kernel::Store> store, std::unique_ptr<Context> context);
    attn_status allocate(size_t bytes, void **out) const;
    void release(void *memory, size_t bytes) const noexcept;
    attn_status copy(void *to, const void *from, size_t bytes);

    DeviceOptions options_;
    std::unique_ptr<Context> context_;
    gpu::Facts facts_;
    KernelTable kernels_;
    std::mutex copy_mutex_;
    CUstream copy_stream_ = nullptr; ///< Made by the first upload; waits for no other stream and none waits for it.
};

/// "sm_90a": the name that the compiler takes, with the features of that architecture alone where there are any.
std::string arch_name(int32_t major, int32_t minor);

} // namespace attn::cuda

#endif

// The kernels that a device has loaded.
#ifndef ATTN_BACKENDS_CUDA_KERNELS_H
#define ATTN_BACKENDS_CUDA_KERNELS_H

#include "backends/cuda/context.h"
#include "backends/gpu/device.h"

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <unordered_map>

namespace attn::cuda {

/// Loads kernels into a context and keeps them until it goes. Thread-safe: two threads that want the same kernel load
/// it once, and do not wait for one that loads another.
class KernelTable {
public:
    KernelTable(const Context &context, std::unique_ptr<kernel::Store> store);
    ~KernelTable();
    KernelTable(const KernelTable &) = delete;
    KernelTable &operator=(const KernelTable &) = delete;

    [[nodiscard]] attn_status load(const kernel::Request &request, const std::string &arch, bool compile,
                                   uint32_t threads, uint32_t shared_bytes, gpu::Kernel *out);
    bool has(const kernel::Request &request, const std::string &arch);
    [[nodiscard]] attn_status count_clusters(const gpu::Kernel &kernel, const gpu::Grid &grid, int32_t *out);

private:
    struct Entry;

    attn_status fill(const kernel::Request &request, const std::string &arch, bool compile, Entry *entry);
    attn_status prepare(const kernel::Request &request, uint32_t threads, uint32_t shared_bytes, Entry *entry,
                        int32_t *blocks);

    const Context &context_;
    std::unique_ptr<kernel::Store> store_;
    std::mutex mutex_; ///< Of the table; each entry has its own.
    std::unordered_map<std::string, std::shared_ptr<Entry>> entries_;
    /// By function, blocks of a cluster, threads, bytes of shared memory.
    std::map<std::tuple<const void *, uint32_t, uint32_t, uint32_t>, int32_t> clusters_;
};

constexpr int kMostLaunchAttributes = 3;
/// What the driver is told of a launch, but for the stream; it refers to `attributes`. `programmatic`: the device can
/// do what Grid::programmatic asks for.
CUlaunchConfig launch_config(const gpu::Grid &grid, bool programmatic,
                             CUlaunchAttribute (&attributes)[kMostLaunchAttributes]) noexcept;

} // namespace attn::cuda

#endif

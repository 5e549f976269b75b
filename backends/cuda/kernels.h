// The kernels that a device has loaded.
#ifndef ATTN_BACKENDS_CUDA_KERNELS_H
#define ATTN_BACKENDS_CUDA_KERNELS_H

#include "backends/cuda/context.h"
#include "backends/gpu/device.h"

#include <memory>
#include <mutex>
#include <string>
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

private:
    struct Entry;

    attn_status fill(const kernel::Request &request, const std::string &arch, bool compile, Entry *entry);
    attn_status prepare(const kernel::Request &request, uint32_t threads, uint32_t shared_bytes, Entry *entry,
                        int32_t *blocks);

    const Context &context_;
    std::unique_ptr<kernel::Store> store_;
    std::mutex mutex_; ///< Of the table; each entry has its own.
    std::unordered_map<std::string, std::shared_ptr<Entry>> entries_;
};

} // namespace attn::cuda

#endif

// Compiles kernels for packs: of the build, which embeds one, and of `attn pack`.
#ifndef ATTN_SRC_KERNEL_PACK_BUILDER_H
#define ATTN_SRC_KERNEL_PACK_BUILDER_H

#include "disk_cache.h"
#include "nvrtc.h"
#include "pack.h"
#include "source.h"
#include "store.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace attn::kernel {

/// A kernel for a pack.
struct PackItem {
    Request request;
    std::string target; ///< "sm_90a", or "compute_80" for PTX.
};

/// Compiles one kernel after the other, on any number of threads. Takes from the disk cache what is there, and saves
/// what it compiles; loads the compiler only if something is missing. Of the options it reads those of the compiler and
/// of the disk cache.
class PackBuilder {
public:
    /// `strict`: a kernel that the compiler has a remark on is a failure, for example one whose products it serialises
    /// for want of registers.
    PackBuilder(const Sources &sources, StoreOptions options, bool strict = false)
        : sources_(sources), options_(std::move(options)), strict_(strict)
    {
    }
    /// False, with the reason, if the cache that the options name cannot be trusted.
    bool open(std::string *why) { return !options_.disk_cache || cache_.open(options_.cache_dir, why); }

    bool make(const PackItem &item, PackImage *out, std::string *why);
    /// All of them, with so many threads.
    bool make_all(const std::vector<PackItem> &items, int32_t threads, std::vector<PackImage> *out, std::string *why);

    size_t compiled() const noexcept { return compiled_.load(); }
    size_t cached() const noexcept { return cached_.load(); }
    std::string compiler() const { return compiler_ ? compiler_->name() : ""; } ///< "" if none was needed.
    std::string cache() const { return options_.disk_cache ? cache_.describe() : "no disk cache"; }

private:
    const Nvrtc *open_compiler(std::string *why);

    const Sources sources_;
    const StoreOptions options_;
    const bool strict_;
    DiskCache cache_;
    std::atomic<size_t> compiled_{0}, cached_{0};
    std::mutex compiler_mutex_;
    std::unique_ptr<Nvrtc> compiler_;
};

} // namespace attn::kernel

#endif

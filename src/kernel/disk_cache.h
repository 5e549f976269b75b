// The user's cache of compiled kernels: a directory with a file for each key, which is a pack of that kernel alone.
#ifndef ATTN_SRC_KERNEL_DISK_CACHE_H
#define ATTN_SRC_KERNEL_DISK_CACHE_H

#include "pack.h"
#include "trust.h"

#include <mutex>
#include <string>

namespace attn::kernel {

/// Thread-safe once open; other processes may use the directory at the same time. Files are written beside their place,
/// flushed and renamed, so a reader sees a whole file or none. A damaged file counts as missing, and the next save
/// replaces it. Where the directory cannot be written, nothing is kept.
class DiskCache {
public:
    /// Takes `named` (attn_options.cache_dir) if it is not empty, else ATTN_CACHE_DIR, else libattn in the directory
    /// for caches of the user ($XDG_CACHE_HOME, ~/.cache). The directory need not exist; it is created when something
    /// is to be saved. One that exists must be the user's alone. If it is not: false, with the reason, for a path that
    /// was named, and no cache for the user's own.
    bool open(const std::string &named, std::string *why);

    /// False if it is not there, or is not what was saved.
    bool load(const Digest &key, PackImage *out) const;
    /// Whether it is on the disk now.
    bool save(const PackImage &image);

    /// "disk cache /home/me/.cache/libattn", or why there is none.
    std::string describe() const;

private:
    bool try_open(std::string *why);
    const Descriptor *opened() const;

    std::string path_;
    mutable std::mutex mutex_; ///< Guards what follows.
    Descriptor directory_;
    std::string absent_; ///< Why the directory is not open.
};

} // namespace attn::kernel

#endif

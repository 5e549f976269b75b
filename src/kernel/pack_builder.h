// Makes packs: for the build, which embeds one, and for `attn pack`. Not part of the library.
#ifndef ATTN_SRC_KERNEL_PACK_BUILDER_H
#define ATTN_SRC_KERNEL_PACK_BUILDER_H

#include "source.h"
#include "store.h"

#include <cstdint>
#include <string>
#include <vector>

namespace attn::kernel {

/// A kernel for a pack.
struct PackItem {
    Request request;
    std::string target; ///< "sm_90a", or "compute_80" for PTX.
};

struct PackOptions {
    std::string compiler_path; ///< "": search.
    bool disk_cache = true;    ///< Take from it what is there, and save what is compiled.
    std::string cache_dir;     ///< "": ATTN_CACHE_DIR, else the user's.
    int32_t jobs = 1;          ///< Compiles at a time.
};

struct PackReport {
    size_t compiled = 0, cached = 0;
    std::string compiler; ///< That compiled; "" if none had to.
    std::string cache;    ///< The disk cache.
};

/// Compiles the items, each once, and returns the bytes of a pack. Loads the compiler only if something is not in the
/// disk cache. False, with the reason, if one fails.
bool build_pack(const Sources &sources, const std::vector<PackItem> &items, const PackOptions &options,
                std::string *pack, PackReport *report, std::string *why);

} // namespace attn::kernel

#endif

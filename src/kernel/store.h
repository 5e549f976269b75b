// Where compiled GPU kernels come from: memory, the embedded pack, packs on a path, the user's disk cache, a compiler.
// Knows nothing of any driver: what goes in is a request, what comes out are the bytes of a module.
#ifndef ATTN_SRC_KERNEL_STORE_H
#define ATTN_SRC_KERNEL_STORE_H

#include "status.h"

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace attn::kernel {

class Sources;

/// A kernel before it is compiled. Structure only: lengths and values of parameters are arguments of the launch.
struct Request {
    std::string source;               ///< An embedded source by its path: "backends/gpu/dense/forward.cuh".
    std::string entry;                ///< The extern "C" function in it.
    std::vector<std::string> defines; ///< "ATTN_DIM_QK=128", in the order the maker always uses.
    std::string generated;            ///< Text that the source includes as "attn_generated.cuh"; "" mostly.

    /// Adds definitions: "NAME=value".
    void define(std::initializer_list<std::pair<const char *, int64_t>> list)
    {
        for (const auto &[name, value] : list) defines.push_back(name + ('=' + std::to_string(value)));
    }

    bool operator==(const Request &) const = default;
};

/// Where an image came from.
enum class Origin { embedded, pack, disk, compiled };
/// "embedded pack"
const char *origin_name(Origin origin) noexcept;

/// A module: a cubin, or PTX where there is no cubin for the architecture.
struct Image {
    std::shared_ptr<const void> owner; ///< Keeps `data`; NULL for embedded ones.
    const void *data = nullptr;        ///< Aligned to 16 bytes.
    size_t bytes = 0;                  ///< Without the NUL that ends PTX.
    bool is_ptx = false;               ///< Text, which the driver compiles.
    Origin origin = Origin::embedded;
};

/// How a handle wants kernels found; from attn_options and the environment.
struct StoreOptions {
    bool compile = true;
    bool disk_cache = true;
    std::string cache_dir;     ///< "": ATTN_CACHE_DIR, else the user's.
    std::string kernel_path;   ///< "": ATTN_KERNEL_PATH.
    std::string compiler_path; ///< "": search.
    int32_t driver = 0;        ///< As cuDriverGetVersion() counts, 13000: images that it cannot load are passed over.
};

/// The kernels of one handle. Thread-safe; two threads that want the same kernel compile it once.
class Store {
public:
    virtual ~Store() = default;
    /// Finds a kernel for an architecture ("sm_90a"); compiles it if that is allowed here and by the options. Fails
    /// with ATTN_ERROR_COMPILE, the message having what was searched and the compiler's log.
    [[nodiscard]] virtual attn_status find(const Request &request, const std::string &arch, bool compile,
                                           Image *out) = 0;
    /// Whether find() without compiling would succeed: a look at the tables, no file is read twice.
    virtual bool has(const Request &request, const std::string &arch) = 0;
    /// What stands in for the compiler: "NVRTC 13.0 (/path)", or why there is none. Loads it.
    virtual std::string compiler() = 0;
};

/// Opens packs and the cache; neither needs to exist. Fails with ATTN_ERROR_INVALID if a path that the user named
/// cannot be trusted or read.
[[nodiscard]] attn_status open_store(const StoreOptions &options, std::unique_ptr<Store> *out);
/// The same with other sources and another pack than those that the library carries; they outlive the store.
[[nodiscard]] attn_status open_store(const StoreOptions &options, const Sources &sources, std::string_view pack,
                                     std::unique_ptr<Store> *out);

} // namespace attn::kernel

#endif

// NVRTC, NVIDIA's compiler as a library: found and loaded at run time, so nothing here is linked with it.
#ifndef ATTN_SRC_KERNEL_NVRTC_H
#define ATTN_SRC_KERNEL_NVRTC_H

#include "source.h"
#include "store.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace attn::kernel {

/// Options of every compile; the target and the definitions come after them.
inline constexpr const char *kFixedOptions[] = {"--std=c++20", "-default-device"};

/// Where open() searches, in that order. A name without a slash is for the loader.
std::vector<std::string> compiler_places();

/// A loaded compiler. Thread-safe, and stays loaded while the process lives.
class Nvrtc {
public:
    /// Searches for a compiler whose code a driver (see loads_on_driver()) can load: `path` alone if it is not empty;
    /// else what the loader finds as libnvrtc.so.13 and .12, the packages of the active Python environment, and the
    /// toolkit. NULL, with what was tried, if there is none.
    static std::unique_ptr<Nvrtc> open(const std::string &path, int32_t driver, std::string *why);

    int32_t version() const noexcept { return version_; } ///< 13000
    /// "NVRTC 13.0 (/usr/local/cuda/lib64/libnvrtc.so.13)"
    const std::string &name() const noexcept { return name_; }

    /// What to compile for a device: its own architecture, or PTX for the latest one ("compute_120") that the compiler
    /// knows if the device is later. False, with the reason, if it is earlier than all.
    bool choose_target(const std::string &arch, std::string *target, std::string *why) const;
    /// Compiles a request for "sm_90a", or for "compute_80": then the image is the text of PTX. False, with the
    /// beginning of the compiler's log, if it fails. `remarks`, unless NULL, gets what the compiler has to say of a
    /// kernel that it made; "" mostly.
    bool compile(const Sources &sources, const Request &request, const std::string &target, std::string *image,
                 std::string *why, std::string *remarks = nullptr) const;

private:
    struct Functions;

    Nvrtc();
    bool load(const std::string &file, int32_t driver, std::string *why);

    std::shared_ptr<const Functions> functions_;
    int32_t version_ = 0;
    std::string name_;
    std::vector<int> architectures_; ///< Numbers that the compiler knows, ascending.
};

} // namespace attn::kernel

#endif

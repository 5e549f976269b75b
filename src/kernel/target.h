// Names of GPU architectures, and which image runs where.
#ifndef ATTN_SRC_KERNEL_TARGET_H
#define ATTN_SRC_KERNEL_TARGET_H

#include <cstdint>
#include <string>
#include <string_view>

namespace attn::kernel {

/// An NVIDIA architecture: sm_90a is {90, true}.
struct Architecture {
    int32_t number = 0;    ///< 10 major + minor.
    bool specific = false; ///< With the suffix a: code for exactly this architecture.
};

/// Reads "sm_90a" or "compute_80"; false if the text is neither.
bool read_target(std::string_view text, Architecture *out, bool *is_ptx) noexcept;

/// How well an image for `target` serves a device of architecture `arch` ("sm_86"): 0 not at all, more is better.
/// A cubin serves its own architecture and later ones with the same major version; PTX serves its own and all later
/// ones; either with the suffix a only its own. Any cubin is better than any PTX, which the driver has yet to
/// translate. Names of other makers serve devices of the same name.
int32_t serves(std::string_view target, std::string_view arch) noexcept;

/// Whether a driver (as cuDriverGetVersion() counts: 13000; 0: unknown) can load what a compiler (likewise) made:
/// cubins of the same major version or an earlier one, PTX of the same version or an earlier one.
bool loads_on_driver(int32_t compiler, bool is_ptx, int32_t driver) noexcept;

/// "13.0" for 13000.
std::string version_text(int32_t version);

} // namespace attn::kernel

#endif

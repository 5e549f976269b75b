// The texts of kernels and of the headers they include. The build embeds them; see cmake/AttnKernelSources.cmake.
#ifndef ATTN_SRC_KERNEL_SOURCE_H
#define ATTN_SRC_KERNEL_SOURCE_H

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace attn::kernel {

/// The name by which a source includes what a request generates.
inline constexpr std::string_view kGeneratedName = "attn_generated.cuh";

/// One embedded file.
struct Source {
    const char *path;          ///< In the repository, which is how others include it: "backends/gpu/types.h".
    const unsigned char *text; ///< Followed by a NUL.
    size_t bytes;
    const char *sha256; ///< Of the text, in hexadecimal digits.

    const char *c_str() const noexcept { return reinterpret_cast<const char *>(text); }
    std::string_view view() const noexcept { return {c_str(), bytes}; }
};

/// A table of files, which outlives this view of it.
class Sources {
public:
    Sources(const Source *table, size_t count) noexcept : table_(table), count_(count) {}
    const Source *find(std::string_view path) const noexcept;
    const Source *begin() const noexcept { return table_; }
    const Source *end() const noexcept { return table_ + count_; }

    /// Everything that a source and a generated text include, over any number of steps: the source first, the headers
    /// after it in the order of their paths. False, with the reason, if something is included that is not here: what a
    /// compiler finds on its own, in the current directory for example, is no part of the library.
    bool reach(const std::string &path, std::string_view generated, std::vector<const Source *> *out,
               std::string *why) const;

private:
    const Source *table_;
    size_t count_;
};

/// What the library carries.
Sources embedded_sources() noexcept;

} // namespace attn::kernel

#endif

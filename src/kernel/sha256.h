// SHA-256 (FIPS 180-4): keys of kernels and checksums of their images.
#ifndef ATTN_SRC_KERNEL_SHA256_H
#define ATTN_SRC_KERNEL_SHA256_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace attn::kernel {

using Digest = std::array<uint8_t, 32>;

class Sha256 {
public:
    void add(const void *data, size_t bytes) noexcept;
    /// Ends the message; nothing may be added after.
    Digest finish() noexcept;

private:
    void add_block(const uint8_t *block) noexcept;

    std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint64_t length_ = 0; ///< Bytes added.
    std::array<uint8_t, 64> block_ = {};
};

Digest sha256(const void *data, size_t bytes) noexcept;
/// 64 lower-case hexadecimal digits.
std::string hexadecimal(const Digest &digest);

} // namespace attn::kernel

#endif

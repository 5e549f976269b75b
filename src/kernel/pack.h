// Packs: files of compiled kernels, read-only. A file of the disk cache is a pack of one kernel.
//
// Layout, all numbers little endian:
//
//     0  header, 64 bytes
//        0   "ATTNPACK"
//        8   u32 version of the format, 1
//        12  u32 number of entries n
//        16  u64 bytes of the file
//        24  u64 bytes of the labels l
//        32  SHA-256 of bytes 0 .. 31, the table and the labels
//    64  table, n entries of 128 bytes, sorted by key, no key twice
//        0   key (see key.h)
//        32  SHA-256 of the bytes stored
//        64  target, ASCII, filled with NUL to 16 bytes: "sm_90a", "compute_80" (PTX)
//        80  u32 version of the compiler, 13000 for NVRTC 13.0
//        84  u32 flags: 1 PTX, 2 compressed (see lz.h)
//        88  u64 offset in the file of the bytes stored
//        96  u64 their number
//        104 u64 bytes of the image
//        112 u32 offset of the label in the labels, u32 its bytes
//        120 u64 0
//        labels, l bytes, UTF-8 for people: entry, source and definitions
//        bytes stored of each entry, in the order of the table, with nothing between and nothing after
//
// Every byte is covered by a checksum. The reader bounds-checks everything, so a file may hold anything; checksums find
// damage, not forgery: who may write a pack may run code (see trust.h).
#ifndef ATTN_SRC_KERNEL_PACK_H
#define ATTN_SRC_KERNEL_PACK_H

#include "sha256.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace attn::kernel {

inline constexpr char kPackSuffix[] = ".attnpack";
inline constexpr size_t kMostPackBytes = size_t{1} << 30;
inline constexpr size_t kMostImageBytes = size_t{1} << 28;

/// What a pack says of a kernel.
struct PackEntry {
    Digest key = {};
    std::string target;
    int32_t compiler = 0;
    bool is_ptx = false;
    std::string label;
    uint64_t image_bytes = 0;
    uint64_t stored_bytes = 0;
};

/// A kernel for a pack.
struct PackImage {
    PackEntry entry; ///< Its sizes are not read.
    std::string image;
};

/// The bytes of a pack; images with a key that was there before are left out.
std::string write_pack(std::vector<PackImage> images);

/// An open pack. Immutable.
class Pack {
public:
    /// Checks everything but the images. `owner` keeps the bytes, NULL if they are static.
    bool open(std::shared_ptr<const void> owner, const void *data, size_t bytes, std::string *why);

    const std::vector<PackEntry> &entries() const noexcept { return entries_; }
    /// The targets that occur, each once.
    const std::vector<std::string> &targets() const noexcept { return targets_; }
    /// NULL if it is not here.
    const PackEntry *find(const Digest &key) const noexcept;
    /// Checks and decodes an image of this pack.
    bool load(const PackEntry &entry, std::string *image, std::string *why) const;

private:
    bool read_entry(size_t number, uint64_t *end, std::string *why);

    std::shared_ptr<const void> owner_;
    std::string_view bytes_;
    std::vector<PackEntry> entries_;
    std::vector<uint64_t> offsets_; ///< Of the bytes stored, by entry.
    std::vector<std::string> targets_;
    uint64_t labels_ = 0, labels_bytes_ = 0;
};

} // namespace attn::kernel

#endif

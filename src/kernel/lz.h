// A small compressor for images in packs (LZ77). Cubins are a third of their size after it, and are decoded faster than
// a file is read.
//
// A compressed text is a sequence of steps, each: a byte with the number of literals in its upper four bits and the
// length of the copy minus kLeastCopy in its lower four, either continued in bytes to add where it is 15, until one is
// not 255; the literals; the distance to copy from, 1 .. 65535, two bytes, little endian. The last step ends after its
// literals. The length of the result is not part of the text.
#ifndef ATTN_SRC_KERNEL_LZ_H
#define ATTN_SRC_KERNEL_LZ_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace attn::kernel {

std::string compress(std::string_view text);
/// Writes exactly `bytes` bytes. False if the input is no compressed text of that many, whatever it is; nothing is read
/// or written outside then either.
bool decompress(std::string_view input, void *out, size_t bytes) noexcept;

} // namespace attn::kernel

#endif

#include "embedded_pack.h"

#include <cstddef>

// ATTN_EMBEDDED_PACK is the path of the file.
extern "C" {
[[gnu::visibility("hidden")]] extern const char attn_embedded_pack_begin[];
[[gnu::visibility("hidden")]] extern const char attn_embedded_pack_end[];
}
asm(".pushsection .rodata\n"
    ".balign 16\n"
    ".globl attn_embedded_pack_begin\n"
    ".hidden attn_embedded_pack_begin\n"
    "attn_embedded_pack_begin:\n"
    ".incbin \"" ATTN_EMBEDDED_PACK "\"\n"
    ".globl attn_embedded_pack_end\n"
    ".hidden attn_embedded_pack_end\n"
    "attn_embedded_pack_end:\n"
    ".popsection\n");

namespace attn::kernel {

std::string_view embedded_pack() noexcept
{
    return {attn_embedded_pack_begin, static_cast<size_t>(attn_embedded_pack_end - attn_embedded_pack_begin)};
}

} // namespace attn::kernel

// The pack that the library carries; see ATTN_EMBED_PACKS in cmake/AttnKernels.cmake.
#ifndef ATTN_SRC_KERNEL_EMBEDDED_PACK_H
#define ATTN_SRC_KERNEL_EMBEDDED_PACK_H

#include <string_view>

namespace attn::kernel {

/// Its bytes; none if the library was built without.
std::string_view embedded_pack() noexcept;

} // namespace attn::kernel

#endif

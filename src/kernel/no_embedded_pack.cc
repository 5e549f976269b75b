// For libraries built without NVRTC, and for the program that makes the pack.
#include "embedded_pack.h"

namespace attn::kernel {

std::string_view embedded_pack() noexcept
{
    return {};
}

} // namespace attn::kernel

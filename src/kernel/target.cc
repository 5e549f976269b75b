#include "target.h"

#include <charconv>

namespace attn::kernel {

bool read_target(std::string_view text, Architecture *out, bool *is_ptx) noexcept
{
    constexpr std::string_view kCubin = "sm_", kPtx = "compute_";
    *is_ptx = text.substr(0, kPtx.size()) == kPtx;
    if (!*is_ptx && text.substr(0, kCubin.size()) != kCubin) return false;
    text.remove_prefix(*is_ptx ? kPtx.size() : kCubin.size());
    const bool specific = !text.empty() && text.back() == 'a';
    if (specific) text.remove_suffix(1);
    int32_t number = 0;
    const std::from_chars_result end = std::from_chars(text.data(), text.data() + text.size(), number);
    if (end.ec != std::errc() || end.ptr != text.data() + text.size() || number < 10 || number > 999) return false;
    *out = {number, specific};
    return true;
}

int32_t serves(std::string_view target, std::string_view arch) noexcept
{
    Architecture image, device;
    bool is_ptx = false, device_is_ptx = false;
    if (!read_target(target, &image, &is_ptx) || !read_target(arch, &device, &device_is_ptx) || device_is_ptx)
        return target == arch ? INT32_MAX : 0;
    constexpr int32_t kCubin = 10000; // above every number of an architecture, with its suffix
    const int32_t rank = 2 * image.number + (image.specific ? 1 : 0) + (is_ptx ? 0 : kCubin);
    if (image.specific) return image.number == device.number && device.specific ? rank : 0;
    const bool later = image.number <= device.number;
    return later && (is_ptx || image.number / 10 == device.number / 10) ? rank : 0;
}

bool loads_on_driver(int32_t compiler, bool is_ptx, int32_t driver) noexcept
{
    if (driver == 0) return true;
    return is_ptx ? compiler <= driver : compiler / 1000 <= driver / 1000;
}

std::string version_text(int32_t version)
{
    return std::to_string(version / 1000) + '.' + std::to_string(version % 1000 / 10);
}

} // namespace attn::kernel

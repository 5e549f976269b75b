#include "backends/gpu/shape_override.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>

namespace attn::gpu {

attn_status override_fields(const char *variable, std::span<const ShapeField> fields)
{
    const char *text = std::getenv(variable);
    if (!text) return ATTN_OK;
    std::istringstream list(text);
    for (std::string entry; std::getline(list, entry, ',');) {
        const size_t equals = entry.find('=');
        const auto field = std::find_if(fields.begin(), fields.end(),
                                        [&](const ShapeField &f) { return entry.compare(0, equals, f.name) == 0; });
        char *end = nullptr;
        const char *number = equals == std::string::npos ? "" : entry.c_str() + equals + 1;
        const long value = std::strtol(number, &end, 10);
        if (field == fields.end() || end == number || *end || value < 0 || value > 1024)
            return fail(ATTN_ERROR_INVALID, "%s = %s: entries must be a field of a shape = 0 .. 1024", variable, text);
        *field->value = static_cast<i32>(value);
    }
    return ATTN_OK;
}

} // namespace attn::gpu

#include "status.h"

#include <cstdarg>
#include <cstdio>

namespace attn {
namespace {

// A plain array: it needs no destructor at thread exit, so the library can be unloaded while threads live.
thread_local char message[4096];

} // namespace

attn_status fail(attn_status status, const char *format, ...) noexcept
{
    va_list values;
    va_start(values, format);
    vsnprintf(message, sizeof message, format, values);
    va_end(values);
    return status;
}

const char *last_error() noexcept
{
    return message;
}

} // namespace attn

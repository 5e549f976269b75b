// Errors inside the library: a status that is returned, and a message that stays with the thread.
#ifndef ATTN_SRC_STATUS_H
#define ATTN_SRC_STATUS_H

#include <attn/attn.h>

namespace attn {

/// Records the message for attn_last_error() and returns `status`. Allocates nothing; a message of more than
/// 4 KiB is cut.
[[nodiscard, gnu::format(printf, 2, 3)]] attn_status fail(attn_status status, const char *format, ...) noexcept;

/// The message of the last failure on this thread, "" if none.
const char *last_error() noexcept;

} // namespace attn

#endif

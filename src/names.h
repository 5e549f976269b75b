// Names of the enumerators, for messages and for the JSON description.
#ifndef ATTN_SRC_NAMES_H
#define ATTN_SRC_NAMES_H

#include <attn/attn.h>

#include <cstdint>

namespace attn {

/// "K", "GRAD|K"; "unknown slot" for a number without a name. The text lives until the next call on this thread.
const char *slot_name(attn_slot slot) noexcept;
/// Whether the number names a slot, derived bits included.
bool slot_exists(attn_slot slot) noexcept;

/// "float32"; nullptr for a number without a name.
const char *dtype_name(attn_dtype dtype) noexcept;
/// "float32", or "dtype 0x012345" for a number without a name. The text lives until the next call on this thread.
const char *dtype_text(attn_dtype dtype) noexcept;
/// Bytes of one element; 0 for sub-byte types.
int64_t dtype_bytes(attn_dtype dtype) noexcept;

/// "dense", "merge", "append", "linear"; "plan" for a number without a name.
const char *kind_name(attn_kind kind) noexcept;
const char *status_name(attn_status status) noexcept;
/// "cpu", "cuda" ...; nullptr for a number without a name.
const char *device_name(attn_device device) noexcept;
/// "top_left" ...; nullptr for a number without a name.
const char *align_name(attn_align align) noexcept;
const char *activation_name(attn_activation activation) noexcept;
const char *direction_name(attn_direction direction) noexcept;
// Of the options of linear attention; nullptr for a number without a name.
const char *decay_name(attn_decay decay) noexcept;
const char *update_name(attn_update update) noexcept;
const char *feature_map_name(attn_feature_map map) noexcept;

} // namespace attn

#endif

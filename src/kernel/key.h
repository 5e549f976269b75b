// The key of a compiled kernel: what it is made of, and nothing of where or when it was made.
//
// A key is the SHA-256 of the digests of the source and of every header that it reaches, the definitions, the generated
// text, the entry, the options that every compile has, the target and the version of the library. So a pack or a cache
// never serves a kernel for another source, and need not be cleared after an update.
//
// The version of the compiler is not in the key but in each entry. A look-up would have to load the compiler (100 MB)
// to know it, and a machine without one could not look up at all. An image of another compiler than the one in use is
// valid: it comes from the same source. What can make it useless is the driver, and that is a rule of its own (see
// loads_on_driver()): an entry that the driver cannot load is passed over, wherever it comes from.
#ifndef ATTN_SRC_KERNEL_KEY_H
#define ATTN_SRC_KERNEL_KEY_H

#include "sha256.h"
#include "source.h"
#include "store.h"

#include <string_view>

namespace attn::kernel {

/// The digest of everything but the target; key_of() completes it. False, with the reason, if a source is missing.
bool digest_request(const Sources &sources, const Request &request, Digest *out, std::string *why);
/// The key for a target: "sm_90a", or "compute_80" for PTX.
Digest key_of(const Digest &request, std::string_view target) noexcept;

/// For people: "attn_merge of backends/gpu/merge/merge.cuh, ATTN_DIM=128 ATTN_BF16".
std::string label_of(const Request &request);

} // namespace attn::kernel

#endif

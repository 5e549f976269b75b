// Append of new rows to a cache: the problem that attn_append describes.
#ifndef ATTN_SRC_APPEND_H
#define ATTN_SRC_APPEND_H

#include "problem.h"

namespace attn {

/// Rotary embedding of channels [first, first + dim). dim = 0: none.
struct Rotation {
    int64_t dim = 0;
    int64_t first = 0;
    attn_rope_layout layout = ATTN_ROPE_HALF;
    attn_rope_source source = ATTN_ROPE_BASE;
    double base = 0; ///< Where the angles come from it.
};

/// Append of new rows to a cache, normalised. `storage` is that of the caches: batched or paged.
struct AppendProblem final : Problem {
    bool writes_k = false; ///< K to K_CACHE.
    bool writes_v = false; ///< V to V_CACHE.
    bool writes_q = false; ///< Q to OUT.
    bool mapped = false;   ///< SLOT_MAPPING says where rows go.
    Rotation rope;
    int64_t ring_rows = 0; ///< 0: no ring.
    int64_t sink_tokens = 0;

    bool writes_cache() const noexcept { return writes_k || writes_v; }
};

/// Validates a caller's descriptor and resolves it. Everything it points to is read during the call only.
[[nodiscard]] attn_status read_append(const attn_append *given, AppendProblem *out);

} // namespace attn

#endif

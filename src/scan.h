// Vector gated scan: the problem that attn_scan describes.
#ifndef ATTN_SRC_SCAN_H
#define ATTN_SRC_SCAN_H

#include "sequence.h"

namespace attn {

/// A scan, normalised.
struct ScanProblem final : SequenceProblem {
    attn_scan_form form = ATTN_SCAN_LOG;
    bool lerp = false; ///< X is weighed by 1 - decay.
};

/// Validates a caller's descriptor and resolves it. Everything it points to is read during the call only.
[[nodiscard]] attn_status read_scan(const attn_scan *given, ScanProblem *out);

} // namespace attn

#endif

// Linear and recurrent attention: the problem that attn_linear describes.
#ifndef ATTN_SRC_LINEAR_H
#define ATTN_SRC_LINEAR_H

#include "problem.h"

namespace attn {

/// Longest chunk that a descriptor may ask for.
constexpr int64_t kLongestChunk = 256;

/// Linear attention, normalised. Head h of OUT reads state h / group.
struct LinearProblem final : Problem {
    bool bidirectional = false, l2norm = false, normaliser = false, recurrent = false;
    attn_decay decay = ATTN_DECAY_NONE;
    attn_decay_form decay_form = ATTN_DECAY_LOG;
    attn_update update = ATTN_UPDATE_ADD;
    attn_read read = ATTN_READ_AFTER;
    attn_feature_map feature_map = ATTN_FEATURE_IDENTITY;
    attn_state_layout state_layout = ATTN_STATE_KV;
    attn_state_keep state_keep = ATTN_STATE_FINAL;
    attn_dtype state_dtype = ATTN_FLOAT32;
    int64_t chunk = 0;      ///< 0: the kernel chooses.
    double lower_bound = 0; ///< Of the log decay; 0: none promised.
    double decay_scale = 1; ///< Of ATTN_DECAY_LOG_SIGMOID.
    double normaliser_eps = 0;
    int64_t dim_k = 0;         ///< Rows of a state: dim_qk, or what the feature map makes of it.
    int64_t state_columns = 0; ///< dim_v, and one more with a normaliser.
    int64_t group = 0;         ///< OUT heads that read one state.
    bool packed_kv = false;    ///< Keys have boundaries of their own.

    bool checked() const noexcept { return (flags & ATTN_CHECKED) != 0; }
};

/// Validates a caller's descriptor and resolves it. Everything it points to is read during the call only.
[[nodiscard]] attn_status read_linear(const attn_linear *given, LinearProblem *out);

} // namespace attn

#endif

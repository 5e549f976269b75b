// Causal depthwise convolution: the problem that attn_conv describes.
#ifndef ATTN_SRC_CONV_H
#define ATTN_SRC_CONV_H

#include "sequence.h"

namespace attn {

/// Most taps of a channel.
constexpr size_t kWidestConvolution = 8;

/// A convolution, normalised.
struct ConvProblem final : SequenceProblem {
    int64_t width = 0;
    attn_conv_activation activation = ATTN_CONV_IDENTITY;
};

/// Validates a caller's descriptor and resolves it. Everything it points to is read during the call only.
[[nodiscard]] attn_status read_conv(const attn_conv *given, ConvProblem *out);

} // namespace attn

#endif

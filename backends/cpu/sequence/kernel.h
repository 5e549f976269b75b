// The border between the executors of conv and scan plans and their kernels: some channels of one head of one sequence.
#ifndef ATTN_BACKENDS_CPU_SEQUENCE_KERNEL_H
#define ATTN_BACKENDS_CPU_SEQUENCE_KERNEL_H

#include "backends/cpu/token_view.h"

#include <stdint.h>

namespace attn::cpu {

/// Channels that a task takes at most: their rows stay in L1 while tokens pass.
constexpr int64_t kStripChannels = 256;

/// A tensor that is written by token and channel.
struct TokenOutput {
    char *base;           ///< NULL: the plan does not have it.
    int64_t token_step;   ///< Bytes.
    int64_t channel_step; ///< Elements.
    Element type;
};

/// A strip of channels, from the first token of a sequence on. A "token" of `state_*` is one of its rows.
struct SequenceStrip {
    int64_t tokens, channels;
    TokenView x, decay, write, residual;
    TokenView state_in;
    TokenOutput out, state_out;
};

struct ConvShape {
    int64_t width;
    bool silu;
};

struct ScanShape {
    bool log;  ///< Gates are natural logs.
    bool lerp; ///< h + (1 - a)(x - h) instead of a h + b x.
};

/// Functions of an instruction set.
struct SequenceKernel {
    const char *conv_name, *scan_name;

    /// Taps of a strip as `[width + 1][kStripChannels]`, bias last: `weight` by channel and tap, `bias` by channel.
    void (*load_taps)(const TokenView &weight, const TokenView &bias, int64_t width, int64_t channels, float *taps);
    /// Convolves tokens first .. end - 1. `rows` has room for `[width][kStripChannels]`.
    void (*convolve)(const ConvShape &shape, const SequenceStrip &strip, int64_t first, int64_t end, const float *taps,
                     float *rows);
    /// Writes the last width - 1 tokens, with what was before them, to the state; `rows` as above. The state may be
    /// the one that is read.
    void (*keep_tokens)(const ConvShape &shape, const SequenceStrip &strip, float *rows);

    /// Scans tokens first .. end - 1 from `h` `[kStripChannels]` on, writes OUT and leaves the last in `h`. Where
    /// `local` is given it gets the scan from zero as well, and `product` that of the decays.
    void (*scan)(const ScanShape &shape, const SequenceStrip &strip, int64_t first, int64_t end, float *h, float *local,
                 float *product);
    /// Only the scan from zero and the product: nothing is written.
    void (*scan_local)(const ScanShape &shape, const SequenceStrip &strip, int64_t first, int64_t end, float *local,
                       float *product);
    /// h = local + product h: the state after tokens of which these are the sums.
    void (*carry)(const float *local, const float *product, int64_t channels, float *h);
    void (*read_state)(const SequenceStrip &strip, float *h);
    void (*write_state)(const SequenceStrip &strip, const float *h);
};

extern const SequenceKernel kSequenceBaseline;
#if defined(__x86_64__)
extern const SequenceKernel kSequenceAvx2;
extern const SequenceKernel kSequenceAvx512;
#elif defined(__aarch64__)
extern const SequenceKernel kSequenceNeon;
#endif

} // namespace attn::cpu

#endif

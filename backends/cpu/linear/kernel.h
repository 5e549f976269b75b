// The border between the executors of linear attention and their kernels: what a plan fixes, and one state with the
// tokens that it meets.
#ifndef ATTN_BACKENDS_CPU_LINEAR_KERNEL_H
#define ATTN_BACKENDS_CPU_LINEAR_KERNEL_H

#include "backends/cpu/token_view.h"

#include <stddef.h>
#include <stdint.h>

namespace attn::cpu {

/// Tokens of a chunk that nobody chose: long enough that reading and writing the state costs little beside the
/// products, short enough that the products within the chunk do.
constexpr int64_t kDefaultChunk = 32;

enum class Decay : int32_t { none, head, token, channel };
enum class DecayForm : int32_t { log, softplus, sigmoid, log_sigmoid };
/// `add` writes k v^T; the others first take away what the state knows of a key.
enum class Update : int32_t { add, delta, gated_delta, dplr };
enum class FeatureMap : int32_t { identity, elu1, relu, silu, softmax, taylor2, hedgehog };

/// What the plan fixes.
struct LinearShape {
    int64_t dim_qk, dim_k; ///< Channels of Q and K, and what the feature map makes of them.
    int64_t dim_v;
    int64_t group; ///< Query heads that read a state.
    int64_t chunk; ///< Most tokens of a chunk.
    Decay decay;
    DecayForm decay_form;
    Update update;
    FeatureMap feature_map;
    bool read_before, l2norm, normaliser, bidirectional;
    float scale, normaliser_eps, lower_bound, decay_scale;
};

/// A state `[dim_k][dim_v]`, with one more column where there is a normaliser, in whatever order.
struct StateView {
    char *base;                    ///< NULL: not wanted, or zero.
    int64_t row_step, column_step; ///< Bytes along dim_k and along dim_v.
    Element type;
};

/// One state and the tokens of its sequence.
struct LinearTask {
    int64_t tokens; ///< Queries.
    int64_t keys;   ///< As many, unless bidirectional.
    TokenView q;    ///< Of the first head of the group.
    TokenView k, v, decay, beta, erase, write, dplr_b, dplr_c;
    TokenView bonus, a_log, dt_bias; ///< Without tokens.
    TokenView q_feature, k_feature;  ///< Rows of W with b after it; a "token" is a row.
    int64_t q_head_step, q_feature_head_step;
    char *out; ///< First head of the group.
    int64_t out_token_step, out_head_step, out_channel_step;
    Element out_type;
    StateView state_in, state_out;
    StateView key_sums;     ///< The column of state_in after those of V, where there is a normaliser: there or copied.
    StateView token_states; ///< That after each token, `token_state_step` bytes apart.
    int64_t token_state_step;
    int64_t first_column, columns; ///< Of V: what this task computes.
};

/// A kernel, compiled for one instruction set.
struct LinearKernel {
    const char *name;
    /// Scratch of one worker, in bytes, for a 64-byte aligned address, for tasks of at most so many columns.
    size_t (*scratch_bytes)(const LinearShape &shape, int64_t columns);
    void (*run)(const LinearShape &shape, const LinearTask &task, void *scratch);
    /// The decays of all tokens of a task as one factor for each row of the state. NULL: always one task for a
    /// sequence.
    void (*total_decay)(const LinearShape &shape, const LinearTask &task, void *scratch, float *out);
};

extern const LinearKernel kLinearBaseline;
#if defined(__x86_64__)
extern const LinearKernel kLinearAvx2;
extern const LinearKernel kLinearAvx512;
#elif defined(__aarch64__)
extern const LinearKernel kLinearNeon;
#endif

} // namespace attn::cpu

#endif

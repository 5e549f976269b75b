// The shape that this kernel is compiled for, from the definitions of its request.
#ifndef ATTN_BACKENDS_CUDA_DENSE_SM90_CONFIG_CUH
#define ATTN_BACKENDS_CUDA_DENSE_SM90_CONFIG_CUH

#include "backends/cuda/dense_sm90/shape.h"
#include "backends/gpu/dense/params.h"
#include "backends/gpu/platform.cuh"

namespace attn::sm90 {

using namespace gpu; // params, sequences, results and the platform are those of the portable kernel

constexpr Shape kShape = {ATTN_TYPE,      ATTN_FEATURES, ATTN_MASK,   ATTN_DIM_QK,        ATTN_DIM_V,
                          ATTN_CONSUMERS, ATTN_KEYS,     ATTN_STAGES, ATTN_QUERY_BUFFERS, ATTN_TURNS,
                          ATTN_UNROLL,    ATTN_CLUSTER,  ATTN_RANK,   ATTN_HOLDS_Q,       ATTN_HOPES};
static_assert(kShape.fault() == nullptr, "no kernel can have this shape");

constexpr Element kType = static_cast<Element>(kShape.type);
constexpr bool kHasSoftcap = (kShape.features & kSoftcap) != 0;
constexpr bool kHasAlibi = (kShape.features & kAlibi) != 0;
constexpr bool kHasQueryTemperature = (kShape.features & kQueryTemperature) != 0;
constexpr bool kHasValueTemperature = (kShape.features & kValueTemperature) != 0;
constexpr bool kHasEpilogue = (kShape.features & kEpilogue) != 0;
constexpr bool kHasGate = (kShape.features & kGate) != 0;
constexpr bool kHasSigmoid = (kShape.features & kSigmoidWeights) != 0, kHasRelu = (kShape.features & kReluWeights) != 0;
constexpr bool kHasSoftmax = !kHasSigmoid && !kHasRelu;
constexpr bool kHasBias = (kShape.features & kAnyBias) != 0;
constexpr bool kBiasIsFirst = (kShape.features & kBiasFirst) != 0;
constexpr Element kBiasType = kShape.features & kBiasFloat32   ? kFloat32
                              : kShape.features & kBiasFloat16 ? kFloat16
                                                               : kBfloat16;
/// Products become scores before they become weights. Else they stay as they are, and their factor joins the exponent,
/// with ReLU that of the row.
constexpr bool kHasLowRank = (kShape.features & kLowRank) != 0;
constexpr bool kFinishesScores = kHasSoftcap || kHasAlibi || kHasQueryTemperature || kHasBias || kHasLowRank;
/// The factor of the softcap is left to the exponent too, where nothing is added after it.
constexpr bool kLeavesCap = kHasSoftcap && (kBiasIsFirst || !(kHasBias || kHasAlibi));
constexpr int kMask = kShape.mask;
constexpr int kDimQk = kShape.dim_qk, kDimV = kShape.dim_v;
constexpr int kQkBlocks = kShape.qk_blocks(), kVBlocks = kShape.v_blocks();
constexpr int kRank = kShape.rank;
constexpr int kConsumers = kShape.consumers;
constexpr int kThreads = kShape.threads();
constexpr int kRows = kShape.rows();
constexpr int kKeys = kShape.keys;
constexpr int kStages = kShape.stages, kQueryBuffers = kShape.query_buffers, kTileSlots = Shape::kTileSlots;
constexpr int kBlockSlots = Shape::kBlockSlots;
constexpr bool kTurns = kShape.turns != 0;
constexpr bool kStagesOut = kShape.stages_out();
constexpr int kUnroll = kShape.unroll;
constexpr int kCluster = kShape.cluster;
constexpr bool kHoldsQ = kShape.holds_q != 0;
constexpr bool kHopes = kShape.hopes != 0;
constexpr int kQBytes = kShape.q_bytes(), kKBytes = kShape.k_bytes(), kVBytes = kShape.v_bytes();
constexpr SharedLayout kAt = kShape.shared();

constexpr int kWarpgroup = 128; ///< Threads.
/// Named barriers: turns of the consumers, one for each consumer alone, one of all. 0 is that of __syncthreads().
constexpr int kTurnBarrier = 1, kConsumerBarrier = 1 + 3, kConsumersBarrier = 1 + 3 + 3;

/// Buffers that are filled and emptied in turn: which one is next, and the parity of its phase.
template <int buffers>
struct Ring {
    u32 count = 0;

    ATTN_DEVICE u32 slot() const { return count % buffers; }
    ATTN_DEVICE u32 parity() const { return count / buffers & 1; }
    ATTN_DEVICE Ring after(u32 more) const { return {count + more}; }
};

/// The barriers of a ring's next buffer; `first`: those of buffer 0.
ATTN_DEVICE u32 full_barrier(u32 first, u32 slot)
{
    return first + 16 * slot;
}
ATTN_DEVICE u32 empty_barrier(u32 first, u32 slot)
{
    return first + 16 * slot + 8;
}

} // namespace attn::sm90

#endif

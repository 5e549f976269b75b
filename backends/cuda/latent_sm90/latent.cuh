// Latent attention for Hopper (sm_90a): absorbed MLA, where V is the first 512 of the 576 channels of K, fp16 and bf16.
// A key head has many query heads, so that even one token makes a tile of 64 rows, and every key that is read is
// multiplied 2 x 64 times.
//
// A tile has 64 rows: a token's heads, then the next token's. A block of threads has a tile, or a split of its keys, 64
// keys at a time. Two warpgroups compute, a warp of the third asks the tensor memory accelerator for K. O is 64 x 512,
// so each of the two has one half of its channels; of the products of Q and K each has every second block of keys:
//
//   copies         K0              K1                 K0 of the next pair      K1
//   warpgroup 0    S0 = Q K0^T | weights P0 ->|       O_left += P0 V0 |        O_left += P1 V1 |  S0 = ...
//   warpgroup 1         S1 = Q K1^T           |-> O_right += P0 V0 and weights P1 ->|  O_right += P1 V1 | S1 = ...
//
// Rows have one reference (the running maximum) for both: warpgroup 0 moves it by the scores of S0 and hands it on with
// P0, warpgroup 1 moves it by those of S1 and hands it back with P1. What moves a reference multiplies both halves
// of O.
//
// Shared memory: Q, and two buffers of K, in pieces with a pair of barriers (full, empty) each: channels 0 .. 255 = V
// left, 256 .. 511 = V right, 512 .. 575. The products with V read the bytes of K the other way around. Weights of a
// block go to the place of the last piece, which only Q K^T reads, for the other warpgroup; the own ones go from
// registers. Who reads a piece last says when it is empty: of V left warpgroup 0, of V right warpgroup 1, of weights
// the other one.
//
// With 128 heads on a key head the two tiles of a token may be a cluster: each of its blocks of threads copies half of
// a piece to both, and a piece is empty when both have read it.
//
// Registers: O 128, S 32, weights 16 of the 232 of a thread. Splits leave their sums in the workspace, for the kernel
// that combines them. The order of all sums depends on the number of splits alone.
//
// docs/kernels/hopper-latent.md explains the order of things.
#include "backends/cuda/key_boxes.cuh"
#include "backends/cuda/latent_sm90/shape.h"
#include "backends/cuda/ptx/cluster.cuh"
#include "backends/cuda/ptx/kernel_order.cuh"
#include "backends/cuda/ptx/mbarrier.cuh"
#include "backends/cuda/ptx/named_barrier.cuh"
#include "backends/cuda/ptx/registers.cuh"
#include "backends/cuda/ptx/store_matrices.cuh"
#include "backends/cuda/ptx/tma.cuh"
#include "backends/cuda/ptx/wgmma.cuh"
#include "backends/gpu/dense/results.cuh"
#include "backends/gpu/dense/write_row.cuh"

namespace attn::sm90 {

using namespace gpu; // params, sequences, results and the platform are those of the portable kernel
using namespace ptx;

constexpr LatentShape kShape = {ATTN_TYPE, ATTN_CLUSTER};
static_assert(kShape.fault() == nullptr, "no kernel can have this shape");

constexpr Element kType = static_cast<Element>(kShape.type);
constexpr int kCluster = kShape.cluster;
constexpr int kDimQk = LatentShape::kDimQk, kDimV = LatentShape::kDimV, kHalfV = kDimV / 2;
constexpr int kRows = LatentShape::kRows, kKeys = LatentShape::kKeys;
constexpr int kPieces = LatentShape::kPieces, kHalfBlocks = LatentShape::kHalfBlocks;
constexpr int kBlockBytes = LatentShape::kBlockBytes, kBufferBytes = LatentShape::kBufferBytes;
constexpr LatentLayout kAt = kShape.shared();

constexpr int kWarpgroup = 128; ///< Threads.
constexpr int kConsumerThreads = LatentShape::kConsumers * kWarpgroup;
enum Piece { kLeft = 0, kRight = 1, kTail = 2 };
/// Bytes from the beginning of a buffer.
constexpr int kHalfBytes = kHalfBlocks * kBlockBytes, kTailAt = 2 * kHalfBytes;

/// Named barriers. 0 is that of __syncthreads().
constexpr int kAllConsumers = 1;
constexpr int kOneConsumer = 2; ///< And one more: of warpgroup 0, 1 alone.

extern __shared__ __align__(1024) char shared_memory[];

ATTN_DEVICE u32 full_barrier(u32 base, int buffer, int piece)
{
    return base + kAt.barriers + 16 * (kPieces * buffer + piece);
}
ATTN_DEVICE u32 empty_barrier(u32 base, int buffer, int piece)
{
    return full_barrier(base, buffer, piece) + 8;
}

/// When the weights of warpgroup `of` are there for the other. Once in each pair of blocks of keys.
ATTN_DEVICE u32 weights_barrier(u32 base, int of)
{
    return base + kAt.barriers + 16 * kPieces * LatentShape::kBuffers + 8 * of;
}

/// When the sums of both warpgroups are there. Once.
ATTN_DEVICE u32 sums_barrier(u32 base)
{
    return weights_barrier(base, LatentShape::kConsumers);
}

/// What this block of threads computes. Tiles of rows that read the same keys follow each other.
struct Work {
    int split, batch, head0;
    int first; ///< Row of the sequence that is row 0.
    i64 tile;  ///< Of sequence, head group and rows.

    ATTN_DEVICE explicit Work(const ForwardParams &p)
    {
        const u32 index = block_number(), splits = static_cast<u32>(p.splits);
        const u32 row_tiles = static_cast<u32>(p.row_tiles), groups = static_cast<u32>(p.heads_out / p.group);
        const u32 shared_by = index / row_tiles, rows = index - shared_by * row_tiles, pair = shared_by / splits;
        split = static_cast<int>(shared_by - pair * splits);
        first = static_cast<int>(rows) * kRows;
        tile = static_cast<i64>(pair) * row_tiles + rows;
        batch = static_cast<int>(pair / groups);
        head0 = static_cast<int>(pair - static_cast<u32>(batch) * groups) * p.group;
    }
};

/// By one warp: copies blocks of keys [begin, end) of a schedule. `box_keys`: rows that a copy has, all of one page.
/// The blocks of a cluster copy every second part of a piece, each for all of them.
ATTN_DEVICE void copy_blocks(const ForwardParams &p, const TensorMap &k, const Sequence &s, const Schedule &schedule,
                             int begin, int end, int head0, int box_keys, u32 base)
{
    const int lane = threadIdx.x % 32;
    const int head = head_of(p, head0, p.heads_k);
    const int boxes = kKeys / box_keys;
    const int rank = kCluster > 1 ? static_cast<int>(block_in_cluster()) : 0;
    // A page is looked at only when there is room for it: until then the table is read.
    KeyBox box(p, s);
    const auto locate = [&](int i) { box.locate(schedule.block_of(i) * kKeys + lane * box_keys); };
    if (lane < boxes && begin < end) locate(begin);
    int buffer = 0;
    u32 parity = 0;
#pragma unroll 1
    for (int i = begin; i < end; ++i) {
        const u32 to = base + kAt.k + buffer * kBufferBytes + lane * box_keys * 128;
        int place = 0;
#pragma unroll
        for (int piece = 0; piece < kPieces; ++piece) {
            const int first = piece * kHalfBlocks, blocks = piece == kTail ? LatentShape::kTailBlocks : kHalfBlocks;
            const u32 full = full_barrier(base, buffer, piece);
            mbarrier_wait(empty_barrier(base, buffer, piece), parity ^ 1);
            if (lane == 0) mbarrier_expect(full, blocks * kBlockBytes);
            __syncwarp();
            if (lane >= boxes) continue;
            if (piece == 0) place = box.outer();
#pragma unroll
            for (int b = first; b < first + blocks; ++b) {
                if constexpr (kCluster == 1)
                    tma_load(to + b * kBlockBytes, k, full, 64 * b, box.row(), head, place);
                else if ((blocks > 1 ? b : i) % kCluster == rank)
                    tma_load_to_all(to + b * kBlockBytes, k, full, 64 * b, box.row(), head, place, (1 << kCluster) - 1);
            }
        }
        if (lane < boxes && i + 1 < end) locate(i + 1);
        buffer ^= 1;
        if (buffer == 0) parity ^= 1;
    }
}

/// By the threads that compute: the rows of Q, those past the end as zeros.
ATTN_DEVICE void load_queries(const ForwardParams &p, const Sequence &s, const Work &work, int total)
{
    constexpr int kSharers = kConsumerThreads / kRows; ///< Threads of a row, 16 bytes each in turn.
    static_assert(kDimQk / 8 % kSharers == 0 && 8 % kSharers == 0,
                  "each copies as much, and at the same places of a block");
    const int r = static_cast<int>(threadIdx.x) / kSharers, row = work.first + r;
    const bool is_row = row < total;
    const int token = is_row ? row / p.group : 0;
    const int head = head_of(p, work.head0 + (is_row ? row - token * p.group : 0), p.heads_q);
    const char *from = token_address(p, p.q, s, token, head);
    const u32 to = shared_address(shared_memory + kAt.q) + r * 128;
#pragma unroll
    for (int i = 0; i < kDimQk / 8 / kSharers; ++i) {
        const int unit = static_cast<int>(threadIdx.x) % kSharers + i * kSharers; // of 8 channels
        copy_async(to + unit / 8 * (kRows * 128) + ((unit % 8) ^ (r % 8)) * 16, from + 16 * unit, is_row ? 16 : 0);
    }
    copy_async_commit();
    copy_async_wait<0>();
    fence_shared_for_engines();
}

using Scores = float[kKeys / 8][4];
using Output = float[kHalfV / 8][4];

/// One of the warpgroups that compute: `side` 0 has channels 0 .. 255 of V and the first block of keys of each pair, 1
/// the others. A thread holds rows 16 warp + lane / 4 and 8 below, of products in pieces of 8 columns the columns
/// 2 (lane % 4) and the next.
template <int side>
class Consumer {
public:
    ATTN_DEVICE Consumer(const ForwardParams &p, const Sequence &s, const Schedule &schedule, const Work &work,
                         int total, u32 base)
        : p_(p),
          schedule_(schedule),
          base_(base),
          lane_(static_cast<int>(threadIdx.x) % 32),
          row_(static_cast<int>(threadIdx.x) % kWarpgroup / 32 * 16 + lane_ / 4),
          column_(2 * (lane_ % 4)),
          q_descriptor_(descriptor_along_k(base + kAt.q)),
          k_descriptor_(descriptor_along_k(base + kAt.k)),
          v_descriptor_(descriptor_along_n(base + kAt.k + side * kHalfBytes, kBlockBytes))
    {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = smaller(work.first + row_ + 8 * half, total - 1); // past the end: as the last
            keys_[half] = keys_of(p.mask, s, row / p.group);
            max_[half] = -infinity(), sum_[half] = 0.0f;
        }
#pragma unroll
        for (int j = 0; j < kHalfV / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) o_[j][e] = 0.0f;
    }

    /// Blocks [begin, end) of the schedule, in pairs; the last may lack its second.
    ATTN_DEVICE void visit(int begin, int end)
    {
#pragma unroll 1
        for (int i = begin; i < end; i += 2, parity_ ^= 1) {
            const bool both = i + 1 < end;
            const int block0 = key_of_block(i), block1 = key_of_block(i + 1);
            if constexpr (side == 0) {
                multiply_qk();
                float alpha[2];
                weigh(block0, alpha);
                hand_over(alpha);
                multiply_output(alpha);
                clear_hidden(block0, 0);
                start_own_pv();
                end_pv();
                release(0, kLeft);
                if (!both) continue;
                take_over();
                clear_hidden(block1, 1);
                start_other_pv();
                end_pv();
                release(1, kLeft), release(1, kTail);
            } else {
                if (both) multiply_qk();
                take_over();
                clear_hidden(block0, 0);
                start_other_pv();
                float alpha[2];
                if (both) {
                    weigh(block1, alpha);
                    hand_over(alpha);
                }
                end_pv();
                release(0, kRight), release(0, kTail);
                if (!both) continue;
                multiply_output(alpha);
                clear_hidden(block1, 1);
                start_own_pv();
                end_pv();
                release(1, kRight);
            }
        }
        // The sums of both warpgroups make those of the rows.
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float sum = row_sum(sum_[half]);
            if (lane_ % 4 == 0) statistic(side, kSum, half) = sum;
        }
        mbarrier_arrive(sums_barrier(base_));
        mbarrier_wait(sums_barrier(base_), 0);
#pragma unroll
        for (int half = 0; half < 2; ++half) sum_[half] = statistic(0, kSum, half) + statistic(1, kSum, half);
    }

    /// Writes this half of the rows of OUT, and their LSE.
    ATTN_DEVICE void write(const Sequence &s, const Work &work, int total)
    {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = work.first + row_ + 8 * half;
            const bool is_row = row < total;
            RowFactor factor = {0.0f, true};
            char *out = nullptr;
            if (is_row) {
                const int token = row / p_.group, head = work.head0 + row - token * p_.group;
                factor = finish_row<false>(p_, s, token, head, sums(half), side == 0 && lane_ % 4 == 0);
                out = const_cast<char *>(token_address(p_, p_.out, s, token, head)) + side * kHalfV * 2;
            }
            if (factor.zero) { // exactly, whatever V holds
#pragma unroll
                for (int j = 0; j < kHalfV / 8; ++j) o_[j][2 * half] = o_[j][2 * half + 1] = 0.0f;
            }
            write_aligned<kType>(o_, half, out, factor.zero ? 0.0f : factor.factor, lane_, is_row ? kHalfV : 0);
        }
    }

    /// Leaves this half of the rows' sums in the workspace.
    ATTN_DEVICE void write_partial(const Work &work, int total) const
    {
        float *partial = p_.partials + (work.tile * p_.splits + work.split) * partial_floats(kRows, kDimV);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = row_ + 8 * half;
            if (work.first + row >= total) continue;
            float *to = partial + row * kDimV + side * kHalfV + column_;
#pragma unroll
            for (int j = 0; j < kHalfV / 8; ++j)
                *reinterpret_cast<float2 *>(to + 8 * j) = make_float2(o_[j][2 * half], o_[j][2 * half + 1]);
            if (side == 0 && lane_ % 4 == 0) {
                float *statistics = partial + kRows * kDimV + row;
                const RowSums row_sums = sums(half);
                statistics[0] = row_sums.max, statistics[kRows] = row_sums.sum, statistics[2 * kRows] = row_sums.spread;
            }
        }
    }

private:
    enum Statistic { kMax = 0, kAlpha = 1, kSum = 2 };

    /// Of a row of this thread, as warpgroup `of` left it.
    ATTN_DEVICE float &statistic(int of, Statistic which, int half) const
    {
        return reinterpret_cast<float *>(shared_memory + kAt.statistics)[(3 * of + which) * kRows + row_ + 8 * half];
    }
    ATTN_DEVICE RowSums sums(int half) const
    {
        return {max_[half] * p_.score_factor, sum_[half], 0.0f};
    }
    ATTN_DEVICE int key_of_block(int i) const
    {
        return schedule_.block_of(i) * kKeys;
    }

    ATTN_DEVICE void wait_for(int buffer, int piece) const
    {
        mbarrier_wait(full_barrier(base_, buffer, piece), parity_);
    }
    ATTN_DEVICE void release(int buffer, int piece) const
    {
        const u32 barrier = empty_barrier(base_, buffer, piece);
        if constexpr (kCluster == 1) {
            if (lane_ == 0) mbarrier_arrive(barrier);
        } else {
            if (lane_ < kCluster) mbarrier_arrive_in_block(place_in_block(barrier, lane_));
        }
    }

    /// Of the own block of keys.
    ATTN_DEVICE void multiply_qk()
    {
        const u64 k = k_descriptor_ + descriptor_step(side * kBufferBytes);
        wait_for(side, kLeft);
        wgmma_fence();
#pragma unroll
        for (int c = 0; c < kDimQk / 16; ++c) {
            if (c == 4 * kHalfBlocks) wait_for(side, kRight), wgmma_fence();
            if (c == 8 * kHalfBlocks) wait_for(side, kTail), wgmma_fence();
            const u64 step = c / 4 * descriptor_step(kBlockBytes) + c % 4 * descriptor_step(32);
            Wgmma<kType, kKeys>::shared(x_, q_descriptor_ + step, k + step, c > 0);
        }
        wgmma_commit();
        wgmma_wait<0>();
        pin(x_);
    }

    /// Products of the own block of keys to weights. What was summed before is to be multiplied by `alpha`.
    ATTN_DEVICE void weigh(int block, float (&alpha)[2])
    {
        if (!schedule_.is_full(block, kKeys)) mask(block + column_);
        soften(alpha);
#pragma unroll
        for (int k = 0; k < kKeys / 16; ++k)
#pragma unroll
            for (int beside = 0; beside < 2; ++beside)
#pragma unroll
                for (int half = 0; half < 2; ++half)
                    weights_[k][2 * beside + half] =
                        pack_pair<kType>(x_[2 * k + beside][2 * half], x_[2 * k + beside][2 * half + 1]);
    }

    /// `first`: key of this thread's column 0.
    ATTN_DEVICE void mask(int first)
    {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int begin = keys_[half].begin - first, end = keys_[half].end - first,
                      sinks = keys_[half].sinks - first;
#pragma unroll
            for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
                for (int next = 0; next < 2; ++next) {
                    const int column = 8 * j + next;
                    if (!((begin <= column && column < end) || column < sinks)) x_[j][2 * half + next] = -infinity();
                }
        }
    }

    /// A row keeps its reference until a product exceeds it by so much, in units of log2(e): weights of up to 2^8 lose
    /// nothing, and what was summed before need not be multiplied.
    ATTN_DEVICE void soften(float (&alpha)[2])
    {
        constexpr float kSlack = 8.0f;
        const float factor = p_.score_factor;
        float top[2];
        bool moves = false;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float best[2] = {x_[0][2 * half], x_[0][2 * half + 1]};
#pragma unroll
            for (int j = 1; j < kKeys / 8; ++j)
#pragma unroll
                for (int next = 0; next < 2; ++next) best[next] = fmaxf(best[next], x_[j][2 * half + next]);
            top[half] = fmaxf(best[0], best[1]);
            moves |= (top[half] - max_[half]) * factor > kSlack;
            alpha[half] = 1.0f;
        }
        if (__any_sync(kAllLanes, moves)) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float old = max_[half], here = row_max(top[half]);
                // A row that need not move stays: its bits do not depend on the other rows.
                if ((here - old) * factor > kSlack) {
                    alpha[half] = exp2_fast((old - here) * factor);
                    max_[half] = here;
                }
            }
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float reference = max_[half] == -infinity() ? 0.0f : max_[half] * factor;
            float added[2] = {0.0f, 0.0f};
#pragma unroll
            for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
                for (int next = 0; next < 2; ++next) {
                    float &weight = x_[j][2 * half + next];
                    weight = exp2_fast(fmaf(weight, factor, -reference));
                    added[next] += weight;
                }
            sum_[half] = fmaf(sum_[half], alpha[half], added[0] + added[1]);
        }
    }

    /// Leaves the weights of the own block, its rows' references and what moved them to the other warpgroup.
    ATTN_DEVICE void hand_over(const float (&alpha)[2]) const
    {
        // The weights take the place of channels that all warps of this warpgroup have multiplied by now.
        named_barrier_wait(kOneConsumer + side, kWarpgroup);
        const int row = row_ - lane_ / 4 + lane_ % 16;
        const u32 to = base_ + kAt.k + side * kBufferBytes + kTailAt + row * 128;
#pragma unroll
        for (int k = 0; k < kKeys / 16; ++k)
            store_matrices(to + ((2 * k + lane_ / 16) ^ (lane_ % 8)) * 16, weights_[k][0], weights_[k][1],
                           weights_[k][2], weights_[k][3]);
#pragma unroll
        for (int half = 0; half < 2; ++half)
            if (lane_ % 4 == 0) statistic(side, kMax, half) = max_[half], statistic(side, kAlpha, half) = alpha[half];
        fence_shared_for_engines();
        mbarrier_arrive(weights_barrier(base_, side));
    }

    /// Waits for what the other warpgroup leaves of its block.
    ATTN_DEVICE void take_over()
    {
        mbarrier_wait(weights_barrier(base_, 1 - side), parity_);
        float alpha[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            max_[half] = statistic(1 - side, kMax, half), alpha[half] = statistic(1 - side, kAlpha, half);
            sum_[half] *= alpha[half];
        }
        multiply_output(alpha);
    }

    ATTN_DEVICE void multiply_output(const float (&alpha)[2])
    {
        if (!__any_sync(kAllLanes, alpha[0] != 1.0f || alpha[1] != 1.0f)) return;
#pragma unroll
        for (int j = 0; j < kHalfV / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) o_[j][e] *= alpha[e / 2];
    }

    /// This half of V of keys that no row sees becomes 0: a weight of 0 would still make NaN of what is not finite
    /// there. By now all warps that multiply Q with these keys have done so, and the other warpgroup reads none of this
    /// half.
    ATTN_DEVICE void clear_hidden(int block, int buffer) const
    {
        if (schedule_.contains(block, kKeys)) return;
        wait_for(buffer, side);
        char *values = shared_memory + kAt.k + buffer * kBufferBytes + side * kHalfBytes;
#pragma unroll 1
        for (int unit = static_cast<int>(threadIdx.x) % kWarpgroup; unit < kHalfBytes / 16; unit += kWarpgroup)
            if (!schedule_.in_hull(block + unit / 8 % kKeys))
                *reinterpret_cast<uint4 *>(values + 16 * unit) = make_uint4(0, 0, 0, 0);
        fence_shared_for_engines();
        named_barrier_wait(kOneConsumer + side, kWarpgroup);
    }

    /// Own weights, which are in registers, times V of the same keys.
    ATTN_DEVICE void start_own_pv()
    {
        const u64 v = v_descriptor_ + descriptor_step(side * kBufferBytes);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < kKeys / 16; ++k)
            Wgmma<kType, kHalfV>::registers(o_, weights_[k], v + k * descriptor_step(16 * 128));
        wgmma_commit();
    }
    /// The other warpgroup's weights, which are in shared memory, times V of their keys.
    ATTN_DEVICE void start_other_pv()
    {
        constexpr int kOther = 1 - side;
        const u64 weights = k_descriptor_ + descriptor_step(kOther * kBufferBytes + kTailAt);
        const u64 v = v_descriptor_ + descriptor_step(kOther * kBufferBytes);
        wait_for(kOther, side);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < kKeys / 16; ++k)
            Wgmma<kType, kHalfV>::shared_along_n(o_, weights + k * descriptor_step(32),
                                                 v + k * descriptor_step(16 * 128));
        wgmma_commit();
    }
    ATTN_DEVICE void end_pv()
    {
        wgmma_wait<0>();
        pin(o_);
    }

    const ForwardParams &p_;
    const Schedule &schedule_;
    const u32 base_; ///< Address of shared memory.
    const int lane_, row_, column_;
    const u64 q_descriptor_, k_descriptor_, v_descriptor_; ///< Of the first buffer; of V the own half.
    u32 parity_ = 0;                                       ///< Of the phase of the barriers of both buffers.
    KeyRange keys_[2];                                     ///< That the rows see.
    float max_[2];                                         ///< References of the rows, in units of products.
    float sum_[2];                                         ///< Of weights of the own blocks, of this thread's columns.
    Scores x_;                                             ///< Products, then weights.
    u32 weights_[kKeys / 16][4];                           ///< In pairs, while products read them.
    Output o_;
};

} // namespace attn::sm90

/// Grid: a block for each sequence, head group, split and tile of rows; those of a cluster have rows of one token. The
/// map is of [batch or page, head, row, channel], in boxes of 64 channels and `box_keys` rows, swizzled by 128 bytes.
extern "C" __global__ void __launch_bounds__(attn::sm90::kShape.threads(), 1)
    attn_dense_latent_sm90(const __grid_constant__ attn::ptx::TensorMap k,
                           const __grid_constant__ attn::gpu::ForwardParams p, const int box_keys)
{
    using namespace attn::sm90;
    const u32 base = shared_address(shared_memory);
    if (threadIdx.x == 0) {
        for (int buffer = 0; buffer < LatentShape::kBuffers; ++buffer)
            for (int piece = 0; piece < kPieces; ++piece) {
                mbarrier_init(full_barrier(base, buffer, piece), 1);
                mbarrier_init(empty_barrier(base, buffer, piece), kCluster * kWarpgroup / 32);
            }
        for (int i = 0; i < LatentShape::kConsumers; ++i) mbarrier_init(weights_barrier(base, i), kWarpgroup);
        mbarrier_init(sums_barrier(base), kConsumerThreads);
        mbarrier_init_fence();
        tma_prefetch(k);
    }
    // The next kernel may begin as soon as there is room; it waits for the end of this one, as this one does now for
    // the one before.
    launch_dependents();
    if constexpr (kCluster > 1)
        cluster_barrier();
    else
        __syncthreads();
    wait_for_kernel_before();
    const Work work(p);
    const Sequence s = sequence_of(p.sequences, work.batch);
    const int total = s.q_length * p.group;
    if (work.first >= total) return; // no rows
    const Schedule schedule(p.mask, s, work.first / p.group, (smaller(work.first + kRows, total) - 1) / p.group, kKeys);
    const SplitRange blocks(schedule.count, work.split, p.splits);
    const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
    if (warpgroup == LatentShape::kConsumers) {
        give_registers<LatentShape::kProducerRegisters>();
        if (threadIdx.x / 32 == kConsumerThreads / 32)
            copy_blocks(p, k, s, schedule, blocks.begin, blocks.end, work.head0, box_keys, base);
        return;
    }
    take_registers<LatentShape::kConsumerRegisters>();
    load_queries(p, s, work, total);
    named_barrier_wait(kAllConsumers, kConsumerThreads);
    const auto compute = [&](auto consumer) {
        consumer.visit(blocks.begin, blocks.end);
        if constexpr (kCluster > 1) cluster_barrier(); // until then the other says here what it has read
        if (p.splits > 1)
            consumer.write_partial(work, total);
        else
            consumer.write(s, work, total);
    };
    if (warpgroup == 0)
        compute(Consumer<0>(p, s, schedule, work, total, base));
    else
        compute(Consumer<1>(p, s, schedule, work, total, base));
}

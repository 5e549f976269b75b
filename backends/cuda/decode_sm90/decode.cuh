// Dense attention of few rows for Hopper (sm_90a), as in decoding: up to 64 rows of a sequence and a head of K, fp16
// and bf16. Reading K and V bounds it, so a warp does nothing but keep the tensor memory accelerator busy.
//
//   warp 4       asks for K, V of blocks 0, 1, 2 ... of its split of the keys, as many as there are stages ahead
//   warps 0-3    16 rows and some keys of each block:  S = Q K^T -> mask -> weights (online softmax) -> O += W V
//   at the end   the sums that several warps have of a row are merged through shared memory; 64 rows are written as
//                they are, by all warps at once
//
//   rows of a tile   warps by rows x keys   keys of a warp
//   16               1 x 4                  16
//   32               2 x 2                  32
//   64               4 x 1                  64
//
// A tile whose keys are split is finished in one of two ways. Splits that all fit the GPU at once are a cluster of
// blocks of threads, which send each other their sums, each row to the block that finishes it. Others leave them in the
// workspace, for the kernel that combines them.
//
// The order of all sums depends on the number of splits alone.
#include "backends/cuda/decode_sm90/shape.h"
#include "backends/cuda/key_boxes.cuh"
#include "backends/cuda/ptx/cluster.cuh"
#include "backends/cuda/ptx/kernel_order.cuh"
#include "backends/cuda/ptx/mbarrier.cuh"
#include "backends/cuda/ptx/named_barrier.cuh"
#include "backends/cuda/ptx/tma.cuh"
#include "backends/gpu/dense/combine_row.cuh"

namespace attn::sm90 {

using namespace gpu; // params, sequences, results and the platform are those of the portable kernel
using namespace ptx;

constexpr DecodeShape kShape = {ATTN_TYPE, ATTN_ROWS, ATTN_DIM_QK, ATTN_DIM_V, ATTN_STAGES, ATTN_BLOCKS};
static_assert(kShape.fault() == nullptr, "no kernel can have this shape");

constexpr Element kType = static_cast<Element>(kShape.type);
constexpr int kDimQk = kShape.dim_qk, kDimV = kShape.dim_v;
constexpr int kQkBlocks = kShape.qk_blocks(), kVBlocks = kShape.v_blocks();
constexpr int kStages = kShape.stages;
constexpr int kWarps = DecodeShape::kWarps, kRows = kShape.rows, kKeys = DecodeShape::kKeys;
constexpr int kWarpRows = DecodeShape::kWarpRows, kRowWarps = kShape.row_warps(), kKeyWarps = kShape.key_warps();
constexpr int kWarpKeys = kShape.warp_keys(), kStepKeys = kShape.step_keys();
constexpr int kPieces = kStepKeys / 16; ///< Of 16 keys, whose weights are one operand of a product.
/// What rows and the tile see is kept where registers suffice; else it is found anew for the few blocks that need it.
constexpr bool kKeepsRanges = kWarpKeys == 16;
constexpr int kKBytes = kShape.k_bytes(), kStageBytes = kShape.stage_bytes();
constexpr int kBlockBytes = kKeys * 128, kPieceBytes = 16 * 128; ///< Of 64 channels.
constexpr int kPartStep = kShape.part_step(), kPartBytes = kShape.part_bytes();
constexpr DecodeLayout kAt = kShape.shared();
constexpr bool kReceivesApart = kShape.receives_apart();
constexpr bool kSendsParts = kKeyWarps == 1; ///< Of a cluster, as the warps left them; else sums of a row's.

constexpr int kConsumerThreads = 32 * kWarps;
constexpr int kLaneChannels = 4, kPartsAtOnce = 8; ///< Where a warp merges the parts of a row.
constexpr int kConsumerBarrier = 1;                ///< Of the warps that compute.

extern __shared__ __align__(1024) char shared_memory[];

/// The same number, as one that the compiler knows nothing of: no register keeps what follows from it through a loop.
ATTN_DEVICE int anew(int x)
{
    asm volatile("" : "+r"(x));
    return x;
}

ATTN_DEVICE u32 full_barrier(u32 base, int stage)
{
    return base + kAt.barriers + 16 * stage;
}
ATTN_DEVICE u32 empty_barrier(u32 base, int stage)
{
    return full_barrier(base, stage) + 8;
}

/// The stages in turn, and the parity of the phase of their barriers.
struct Stages {
    int at = 0;
    u32 parity = 0;

    ATTN_DEVICE void advance()
    {
        if (++at == kStages) at = 0, parity ^= 1;
    }
};

/// What this block of threads computes.
struct Work {
    int split;
    i64 tile; ///< Of sequence and head group.
    int batch, head0;

    /// Splits of a cluster follow each other. Else the heads of a split do: their keys lie side by side.
    ATTN_DEVICE Work(const ForwardParams &p, bool clustered)
    {
        const u32 index = block_number(), splits = static_cast<u32>(p.splits);
        const u32 groups = static_cast<u32>(p.heads_out / p.group);
        const u32 tiles = static_cast<u32>(p.sequences.batch) * groups;
        const u32 number = clustered ? index / splits : index % tiles;
        split = static_cast<int>(clustered ? index - number * splits : index / tiles);
        tile = number;
        batch = static_cast<int>(number / groups);
        head0 = static_cast<int>(number - static_cast<u32>(batch) * groups) * p.group;
    }
    /// Where the split leaves its sums if it is not of a cluster.
    ATTN_DEVICE float *partial(const ForwardParams &p) const
    {
        return p.partials + (tile * p.splits + split) * partial_floats(kRows, p.dim_v);
    }
};

/// By one warp: copies blocks of keys [begin, end) of a schedule. `box_keys`: rows that a copy has, all of one page.
ATTN_DEVICE void copy_blocks(const ForwardParams &p, const TensorMap &k, const TensorMap &v, const Sequence &s,
                             const Schedule &schedule, int begin, int end, int head0, int box_keys, u32 base)
{
    const int lane = threadIdx.x % 32;
    const int k_head = head_of(p, head0, p.heads_k), v_head = head_of(p, head0, p.heads_v);
    const int boxes = kKeys / box_keys;
    // A page is looked at only when there is room for it: until then the table is read.
    KeyBox box(p, s);
    const auto locate = [&](int i) { box.locate(schedule.block_of(i) * kKeys + lane * box_keys); };
    if (lane < boxes && begin < end) locate(begin);
    Stages stage;
#pragma unroll 1
    for (int i = begin; i < end; ++i, stage.advance()) {
        mbarrier_wait(empty_barrier(base, stage.at), stage.parity ^ 1);
        const u32 full = full_barrier(base, stage.at);
        if (lane == 0) mbarrier_expect(full, kStageBytes);
        __syncwarp();
        if (lane < boxes) {
            const u32 to = base + kAt.stages + stage.at * kStageBytes + lane * box_keys * 128;
            const int row = box.row(), place = box.outer();
#pragma unroll
            for (int b = 0; b < kQkBlocks; ++b) tma_load(to + b * kBlockBytes, k, full, 64 * b, row, k_head, place);
#pragma unroll
            for (int b = 0; b < kVBlocks; ++b)
                tma_load(to + kKBytes + b * kBlockBytes, v, full, 64 * b, row, v_head, place);
            if (i + 1 < end) locate(i + 1);
        }
    }
}

/// The rows of a tile whose splits are the blocks of a cluster. Each block finishes some that follow each other, of
/// which all send it their parts: none reads another's memory and waits for the answer.
struct ClusterRows {
    int rows, blocks;
    int block; ///< This one: its split, and its rank.
    u32 base;  ///< Address of shared memory.

    /// That a block finishes; the last blocks fewer, or none.
    ATTN_DEVICE int each() const { return (rows + blocks - 1) / blocks; }
    ATTN_DEVICE int begin_of(int block) const { return smaller(rows, block * each()); }
    ATTN_DEVICE int begin() const { return begin_of(block); }
    ATTN_DEVICE int end() const { return begin_of(block + 1); }

    /// Where a block receives this one's part of the row that is `number` of its own. Parts of a block lie together.
    ATTN_DEVICE u32 place(int to, int number) const
    {
        return place_in_block(base + kAt.received, to) + (block * each() + number) * kPartStep * 4;
    }
    ATTN_DEVICE u32 barrier() const { return full_barrier(base, kStages); }
    ATTN_DEVICE u32 barrier_of(int to) const { return place_in_block(barrier(), to); }
    /// Waits for the parts of all own rows. Bytes that came before they were announced count, too.
    ATTN_DEVICE void receive() const
    {
        constexpr int kFloats = kSendsParts ? kPartStep : kDimV + 2;
        if (threadIdx.x == 0) mbarrier_expect(barrier(), (end() - begin()) * blocks * kFloats * 4);
        mbarrier_wait_for_blocks(barrier(), 0);
    }
};

/// One of the warps that compute. A thread holds rows lane / 4 and 8 below, of products in pieces of 8 columns the
/// columns 2 (lane % 4) and the next.
class Consumer {
public:
    ATTN_DEVICE Consumer(const ForwardParams &p, const Sequence &s, const Schedule &schedule, int head0, u32 base)
        : p_(p),
          s_(s),
          schedule_(schedule),
          base_(base),
          warp_(__shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / 32, 0)),
          lane_(static_cast<int>(threadIdx.x) % 32),
          column_(2 * (lane_ % 4))
    {
        load_queries(head0);
#pragma unroll
        for (int half = 0; half < 2; ++half) max_[half] = -infinity(), sum_[half] = 0.0f;
#pragma unroll
        for (int j = 0; j < kDimV / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) o_[j][e] = 0.0f;
    }

    ATTN_DEVICE void visit(int begin, int end)
    {
        Stages stage;
#pragma unroll 1
        for (int i = begin; i < end; ++i, stage.advance()) {
            mbarrier_wait(full_barrier(base_, stage.at), stage.parity);
            const u32 k = base_ + kAt.stages + stage.at * kStageBytes, v = k + kKBytes;
            const int block = schedule_.block_of(i) * kKeys;
            const bool full = schedule_.is_full(block, kKeys);
            if (!full) clear_hidden(block, v);
            if (has_rows()) {
#pragma unroll 1
                for (int key = 0; key < kWarpKeys; key += kStepKeys) {
                    const int from = (first_key() + key) * 128;
                    float x[2 * kPieces][4];
                    multiply_qk(k + from, x);
                    if (!full) mask(block + first_key() + key, x);
                    soften(x);
                    multiply_pv(x, v + from);
                }
            }
            // By each thread for itself: tools that look for races do not follow what __syncwarp() orders.
            mbarrier_arrive(empty_barrier(base_, stage.at));
        }
    }

    /// Leaves the sums of this warp among the parts in shared memory, once no warp reads K and V any more.
    ATTN_DEVICE void leave_parts()
    {
        named_barrier_wait(kConsumerBarrier, kConsumerThreads);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float *row = reinterpret_cast<float *>(shared_memory + kAt.parts + first_key() / kWarpKeys * kPartBytes) +
                         row_of(half) * kPartStep;
#pragma unroll
            for (int j = 0; j < kDimV / 8; ++j)
                *reinterpret_cast<float2 *>(row + 8 * j + column_) = make_float2(o_[j][2 * half], o_[j][2 * half + 1]);
            const RowSums sums = sums_of(half);
            if (lane_ % 4 == 0) row[kDimV] = sums.max, row[kDimV + 1] = sums.sum;
        }
        if constexpr (kSendsParts) fence_shared_for_engines();
        named_barrier_wait(kConsumerBarrier, kConsumerThreads);
    }

    // With one warp for all keys of a row its sums are whole, and the 16 rows of each need not go through shared memory
    // one by one. OUT is of the type of V; its rows are contiguous and aligned.

    /// Writes the results of a tile that is not split.
    ATTN_DEVICE void write_rows(int head0) const
    {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const RowSums sums = sums_of(half);
            const int row = row_of(half);
            if (!has_row(row)) continue;
            const int token = row / p_.group, head = head0 + row - token * p_.group;
            const RowFactor factor = finish_row<false>(p_, s_, token, head, sums, lane_ % 4 == 0);
            u32 *out = reinterpret_cast<u32 *>(const_cast<char *>(token_address(p_, p_.out, s_, token, head)));
            const auto finished = [&](int j, int side) {
                return finish_element<false>(p_, factor, nullptr, 0, o_[j][2 * half + side]);
            };
#pragma unroll
            for (int j = 0; j < kDimV / 8; ++j)
                if (8 * j < p_.dim_v) out[4 * j + column_ / 2] = pack_pair<kType>(finished(j, 0), finished(j, 1));
        }
    }

    /// Writes the partial result of a split: see partial_floats().
    ATTN_DEVICE void write_partial(float *to) const
    {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const RowSums sums = sums_of(half);
            const int row = row_of(half);
            if (!has_row(row)) continue;
            float *values = to + row * p_.dim_v;
#pragma unroll
            for (int j = 0; j < kDimV / 8; ++j)
                if (8 * j < p_.dim_v)
                    *reinterpret_cast<float2 *>(values + 8 * j + column_) =
                        make_float2(o_[j][2 * half], o_[j][2 * half + 1]);
            float *statistics = to + kRows * p_.dim_v + row;
            if (lane_ % 4 == 0) statistics[0] = sums.max, statistics[kRows] = sums.sum, statistics[2 * kRows] = 0.0f;
        }
    }

    ATTN_DEVICE int warp() const
    {
        return warp_;
    }
    ATTN_DEVICE int lane() const
    {
        return lane_;
    }

private:
    /// Of the tile.
    ATTN_DEVICE int first_row() const
    {
        return kRowWarps == 1 ? 0 : kWarpRows * (warp_ / kKeyWarps);
    }
    /// Of a stage.
    ATTN_DEVICE int first_key() const
    {
        return kWarpKeys * (kRowWarps == 1 ? warp_ : warp_ % kKeyWarps);
    }
    ATTN_DEVICE bool has_row(int row) const
    {
        return row < s_.q_length * p_.group;
    }
    /// Else the warp only helps to clear.
    ATTN_DEVICE bool has_rows() const
    {
        return kRowWarps == 1 || has_row(first_row());
    }
    ATTN_DEVICE int row_of(int half) const
    {
        return first_row() + lane_ / 4 + 8 * half;
    }

    /// What the keys of this warp leave of a row. All lanes ask together.
    ATTN_DEVICE RowSums sums_of(int half) const
    {
        return {max_[half] * p_.score_factor, row_sum(sum_[half]), 0.0f};
    }

    /// Rows of Q as the products want them: rows of the tile are tokens, each with its heads of the group.
    ATTN_DEVICE void load_queries(int head0)
    {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = row_of(half);
            const bool is_row = has_row(row);
            const int token = is_row ? row / p_.group : 0;
            const int head = head_of(p_, head0 + (is_row ? row - token * p_.group : 0), p_.heads_q);
            if (kKeepsRanges) keys_[half] = range_of(row);
            const char *from = token_address(p_, p_.q, s_, token, head);
#pragma unroll
            for (int c = 0; c < kDimQk / 16; ++c)
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    const int channel = 16 * c + 8 * side + column_;
                    q_[c][half + 2 * side] =
                        is_row && channel < p_.dim_qk ? *reinterpret_cast<const u32 *>(from + 2 * channel) : 0u;
                }
        }
    }

    /// Scores of the keys from `k` on.
    ATTN_DEVICE void multiply_qk(u32 k, float (&x)[2 * kPieces][4]) const
    {
#pragma unroll
        for (int j = 0; j < 2 * kPieces; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) x[j][e] = 0.0f;
        const int row = lane_ % 8 + lane_ / 16 * 8;
        const u32 at = k + row * 128 + ((lane_ / 8 % 2) ^ (row % 8)) * 16;
#pragma unroll
        for (int c = 0; c < kDimQk / 16; ++c)
#pragma unroll
            for (int piece = 0; piece < kPieces; ++piece) {
                u32 b[4];
                load_matrices(b, (at ^ (c % 4 * 32)) + c / 4 * kBlockBytes + piece * kPieceBytes);
                multiply<kType>(x[2 * piece], q_[c], b[0], b[1]);
                multiply<kType>(x[2 * piece + 1], q_[c], b[2], b[3]);
            }
    }

    /// Keys that a row sees.
    ATTN_DEVICE KeyRange range_of(int row) const
    {
        return keys_of(p_.mask, s_, has_row(row) ? row / p_.group : 0);
    }

    /// `first`: key of column 0.
    ATTN_DEVICE void mask(int first, float (&x)[2 * kPieces][4]) const
    {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const KeyRange keys = kKeepsRanges ? keys_[half] : range_of(anew(row_of(half)));
#pragma unroll
            for (int j = 0; j < 2 * kPieces; ++j)
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    const int key = first + 8 * j + column_ + side;
                    const bool seen = (keys.begin <= key && key < keys.end) || key < keys.sinks;
                    if (!seen) x[j][2 * half + side] = -infinity();
                }
        }
    }

    /// Products to weights. A row keeps its reference until a product exceeds it by so much, in units of log2(e):
    /// weights of up to 2^8 lose nothing, and what was summed before need not be multiplied.
    ATTN_DEVICE void soften(float (&x)[2 * kPieces][4])
    {
        constexpr float kSlack = 8.0f;
        const float factor = p_.score_factor;
        float top[2];
        bool moves = false;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            top[half] = fmaxf(x[0][2 * half], x[0][2 * half + 1]);
#pragma unroll
            for (int j = 1; j < 2 * kPieces; ++j)
                top[half] = fmaxf(top[half], fmaxf(x[j][2 * half], x[j][2 * half + 1]));
            moves |= (top[half] - max_[half]) * factor > kSlack;
        }
        if (__any_sync(kAllLanes, moves)) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float old = max_[half], here = row_max(top[half]);
                // A row that need not move stays: its bits do not depend on the other rows.
                const float now = (here - old) * factor > kSlack ? fmaxf(old, here) : old;
                const float alpha = exp2_fast((old - (now == -infinity() ? 0.0f : now)) * factor);
                max_[half] = now;
                sum_[half] *= alpha;
#pragma unroll
                for (int j = 0; j < kDimV / 8; ++j) o_[j][2 * half] *= alpha, o_[j][2 * half + 1] *= alpha;
            }
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float reference = max_[half] == -infinity() ? 0.0f : max_[half] * factor;
#pragma unroll
            for (int j = 0; j < 2 * kPieces; ++j)
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    float &weight = x[j][2 * half + side];
                    weight = exp2_fast(fmaf(weight, factor, -reference));
                    sum_[half] += weight;
                }
        }
    }

    /// V of keys that no row sees becomes 0: a weight of 0 would still make NaN of what is not finite there. Warps of
    /// the same keys share the work, before any of them reads V of the stage.
    ATTN_DEVICE void clear_hidden(int block, u32 v) const
    {
        const Schedule schedule = kKeepsRanges ? schedule_ : Schedule(p_.mask, s_, anew(0), s_.q_length - 1, kKeys);
        if (schedule.contains(block, kKeys)) return;
        const int first = block + first_key();
        char *rows = shared_memory + (v - base_) + first_key() * 128;
#pragma unroll 1
        for (int unit = lane_ + 2 * first_row(); unit < kVBlocks * kWarpKeys * 8; unit += 32 * kRowWarps) {
            const int row = unit / 8 % kWarpKeys;
            if (!schedule.in_hull(first + row))
                *reinterpret_cast<uint4 *>(rows + unit / (8 * kWarpKeys) * kBlockBytes + row * 128 + unit % 8 * 16) =
                    make_uint4(0, 0, 0, 0);
        }
        fence_shared_for_engines(); // which write here next
        if constexpr (kRowWarps == 1)
            __syncwarp();
        else
            named_barrier_wait(kConsumerBarrier, kConsumerThreads);
    }

    /// Adds the rows of V from `v` on, by their weights.
    ATTN_DEVICE void multiply_pv(const float (&x)[2 * kPieces][4], u32 v)
    {
        const int row = lane_ % 16;
        const u32 at = v + row * 128 + ((lane_ / 16) ^ (row % 8)) * 16;
#pragma unroll
        for (int piece = 0; piece < kPieces; ++piece) {
            const float(&left)[4] = x[2 * piece], (&right)[4] = x[2 * piece + 1];
            const u32 a[4] = {pack_pair<kType>(left[0], left[1]), pack_pair<kType>(left[2], left[3]),
                              pack_pair<kType>(right[0], right[1]), pack_pair<kType>(right[2], right[3])};
#pragma unroll
            for (int j = 0; j < kDimV / 16; ++j) {
                u32 b[4];
                load_matrices_transposed(b, (at ^ (j % 4 * 32)) + j / 4 * kBlockBytes + piece * kPieceBytes);
                multiply<kType>(o_[2 * j], a, b[0], b[1]);
                multiply<kType>(o_[2 * j + 1], a, b[2], b[3]);
            }
        }
    }

    const ForwardParams &p_;
    const Sequence &s_;
    const Schedule &schedule_;
    const u32 base_; ///< Address of shared memory.
    const int warp_, lane_, column_;
    KeyRange keys_[2]; ///< That the rows see, where they are kept.
    u32 q_[kDimQk / 16][4];
    float max_[2]; ///< Of products.
    float sum_[2]; ///< Of weights, of this thread's columns.
    float o_[kDimV / 8][4];
};

/// Parts of a row in the shared memory of this block: of its warps, or received from the blocks of the cluster.
struct SharedParts {
    const float *row; ///< Of the first.
    int step;         ///< Floats to that of the next.

    struct Part {
        const float *row;
        ATTN_DEVICE float max() const { return row[kDimV]; }
        ATTN_DEVICE RowSums sums() const { return {max(), row[kDimV + 1], 0.0f}; }
        ATTN_DEVICE float value(int channel) const { return row[channel]; }
    };
    ATTN_DEVICE Part operator()(int i) const { return {row + i * step}; }
};
using WholeRow = MergedRow<SharedParts, kLaneChannels, kPartsAtOnce>; ///< Of a split.

/// The parts that the warps of this block have of a row.
ATTN_DEVICE SharedParts parts_of_warps(int row)
{
    return {reinterpret_cast<const float *>(shared_memory + kAt.parts) + row * kPartStep, kPartBytes / 4};
}

ATTN_DEVICE SharedParts received_parts(const ClusterRows &rows, int row)
{
    const float *parts = reinterpret_cast<const float *>(shared_memory + kAt.received);
    return {parts + (row - rows.begin()) * kPartStep, rows.each() * kPartStep};
}

/// Calls `take(channel, sum)` for the channels of a row that are this lane's, up to `dim`.
template <class Take>
ATTN_DEVICE void each_channel(const WholeRow &row, int dim, int lane, const Take &take)
{
#pragma unroll 1
    for (int first = 0; first < dim; first += 32 * kLaneChannels) {
        float sum[kLaneChannels];
        row.values(first, dim, sum);
#pragma unroll
        for (int i = 0; i < kLaneChannels; ++i)
            if (first + lane + 32 * i < dim) take(first + lane + 32 * i, sum[i]);
    }
}

/// Merges the warps' parts of a row into the partial result of the split, see partial_floats().
ATTN_DEVICE void write_partial_row(const ForwardParams &p, int row, float *to, int lane)
{
    const WholeRow whole(parts_of_warps(row), kKeyWarps, true, lane);
    float *values = to + row * p.dim_v, *statistics = to + kRows * p.dim_v + row;
    if (lane == 0) {
        statistics[0] = whole.sums.max;
        statistics[kRows] = whole.sums.sum;
        statistics[2 * kRows] = 0.0f; // a spread, which only the general kernel's combination reads
    }
    each_channel(whole, p.dim_v, lane, [&](int channel, float sum) { values[channel] = sum; });
}

/// Merges the warps' parts of a row and sends the sum to the block that finishes it. By the warp's own stores, which
/// are there sooner than a copy that waits for them.
ATTN_DEVICE void send_row(const ClusterRows &rows, int row, int lane)
{
    const int to = row / rows.each();
    const u32 place = rows.place(to, row - to * rows.each()), barrier = rows.barrier_of(to);
    const WholeRow whole(parts_of_warps(row), kKeyWarps, true, lane);
    if (lane == 0) send_to_block(place + kDimV * 4, make_float2(whole.sums.max, whole.sums.sum), barrier);
    each_channel(whole, kDimV, lane, [&](int channel, float sum) { send_to_block(place + channel * 4, sum, barrier); });
}

/// Sends all parts of rows that a block finishes as they are: each row has one, and there are many.
ATTN_DEVICE void send_parts(const ClusterRows &rows, int to)
{
    const int begin = rows.begin_of(to), count = rows.begin_of(to + 1) - begin, row_bytes = kPartStep * 4;
    if (count > 0)
        send_copy_to_block(rows.place(to, 0), rows.base + kAt.parts + begin * row_bytes, count * row_bytes,
                           rows.barrier_of(to));
}

} // namespace attn::sm90

/// Grid: a block for each sequence, head group and split; `clustered`: the splits of a tile are a cluster. The maps are
/// of [batch or page, head, row, channel], in boxes of 64 channels and `box_keys` rows, swizzled by 128 bytes.
extern "C" __global__ void __launch_bounds__(attn::sm90::kShape.threads(), ATTN_BLOCKS)
    attn_dense_decode_sm90(const __grid_constant__ attn::ptx::TensorMap k,
                           const __grid_constant__ attn::ptx::TensorMap v,
                           const __grid_constant__ attn::gpu::ForwardParams p, const int box_keys, const int clustered)
{
    using namespace attn::sm90;
    const u32 base = shared_address(shared_memory);
    if (threadIdx.x == 0) {
        for (int i = 0; i < kStages; ++i) {
            mbarrier_init(full_barrier(base, i), 1);
            mbarrier_init(empty_barrier(base, i), kConsumerThreads);
        }
        mbarrier_init(full_barrier(base, kStages), 1); // for rows that a cluster sends
        mbarrier_init_fence();
        tma_prefetch(k), tma_prefetch(v);
    }
    // Others may send here from now on; or once K and V are read, if what is sent takes their place.
    if (kReceivesApart && clustered) cluster_arrive();
    // The next kernel may begin as soon as there is room; it waits for the end of this one, as this one does now for
    // the one before.
    launch_dependents();
    const Work work(p, clustered != 0);
    __syncthreads(); // barriers are there
    wait_for_kernel_before();
    const Sequence s = sequence_of(p.sequences, work.batch);
    const int total = s.q_length * p.group;
    if (total == 0) return; // and so do the other splits
    const Schedule schedule(p.mask, s, 0, s.q_length - 1, kKeys);
    const SplitRange blocks(schedule.count, work.split, p.splits);
    if (threadIdx.x >= kConsumerThreads) {
        copy_blocks(p, k, v, s, schedule, blocks.begin, blocks.end, work.head0, box_keys, base);
        return;
    }
    Consumer consumer(p, s, schedule, work.head0, base);
    consumer.visit(blocks.begin, blocks.end);
    if (!kReceivesApart && clustered) cluster_arrive(); // read they are: products have used all of them
    const ClusterRows rows = {total, p.splits, work.split, base};
    const int warp = consumer.warp(), lane = consumer.lane();
    if constexpr (kSendsParts) {
        if (p.splits == 1) {
            consumer.write_rows(work.head0);
            return;
        }
        if (!clustered) {
            consumer.write_partial(work.partial(p));
            return;
        }
    }
    consumer.leave_parts();
    if (p.splits > 1 && !clustered) {
        const Work found_anew(p, false); // rather than keep it in registers
        for (int row = warp; row < total; row += kWarps) write_partial_row(p, row, found_anew.partial(p), lane);
        return;
    }
    const bool is_cluster = kSendsParts || clustered;
    if (is_cluster) {
        cluster_wait();
        if constexpr (!kSendsParts)
            for (int row = warp; row < total; row += kWarps) send_row(rows, row, lane);
        else if (warp == 0 && lane < rows.blocks)
            send_parts(rows, lane);
    }
    // A tile that is not split is a cluster of one, but for where the parts of its rows are.
    const int begin = rows.begin(), end = rows.end();
    if (is_cluster && begin < end) rows.receive();
    if (kSendsParts) cluster_arrive(); // what was sent to this block is there
    for (int row = begin + warp; row < end; row += kWarps) {
        const int token = row / p.group;
        const SharedParts parts = is_cluster ? received_parts(rows, row) : parts_of_warps(row);
        combine_row<false, kLaneChannels, kPartsAtOnce>(p, parts, is_cluster ? rows.blocks : kKeyWarps, s, token,
                                                        work.head0 + row - token * p.group, 0, p.dim_v, lane);
    }
    if (kSendsParts) cluster_wait(); // until then what this block sends may have to be read
}

// Dense attention, forward, on any GPU with mma.sync and cp.async (sm_80 and newer): one block of threads computes one
// tile of query rows against the keys of its sequence, or a split of them. config.cuh says how warps share the work.
//
//   block i of keys:   wait for K, V (i) | barrier | start copies of K, V (i + 1)
//                      S = Q K^T -> factors, biases, mask -> weights (online softmax) -> O = alpha O + W V
//
// With two stages the copies of one block run while the block before is computed; a second block of threads on the same
// SM fills what gaps remain. Everything that is not the plain operator (scale, causal, windows, lengths, pages, head
// groups, LSE) is compiled into kernels with ATTN_GENERAL alone.
#include "backends/gpu/dense/results.cuh"
#include "backends/gpu/dense/softmax.cuh"
#include "backends/gpu/dense/walk.cuh"
#include "backends/gpu/dense/write_row.cuh"

namespace attn::gpu {

/// Which tile of which sequence this block of threads computes.
struct Work {
    int batch, group, row_tile, split;
    i64 tile; ///< Number of the tile in the launch, for partial results.

    ATTN_DEVICE explicit Work(const ForwardParams &p)
    {
        const int groups = p.heads_out / p.group;
        const u32 index = block_number();
        split = static_cast<int>(index % p.splits);
        const int place = static_cast<int>(index / p.splits);
        // Sections of sequences and head groups, in each the last rows first: those see the most keys where causal.
        const int section = place / (p.section * p.row_tiles), rest = place - section * p.section * p.row_tiles;
        const int pairs = smaller(p.section, p.sequences.batch * groups - section * p.section);
        row_tile = p.row_tiles - 1 - rest / pairs;
        const int pair = section * p.section + rest % pairs;
        batch = pair / groups;
        group = pair - batch * groups;
        tile = static_cast<i64>(pair) * p.row_tiles + row_tile;
    }
};

/// Whether the copies of the next block start before the products of this one: where rows wait for memory, and where
/// products are short. Else they start once the products have.
constexpr bool kCopiesFirst = kWarpsK > 1 || kDimV <= 64;

/// V rows that no row of the tile sees become 0: a weight of 0 would still make NaN of what is not finite there.
ATTN_DEVICE void clear_unseen(const Pieces<kWarpKeys> &x, char *shared, const Place &at, int v_at)
{
    u32 *seen = reinterpret_cast<u32 *>(shared + kAt.seen);
    for (int r = threadIdx.x; r < kKeys; r += kThreads) seen[r] = 0;
    __syncthreads();
    each_score([&](int, int t, int j, int e, int column) {
        if (x[t][j][e] != -infinity()) seen[(at.warp_k * kWarpsN + at.warp_n) * kWarpKeys + at.column + column] = 1;
    });
    __syncthreads();
    constexpr int kUnits = kDimV * kBytes / 16;
    for (int i = threadIdx.x; i < kKeys * kUnits; i += kThreads)
        if (!seen[i / kUnits])
            *reinterpret_cast<uint4 *>(shared + v_at + i / kUnits * kVStep + i % kUnits * 16) = make_uint4(0, 0, 0, 0);
    __syncthreads();
}

/// Two neighbouring channels of a row of OUT.
ATTN_DEVICE void write_two(const ForwardParams &p, char *row, int channel, float a, float b)
{
    const i32 type = kFloats ? p.out.type : static_cast<i32>(kType);
    char *to = row + channel * p.out.channel_step;
    if (p.out.vector && channel + 1 < p.dim_v && type != kFloat32) {
        *reinterpret_cast<u32 *>(to) = type == kBfloat16 ? pack_pair<kBfloat16>(a, b) : pack_pair<kFloat16>(a, b);
        return;
    }
    if (channel < p.dim_v) write_element(to, type, a);
    if (channel + 1 < p.dim_v) write_element(to + p.out.channel_step, type, b);
}

/// Writes the partial results of a split.
ATTN_DEVICE void write_partial(const ForwardParams &p, const Work &work, int token, int i, const Place &at,
                               const Pieces<kWarpChannels> &o, const RowSums &sums)
{
    if (token < 0) return;
    const int first = at.warp_n * kWarpChannels + at.column;
    const int row = at.warp_m * kWarpRows + at.row + 8 * i;
    float *partial = p.partials + (work.tile * p.splits + work.split) * partial_floats(kRows, p.dim_v);
    float *out = partial + static_cast<i64>(row) * p.dim_v;
#pragma unroll
    for (int j = 0; j < kWarpChannels / 8; ++j)
#pragma unroll
        for (int side = 0; side < 2; ++side)
            if (first + 8 * j + side < p.dim_v) out[first + 8 * j + side] = o[i / 2][j][i % 2 * 2 + side];
    if (at.lane % 4 == 0 && at.warp_n == 0) {
        float *statistics = partial + static_cast<i64>(kRows) * p.dim_v + row;
        statistics[0] = sums.max;
        statistics[kRows] = sums.sum;
        statistics[2 * kRows] = sums.spread;
    }
}

/// Writes the rows of a warp.
ATTN_DEVICE void write_rows(const ForwardParams &p, const Sequence &s, const Work &work, const Rows &rows,
                            const Place &at, const Pieces<kWarpChannels> &o, const RowSums (&sums)[kRowsOfThread])
{
    const int first = at.warp_n * kWarpChannels + at.column;
    const bool writes = at.lane % 4 == 0 && at.warp_n == 0;
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
        const int token = rows.token(p, i), head = rows.head(p, i);
        if (p.splits > 1) {
            write_partial(p, work, token, i, at, o, sums[i]);
            continue;
        }
        RowFactor factor = {0.0f, true};
        char *out = nullptr;
        if (token >= 0) {
            factor = finish_row<kGeneral>(p, s, token, head, sums[i], writes);
            out = const_cast<char *>(token_address(p, p.out, s, token, head));
        }
        if constexpr (!kGeneral && kWarpChannels % 32 == 0) {
            const int channels = token < 0 ? 0 : p.dim_v - at.warp_n * kWarpChannels;
            write_aligned<kFloats ? kBfloat16 : kType>(o[i / 2], i % 2, out + at.warp_n * kWarpChannels * 2,
                                                       factor.zero ? 0.0f : factor.factor, at.lane, channels);
            continue;
        }
        if (token < 0) continue;
        const char *gate = kGeneral && p.gate_values.base ? token_address(p, p.gate_values, s, token, head) : nullptr;
#pragma unroll
        for (int j = 0; j < kWarpChannels / 8; ++j) {
            const int channel = first + 8 * j;
            if (channel >= p.dim_v) break;
            const float a = finish_element<kGeneral>(p, factor, gate, channel, o[i / 2][j][i % 2 * 2]);
            const float b = channel + 1 < p.dim_v
                                ? finish_element<kGeneral>(p, factor, gate, channel + 1, o[i / 2][j][i % 2 * 2 + 1])
                                : 0.0f;
            write_two(p, out, channel, a, b);
        }
    }
}

/// Merges what the warps over keys found of the same rows; warp 0 of them gets the result.
ATTN_DEVICE void merge_warps(const ForwardParams &p, char *shared, const Place &at, Pieces<kWarpChannels> &o,
                             RowSums (&sums)[kRowsOfThread])
{
    float *all = reinterpret_cast<float *>(shared);
    const auto row_of = [&](int warp_k, int i) {
        return all + (static_cast<i64>(warp_k) * kRows + at.warp_m * kWarpRows + at.row + 8 * i) * kMergeStep;
    };
    __syncthreads(); // K, V and Q are read no more
    if (at.warp_k > 0) {
#pragma unroll
        for (int i = 0; i < kRowsOfThread; ++i) {
            float *row = row_of(at.warp_k, i);
#pragma unroll
            for (int j = 0; j < kWarpChannels / 8; ++j)
#pragma unroll
                for (int side = 0; side < 2; ++side) row[8 * j + at.column + side] = o[i / 2][j][i % 2 * 2 + side];
            if (at.lane % 4 == 0)
                row[kDimV] = sums[i].max, row[kDimV + 1] = sums[i].sum, row[kDimV + 2] = sums[i].spread;
        }
    }
    __syncthreads();
    if (at.warp_k > 0) return;
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
        float max = sums[i].max;
#pragma unroll
        for (int k = 1; k < kWarpsK; ++k) max = fmaxf(max, row_of(k, i)[kDimV]);
        const float reference = max == -infinity() ? 0.0f : max;
        const bool softmax = !kGeneral || p.activation == kSoftmax;
        const auto scale_of = [&](float part) { return softmax ? exp2_fast(part - reference) : 1.0f; };
        RowSums merged = {max, 0.0f, 0.0f};
        const auto add = [&](const RowSums &part, float scale) {
            merged.sum = fmaf(part.sum, scale, merged.sum);
            const float moved = part.sum == 0.0f ? 0.0f : (part.max - max) * part.sum; // of a spread to the new maximum
            merged.spread = fmaf(part.spread + moved, scale, merged.spread);
        };
        const float own = scale_of(sums[i].max);
        add(sums[i], own);
#pragma unroll
        for (int j = 0; j < kWarpChannels / 8; ++j)
#pragma unroll
            for (int side = 0; side < 2; ++side) o[i / 2][j][i % 2 * 2 + side] *= own;
#pragma unroll
        for (int k = 1; k < kWarpsK; ++k) {
            const float *row = row_of(k, i);
            const RowSums part = {row[kDimV], row[kDimV + 1], row[kDimV + 2]};
            const float scale = scale_of(part.max);
            add(part, scale);
            if (part.max == -infinity()) continue;
#pragma unroll
            for (int j = 0; j < kWarpChannels / 8; ++j)
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    float &x = o[i / 2][j][i % 2 * 2 + side];
                    x = fmaf(row[8 * j + at.column + side], scale, x);
                }
        }
        sums[i] = merged;
    }
}

/// Sums of rows over the lanes and warps that share them.
ATTN_DEVICE void total_sums(const ForwardParams &p, const RowState &state, char *shared, const Place &at,
                            RowSums (&sums)[kRowsOfThread])
{
    const float factor = kGeneral ? 1.0f : p.score_factor;
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
        const float max = kGeneral ? row_max(state.max[i]) : state.max[i]; // softmax has it already
        sums[i] = {max * factor, row_sum(state.sum[i]), kGeneral ? row_sum(state.spread[i]) : 0.0f};
    }
    if constexpr (kWarpsN > 1) {
        float *all = reinterpret_cast<float *>(shared + kAt.reduce);
        const int row = at.warp_m * kWarpRows + at.row;
        __syncthreads();
        if (at.lane % 4 == 0)
#pragma unroll
            for (int i = 0; i < kRowsOfThread; ++i) {
                all[at.warp_n * kRows + row + 8 * i] = sums[i].sum;
                all[(kWarpsN + at.warp_n) * kRows + row + 8 * i] = sums[i].spread;
                all[(2 * kWarpsN + at.warp_n) * kRows + row + 8 * i] = sums[i].max;
            }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < kRowsOfThread; ++i) {
            sums[i].sum = sums[i].spread = 0.0f;
#pragma unroll
            for (int n = 0; n < kWarpsN; ++n) {
                sums[i].sum += all[n * kRows + row + 8 * i];
                sums[i].spread += all[(kWarpsN + n) * kRows + row + 8 * i];
                sums[i].max = fmaxf(sums[i].max, all[(2 * kWarpsN + n) * kRows + row + 8 * i]);
            }
        }
    }
}

/// Whether the whole tile weighs 0 and nothing but OUT is wanted of it.
ATTN_DEVICE bool weighs_nothing(const ForwardParams &p, const Sequence &s, const Rows &rows)
{
    if (!p.head_weight.base || p.lse.base || p.row_max.base || p.row_entropy.base || p.row_scales) return false;
    bool any = false;
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i)
        if (const int token = rows.token(p, i); token >= 0)
            any |= read_element(token_address(p, p.head_weight, s, token, rows.head(p, i)), p.head_weight.type) != 0.0f;
    return !__syncthreads_or(any);
}

} // namespace attn::gpu

extern "C" __global__ void __launch_bounds__(attn::gpu::kThreads, ATTN_BLOCKS)
    attn_dense_forward(const __grid_constant__ attn::gpu::ForwardParams p)
{
    using namespace attn::gpu;
    extern __shared__ __align__(128) char shared[];
    const Work work(p);
    const Sequence s = sequence_of(p.sequences, work.batch);
    const Tile tile = {work.row_tile * kRows, s.q_length * p.group, work.group * p.group};
    if (tile.first >= tile.total) return;
    const Place at;
    const Rows rows(p, tile, at);
    const int last_row = smaller(tile.first + kRows, tile.total) - 1;
    const Schedule schedule(p.mask, s, tile.first / p.group, last_row / p.group, kKeys);
    SplitRange blocks(schedule.count, work.split, p.splits);
    if (kGeneral && weighs_nothing(p, s, rows)) blocks.end = blocks.begin;
    const TileClasses classes(p, schedule, work.batch, work.row_tile, tile.head0);
    Walk walk(classes, blocks);

    const int k_head = head_of(p, tile.head0, p.heads_k), v_head = head_of(p, tile.head0, p.heads_v);
    KeyFacts *facts = reinterpret_cast<KeyFacts *>(shared + kAt.facts);
    const bool has_facts = kGeneral || p.sequences.page_size != 0;
    // Of the block `ahead` of the one that the walk is at.
    const auto facts_of = [&](int ahead) { return facts + (walk.step + ahead) % kFactSlots * kKeys; };
    const auto first_key = [&](int ahead) { return schedule.block_of(walk.block(ahead)) * kKeys; };
    const auto prepare = [&](int ahead) {
        if (has_facts && walk.has(ahead)) stage_facts(p, s, schedule, v_head, first_key(ahead), facts_of(ahead));
    };
    const BlockCopy<kDimQk, kQkStep, kSwizzlesQk> k_copy(p, p.k, s, k_head, p.dim_qk);
    const BlockCopy<kDimV, kVStep, kSwizzlesV> v_copy(p, p.v, s, v_head, p.dim_v);
    const auto stage_k = [&](int ahead) {
        k_copy.stage(schedule, first_key(ahead), facts_of(ahead), shared,
                     kAt.k + (walk.step + ahead) % kStages * kKBytes);
    };
    const auto stage_v = [&](int ahead) {
        v_copy.stage(schedule, first_key(ahead), facts_of(ahead), shared,
                     kAt.v + (walk.step + ahead) % kStages * kVBytes);
    };

    Pieces<kWarpChannels> o;
    clear<kWarpChannels>(o);
    RowState state;

    // With two stages a round copies the block after the one it computes; the first round only copies.
    constexpr int kFirst = kStages > 1 ? 1 : 0;
    prepare(kFirst);
    prepare(kFirst + 1);
    if (has_facts) __syncthreads();
    if (walk.has(kFirst)) stage_queries(p, s, tile, shared);

#pragma unroll 1
    for (; walk.has(0); walk.advance()) {
        if constexpr (kStages > 1) {
            copy_async_wait<0>();
            __syncthreads();
            if (walk.before_first()) {
                stage_k(1), stage_v(1);
                copy_async_commit();
                continue;
            }
        } else {
            __syncthreads(); // the block before is read no more
            stage_k(0);
            if constexpr (!kFloats) stage_v(0);
            copy_async_commit();
            copy_async_wait<0>();
            __syncthreads();
        }
        const int block = first_key(0);
        const int k_at = kAt.k + walk.step % kStages * kKBytes, v_at = kAt.v + walk.step % kStages * kVBytes;
        prepare(2);
        const bool more = kStages > 1 && walk.has(1);
        if (more && kCopiesFirst) stage_k(1), stage_v(1);

        Pieces<kWarpKeys> x;
        const int warp_key = (at.warp_k * kWarpsN + at.warp_n) * kWarpKeys;
        multiply_qk(x, shared, at, k_at, warp_key);
        if constexpr (kFloats) {
            __syncthreads(); // V takes the place of K
            stage_v(0);
        }
        if (more && !kCopiesFirst) stage_k(1), stage_v(1); // while the products are under way
        copy_async_commit();
        // Of this thread: its first column.
        const int first = block + warp_key + at.column;
        const KeyFacts *known = facts_of(0) + warp_key + at.column;
        if constexpr (kGeneral) finish_scores(p, s, schedule, rows, first, known, x);
        const bool program = kGeneral && classes.of(walk.block(0)) != kMaskFull;
        if (program || !schedule.is_full(block, kKeys)) mask_scores(p, s, rows, first, known, program, x);
        if constexpr (kGeneral && !kFloats)
            if (program || p.mask.by_position) clear_unseen(x, shared, at, v_at);

        u32 hidden = 0; // scores that are masked, for strict products: at most 32 of a thread
        if constexpr (kFloats) {
            each_score([&](int, int t, int j, int e, int) {
                if (x[t][j][e] == -infinity()) hidden |= 1u << ((t * (kWarpKeys / 8) + j) * 4 + e);
            });
        }
        float alpha[kRowsOfThread];
        bool rescales = false;
        if (!kGeneral || p.activation == kSoftmax)
            rescales = soften(p, x, state, shared, at, alpha);
        else
            weigh_each(p, s, x, state);
        if constexpr (kGeneral && kSigmoidUnit<kType> != 1.0f)
            if (p.activation == kSigmoid)
                each_score([&](int, int t, int j, int e, int) { x[t][j][e] *= kSigmoidUnit<kType>; });
        if constexpr (kGeneral)
            if (p.v_temperature.base)
                each_score([&](int, int t, int j, int e, int column) {
                    if (x[t][j][e] != 0.0f) x[t][j][e] *= known[column].v_temperature;
                });
        if constexpr (kFloats)
            each_score([&](int, int t, int j, int e, int) {
                if (hidden >> ((t * (kWarpKeys / 8) + j) * 4 + e) & 1) x[t][j][e] = __uint_as_float(kHidden);
            });
        if (rescales)
#pragma unroll
            for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
                for (int j = 0; j < kWarpChannels / 8; ++j)
#pragma unroll
                    for (int e = 0; e < 4; ++e) o[t][j][e] *= alpha[2 * t + e / 2];
        if constexpr (kSharedWeights) {
            share_weights(x, shared, at);
            __syncthreads();
        }
        if constexpr (kFloats)
            multiply_pv_floats(o, shared, at, kAt.k);
        else
            multiply_pv_pairs(o, x, shared, at, v_at);
    }

    if constexpr (kGeneral && kSigmoidUnit<kType> != 1.0f)
        if (p.activation == kSigmoid)
#pragma unroll
            for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
                for (int j = 0; j < kWarpChannels / 8; ++j)
#pragma unroll
                    for (int e = 0; e < 4; ++e) o[t][j][e] *= 1.0f / kSigmoidUnit<kType>;
    RowSums sums[kRowsOfThread];
    total_sums(p, state, shared, at, sums);
    if constexpr (kWarpsK > 1) {
        copy_async_wait<0>();
        merge_warps(p, shared, at, o, sums);
        if (at.warp_k > 0) return;
    }
    const Work again(p);
    const Sequence same = sequence_of(p.sequences, again.batch);
    const Tile rows_again = {again.row_tile * kRows, same.q_length * p.group, again.group * p.group};
    write_rows(p, same, again, Rows(p, rows_again, at), at, o, sums);
}

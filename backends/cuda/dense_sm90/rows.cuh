// The two rows that a thread holds of its warp's 16 x n products: what they see, and what of their scores does not
// change from key to key.
#ifndef ATTN_BACKENDS_CUDA_DENSE_SM90_ROWS_CUH
#define ATTN_BACKENDS_CUDA_DENSE_SM90_ROWS_CUH

#include "backends/cuda/dense_sm90/scheduler.cuh"
#include "backends/gpu/dense/results.cuh"

namespace attn::sm90 {

using Scores = float[kKeys / 8][4];
using Output = float[kDimV / 8][4];

/// The place of a thread among the consumers.
struct Place {
    int consumer, lane;
    int row;    ///< Its first row of the tile; the other is 8 below.
    int column; ///< Its first column of a piece of 8; the other is next to it.

    ATTN_DEVICE explicit Place(int warpgroup)
        : consumer(warpgroup),
          lane(static_cast<int>(threadIdx.x % 32)),
          row(64 * warpgroup + 16 * static_cast<int>(threadIdx.x / 32 % 4) + lane / 4),
          column(2 * (lane % 4))
    {
    }
};

/// Calls visit(half, piece, element, column) for every score of a thread; `half` says which of its rows.
template <class Visitor>
ATTN_DEVICE void each_score(Visitor visit)
{
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) visit(e / 2, j, e, 8 * j + e % 2);
}

/// Rows past the end of the sequence are computed like others and not written.
struct Rows {
    KeyRange keys[2];
    float factor[2]; ///< Of products, if scores are finished. With a low-rank bias: before it is added.
    float slope;     ///< ALiBi, negative, in the unit of scores.
    int query[2];    ///< Key level with the row.

    ATTN_DEVICE void set(const ForwardParams &p, const Tile &tile, const Place &at)
    {
        const Sequence &s = tile.sequence;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int token = tile.first + at.row + 8 * half;
            keys[half] = keys_of(p.mask, s, token);
            query[half] = token + s.diagonal;
            factor[half] = kHasLowRank ? p.score_factor / p.rank_factor : p.score_factor;
            if constexpr (kHasQueryTemperature)
                if (token < s.q_length)
                    factor[half] *=
                        read_element(token_address(p, p.q_temperature, s, token, tile.q_head), p.q_temperature.type);
        }
        if constexpr (kHasAlibi) {
            const float unit = kBiasIsFirst ? 1.0f : p.unit;
            slope = -unit * *reinterpret_cast<const float *>(p.slopes + tile.head * p.slope_step);
        }
    }
};

/// Element of [batch, key] of a tensor by key.
ATTN_DEVICE const char *key_address(const ForwardParams &p, const TokenView &v, const Sequence &s, int key)
{
    return v.base + (p.sequences.cu_kv.base ? s.k_first * v.token_step : s.index * v.batch_step) + key * v.token_step;
}

/// The position of a row; past the end: of the last that there is.
ATTN_DEVICE i64 query_position(const ForwardParams &p, const Tile &tile, const Place &at, int half)
{
    const int token = smaller(tile.first + at.row + 8 * half, tile.sequence.q_length - 1);
    const TokenView &v = p.mask.q_positions;
    return read_integer(token_address(p, v, tile.sequence, token, 0), v.type != 0);
}

/// Two elements that lie next to each other, at an address that is a multiple of the size of both.
template <Element type>
ATTN_DEVICE float2 read_pair(const char *p)
{
    if constexpr (type == kFloat32) return *reinterpret_cast<const float2 *>(p);
    const u32 bits = *reinterpret_cast<const u32 *>(p);
    if constexpr (type == kFloat16) return make_float2(float_of_half(bits & 0xffff), float_of_half(bits >> 16));
    return make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000));
}

/// Adds the bias tensor, times `factor`, to the scores of keys that have one; what lies elsewhere is not read. Where
/// its rows are is worked out in each step: registers are few.
ATTN_DEVICE void add_bias(const ForwardParams &p, const Tile &tile, const Place &at, int first, float factor, Scores &x)
{
    constexpr int kBytes = element_bytes(kBiasType);
    const Sequence &s = tile.sequence;
    const char *row[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) // past the end: the last that there is
        row[half] = score_row(p, p.bias, s, smaller(tile.first + at.row + 8 * half, s.q_length - 1), tile.head) +
                    first * p.bias.key_step;
    const int end = smaller(s.k_length, p.bias.keys) - first; // a column
    const u64 places = reinterpret_cast<u64>(row[0]) | reinterpret_cast<u64>(row[1]);
    const bool pairs = p.bias.key_step == kBytes && places % (2 * kBytes) == 0 && kKeys - at.column <= end;
    if (__all_sync(kAllLanes, pairs)) {
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float2 bias = read_pair<kBiasType>(row[half] + 8 * j * kBytes);
                x[j][2 * half] = fmaf(factor, bias.x, x[j][2 * half]);
                x[j][2 * half + 1] = fmaf(factor, bias.y, x[j][2 * half + 1]);
            }
    } else {
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    float &score = x[j][2 * half + side];
                    if (8 * j + side < end)
                        score = fmaf(factor, read_element(row[half] + side * p.bias.key_step, kBiasType), score);
                }
                row[half] += 8 * p.bias.key_step;
                asm volatile("" : "+l"(row[half])); // or the compiler works out all addresses first
            }
    }
}

/// Adds ALiBi by the difference of positions, which is read anew in each step: registers are few.
ATTN_DEVICE void add_alibi_by_position(const ForwardParams &p, const Tile &tile, const Place &at, float slope,
                                       int first, Scores &x)
{
    const Sequence &s = tile.sequence;
    const TokenView &view = p.mask.k_positions;
    const i64 query[2] = {query_position(p, tile, at, 0), query_position(p, tile, at, 1)};
    const char *key = key_address(p, view, s, first);
    const int end = s.k_length - first; // a column
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
        for (int side = 0; side < 2; ++side) {
            if (8 * j + side >= end) continue;
            const i64 position = read_integer(key + side * view.token_step, view.type != 0);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const bool is_after = position > query[half];
                const u64 distance = static_cast<u64>(is_after ? position : query[half]) -
                                     static_cast<u64>(is_after ? query[half] : position);
                x[j][2 * half + side] = fmaf(slope, static_cast<float>(distance), x[j][2 * half + side]);
            }
        }
        key += 8 * view.token_step;
        asm volatile("" : "+l"(key)); // or the compiler works out all addresses first
    }
}

/// tanh(x) is x + x y P(y), y = x x: fitted to 4e-8 for |x| up to kTanhShort.
constexpr float kTanhShort = 0.75f;
ATTN_DEVICE float tanh_short(float x)
{
    const float y = x * x;
    float p = fmaf(y, -0.00476949010f, 0.0196649134f);
    p = fmaf(y, p, -0.0533902571f);
    p = fmaf(y, p, 0.133265212f);
    p = fmaf(y, p, -0.333330691f);
    return fmaf(x * y, p, x);
}
ATTN_DEVICE float tanh_long(float x)
{
    return copysignf(1.0f - __fdividef(2.0f, exp2_fast(2.0f * kLog2e * fabsf(x)) + 1.0f), x);
}

/// Scores to their tanh. Each has the same bits whatever the others are: a thread leaves out what none of its own
/// needs.
ATTN_DEVICE void cap_scores(Scores &x)
{
    float largest[4] = {};
    each_score([&](int, int j, int e, int) { largest[e] = fmaxf(largest[e], fabsf(x[j][e])); });
    if (fmaxf(fmaxf(largest[0], largest[1]), fmaxf(largest[2], largest[3])) <= kTanhShort)
        each_score([&](int, int j, int e, int) { x[j][e] = tanh_short(x[j][e]); });
    else
        each_score([&](int, int j, int e, int) {
            x[j][e] = fabsf(x[j][e]) > kTanhShort ? tanh_long(x[j][e]) : tanh_short(x[j][e]);
        });
}

/// What scores are to be multiplied by, to be in the unit of the weights.
ATTN_DEVICE float unit_of_scores(const ForwardParams &p)
{
    if constexpr (kLeavesCap) return p.cap_factor;
    return kFinishesScores ? 1.0f : p.score_factor;
}

/// Products, or where there is a low-rank bias scaled products and that, to scores, as the portable kernel's
/// finish_scores(). `first` is the key of column 0 of this thread.
ATTN_DEVICE void finish_scores(const ForwardParams &p, const Tile &tile, const Place &at, const Rows &rows, int first,
                               Scores &x)
{
    const auto add_alibi = [&] {
        const float distance[2] = {static_cast<float>(first - rows.query[0]),
                                   static_cast<float>(first - rows.query[1])};
        each_score([&](int half, int j, int e, int column) {
            x[j][e] = fmaf(rows.slope, fabsf(distance[half] + static_cast<float>(column)), x[j][e]);
        });
    };
    const auto add_biases = [&](float factor) {
        if constexpr (kHasBias) add_bias(p, tile, at, first, factor, x);
        if constexpr (kHasAlibi && kMask == kMaskPosition)
            add_alibi_by_position(p, tile, at, rows.slope, first, x);
        else if constexpr (kHasAlibi)
            add_alibi();
    };
    each_score([&](int half, int j, int e, int) { x[j][e] *= kHasLowRank ? p.rank_factor : rows.factor[half]; });
    if constexpr (kBiasIsFirst) add_biases(1.0f);
    if constexpr (kHasSoftcap) {
        if constexpr (kBiasIsFirst) each_score([&](int, int j, int e, int) { x[j][e] *= p.cap_inverse; });
        cap_scores(x);
        if constexpr (!kLeavesCap) each_score([&](int, int j, int e, int) { x[j][e] *= p.cap_factor; });
    }
    if constexpr (!kBiasIsFirst) add_biases(p.unit);
}

/// Scores of keys that a row does not see become -inf, whatever they were.
ATTN_DEVICE void mask_scores(const Rows &rows, int first, Scores &x)
{
    each_score([&](int half, int j, int e, int column) {
        const KeyRange &keys = rows.keys[half];
        bool visible = column < keys.end - first;
        if constexpr (kMask == kMaskWindow)
            visible = (visible && column >= keys.begin - first) || column < keys.sinks - first;
        if (!visible) x[j][e] = -infinity();
    });
}

/// The running state of the two rows. Sums are of the thread's own columns until the end; without softmax the maximum
/// is, too.
struct RowState {
    /// A row keeps its reference until a score exceeds it by so much, in units of the exponent: such weights lose
    /// nothing, as fp32 nor as what PV reads (halves end at 2^16), and what was summed before need not be multiplied.
    /// (Not where the maximum itself is asked for. With temperatures of values too the compiler would not let products
    /// overlap.)
    static constexpr float kSlack = kType == kFloat16 ? 15.0f : 24.0f;
    static constexpr bool kKeepsReference = !kHasEpilogue && !kHasValueTemperature;

    float max[2]; ///< What weights refer to: of scores, or of products where those are not finished.
    float sum[2];

    ATTN_DEVICE void clear() { max[0] = max[1] = -infinity(), sum[0] = sum[1] = 0.0f; }

    /// Online softmax: scores to weights. `alpha`: what was summed before is to be multiplied by it; true if it is not
    /// 1 for all rows of the warp. `first`: nothing was summed before.
    template <bool first>
    ATTN_DEVICE bool soften(const ForwardParams &p, Scores &x, float (&alpha)[2])
    {
        const float factor = unit_of_scores(p);
        alpha[0] = alpha[1] = 1.0f;
        const bool moves = first || !kKeepsReference || __any_sync(kAllLanes, any_exceeds(factor, x));
        if (moves) move(factor, x, alpha);
        float added[2];
        weigh<-1>(factor, x, added, [](float) { return 0.0f; });
        add(alpha, added);
        return moves;
    }

    /// Likewise in hope that references stay (kHopes): it does not look for the largest score, but sees by the sums of
    /// weights whether one was too large. False if so for a row of the warp, or if a row saw nothing before: then
    /// weights, and `added`, which sums lack yet, are for Consumer::correct(). See weigh() for `between`, which is
    /// called early: by then a quarter of the exponentials is under way, and those of other pieces wait (d 128: 788 to
    /// 795 TFLOP/s for 1 to 13 of 16 pieces, 676 after all of them).
    template <class Between>
    ATTN_DEVICE bool soften_in_hope(const ForwardParams &p, Scores &x, float (&added)[2], Between between)
    {
        weigh<kKeys / 8 * 5 / 8>(unit_of_scores(p), x, added, between);
        bool fails = false;
#pragma unroll
        for (int half = 0; half < 2; ++half) fails |= max[half] == -infinity() || added[half] > kMostSum;
        if (__any_sync(kAllLanes, fails)) return false;
        const float alpha[2] = {1.0f, 1.0f};
        add(alpha, added);
        return true;
    }
    /// Of the sum of one thread: rounded, it does not hide a weight above kSlack.
    static constexpr float kMostSum = kType == kFloat16 ? 0x1p14f : 0x1p23f;

    /// Scores to weights, of which `added` are the sums. `between` is called with one of the sums before piece `at`,
    /// and what it returns, which must be 0, joins the scores from there on; with -1 it is not called.
    template <int at, class Between>
    ATTN_DEVICE void weigh(float factor, Scores &x, float (&added)[2], Between between) const
    {
        float reference[2], sums[2][2]; // short chains of sums: a warp has to hide their latency itself
#pragma unroll
        for (int half = 0; half < 2; ++half) // nothing seen yet: every weight becomes 0
            reference[half] = max[half] == -infinity() ? 0.0f : max[half] * factor;
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j) {
            if (j == at) {
                const float zero = between(sums[1][1]);
                reference[0] += zero, reference[1] += zero;
            }
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                x[j][e] = exp2_fast(fmaf(x[j][e], factor, -reference[e / 2]));
                sums[e / 2][e % 2] = j == 0 ? x[j][e] : sums[e / 2][e % 2] + x[j][e];
            }
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) added[half] = sums[half][0] + sums[half][1];
    }
    ATTN_DEVICE void add(const float (&alpha)[2], const float (&added)[2])
    {
#pragma unroll
        for (int half = 0; half < 2; ++half) sum[half] = fmaf(sum[half], alpha[half], added[half]);
    }

    /// Above 0 floats are ordered as their bits are, as integers, of which one instruction finds the largest of three:
    /// so references should be above 0. (The registers of three consumers do not suffice for it, and where steps hope
    /// the compiler would not let products overlap.)
    static constexpr bool kAsIntegers = kConsumers == 2 && !kHopes;

    ATTN_DEVICE bool exceeds(float score, float factor, int half) const
    {
        return (score - max[half]) * factor > kSlack;
    }
    ATTN_DEVICE bool is_low(int half) const
    {
        return kAsIntegers && !(max[half] > 0.0f);
    }

    /// Whether a score of the thread may exceed the reference of its row by too much.
    ATTN_DEVICE bool any_exceeds(float factor, const Scores &x) const
    {
        float top[2] = {x[0][0], x[0][2]};
        each_score([&](int half, int j, int e, int) {
            if (j == 0 && e % 2 == 0) return;
            if constexpr (kAsIntegers)
                top[half] = __int_as_float(larger(__float_as_int(top[half]), __float_as_int(x[j][e])));
            else
                top[half] = fmaxf(top[half], x[j][e]);
        });
        bool any = false;
#pragma unroll
        for (int half = 0; half < 2; ++half) any |= is_low(half) || exceeds(top[half], factor, half);
        return any;
    }

    /// New references for the rows of the warp that need one. A row that need not move stays: its bits do not depend on
    /// the others.
    ATTN_DEVICE void move(float factor, const Scores &x, float (&alpha)[2])
    {
        float top[2] = {x[0][0], x[0][2]};
        each_score([&](int half, int j, int e, int) {
            if (j > 0 || e % 2 > 0) top[half] = fmaxf(top[half], x[j][e]);
        });
#pragma unroll
        for (int half = 0; half < 2; ++half) move_row(factor, row_max(top[half]), half, alpha[half]);
    }
    /// Likewise of one row, whose largest score is `here`. True if it stays.
    ATTN_DEVICE bool move_row(float factor, float here, int half, float &alpha)
    {
        const bool stays = kKeepsReference && max[half] != -infinity() && !is_low(half) && !exceeds(here, factor, half);
        const float now = stays ? max[half] : fmaxf(max[half], here);
        alpha = exp2_fast((max[half] - (now == -infinity() ? 0.0f : now)) * factor);
        max[half] = now;
        return stays;
    }

    /// Scores to weights that do not depend on the other keys of the row; those of ReLU lack a factor of the row. What
    /// is masked weighs 0.
    ATTN_DEVICE void weigh_each(const ForwardParams &p, Scores &x)
    {
        constexpr float kLeast = 1.0f / kSigmoidUnit<kType>; // of the reciprocal of a weight
        const float factor = unit_of_scores(p), bias = -p.weight_bias + (kLeast < 1.0f ? -15.0f : 0.0f);
        static_assert(kLeast == 1.0f || kLeast == 0x1p-15f);
        if constexpr (kHasEpilogue)
            each_score([&](int half, int j, int e, int) { max[half] = fmaxf(max[half], x[j][e]); });
        each_score([&](int, int j, int e, int) {
            if constexpr (kHasSigmoid)
                x[j][e] = reciprocal_fast(kLeast + exp2_fast(fmaf(x[j][e], -factor, bias)));
            else
                x[j][e] = positive_part(x[j][e]);
        });
    }

    /// What finish_row() takes of a row; all lanes ask together.
    ATTN_DEVICE RowSums sums(const ForwardParams &p, int half) const
    {
        const float factor = unit_of_scores(p);
        if constexpr (kHasSoftmax) return {max[half] * factor, row_sum(sum[half]), 0.0f};
        return {kHasEpilogue ? row_max(max[half]) * factor : 0.0f, 0.0f, 0.0f};
    }
};

/// Weights times what the temperature of each key's value is. `column` 0 of this thread is key `first`.
ATTN_DEVICE void scale_weights(const ForwardParams &p, const Tile &tile, int first, Scores &x)
{
    const TokenView &v = p.v_temperature;
    const Sequence &s = tile.sequence;
    const i64 row = p.sequences.cu_kv.base ? s.k_first * v.token_step : s.index * v.batch_step;
    const char *base = v.base + row + tile.v_head * v.head_step;
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
        for (int side = 0; side < 2; ++side) {
            const int key = first + 8 * j + side;
            if (!tile.schedule.in_hull(key)) continue; // weighs 0
            const float temperature = read_element(base + key * v.token_step, v.type);
#pragma unroll
            for (int half = 0; half < 2; ++half)
                if (x[j][2 * half + side] != 0.0f) x[j][2 * half + side] *= temperature;
        }
}

} // namespace attn::sm90

#endif

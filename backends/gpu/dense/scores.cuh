// From products to scores: factors, low-rank bias, softcap, biases, and which keys a row sees. The plain operator only
// masks; the rest is for kernels of all options.
#ifndef ATTN_BACKENDS_GPU_DENSE_SCORES_CUH
#define ATTN_BACKENDS_GPU_DENSE_SCORES_CUH

#include "backends/gpu/dense/memory.cuh"
#include "backends/gpu/dense/products.cuh"

#if defined(ATTN_MASK_GENERATED)
#include "attn_generated.cuh"
#include "backends/gpu/dense/mask_values.cuh"
#endif

namespace attn::gpu {

constexpr int kRowsOfThread = 2 * kRowTiles;

/// The rows of this thread: row i is lane / 4 + 8 i of the warp's. Kernels of all options keep what the plain one,
/// short of registers, works out again where it needs it.
class Rows {
public:
    ATTN_DEVICE Rows(const ForwardParams &p, const Tile &tile, const Place &at)
        : first_(tile.first + at.warp_m * kWarpRows + at.row), total_(tile.total), head0_(tile.head0)
    {
        if constexpr (kGeneral)
#pragma unroll
            for (int i = 0; i < kRowsOfThread; ++i) token_[i] = token_of(p, i), head_[i] = head_of(p, i);
    }
    /// Below 0: past the end, sees nothing.
    ATTN_DEVICE int token(const ForwardParams &p, int i) const
    {
        return kGeneral ? token_[i] : token_of(p, i);
    }
    ATTN_DEVICE int head(const ForwardParams &p, int i) const
    {
        return kGeneral ? head_[i] : head_of(p, i);
    }

private:
    ATTN_DEVICE int token_of(const ForwardParams &p, int i) const
    {
        const int row = first_ + 8 * i;
        if (row >= total_) return -1;
        return p.group == 1 ? row : row / p.group;
    }
    ATTN_DEVICE int head_of(const ForwardParams &p, int i) const
    {
        const int row = first_ + 8 * i;
        if (p.group == 1 || row >= total_) return head0_;
        return head0_ + row % p.group;
    }

    int first_, total_, head0_;
    int token_[kGeneral ? kRowsOfThread : 1], head_[kGeneral ? kRowsOfThread : 1];
};

/// Calls visit(row of thread, piece, element, column) for every element of the scores of a thread.
template <class Visitor>
ATTN_DEVICE void each_score(Visitor visit)
{
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
        for (int j = 0; j < kWarpKeys / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) visit(2 * t + e / 2, t, j, e, 8 * j + e % 2);
}

ATTN_DEVICE i64 subtract_clamped(i64 a, i64 b)
{
    const i64 d = static_cast<i64>(static_cast<u64>(a) - static_cast<u64>(b));
    if ((a >= 0) != (b >= 0) && (d >= 0) != (a >= 0)) return a >= 0 ? 0x7fffffffffffffffLL : -0x7fffffffffffffffLL - 1;
    return d;
}

ATTN_DEVICE i64 position_of(const ForwardParams &p, const Sequence &s, int token)
{
    return read_integer(query_row(p, p.mask.q_positions, s, token, 0), p.mask.q_positions.type != 0);
}

/// Whether a row sees a key that is within its sequence, by position.
ATTN_DEVICE bool sees_position(const MaskParams &m, i64 query, i64 key_position, int key)
{
    const i64 d = subtract_clamped(key_position, query);
    if (m.causal && d > 0) return false;
    if (!m.has_left && !m.has_right) return true;
    return ((!m.has_left || d >= -m.left) && (!m.has_right || d <= m.right)) || key < m.sink_tokens;
}

/// Adds biases, times `factor`. `first` is the key of column 0 of this thread.
ATTN_DEVICE void add_biases(const ForwardParams &p, const Sequence &s, const Rows &rows, int first,
                            const KeyFacts *facts, float factor, Pieces<kWarpKeys> &x)
{
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
        const int token = rows.token(p, i), head = rows.head(p, i);
        if (token < 0) continue;
        if (p.bias.base) {
            const char *row = score_row(p, p.bias, s, token, head);
            const int keys = smaller(s.k_length, p.bias.keys);
            each_score([&](int r, int t, int j, int e, int column) {
                if (r == i && first + column < keys)
                    x[t][j][e] =
                        fmaf(factor, read_element(row + (first + column) * p.bias.key_step, p.bias.type), x[t][j][e]);
            });
        }
        if (!p.slopes && p.lookup == kNoTable) continue;
        const i64 query = p.mask.by_position ? position_of(p, s, token) : token + s.diagonal;
        const auto distance = [&](int column) {
            return p.mask.by_position ? subtract_clamped(facts[column].position, query)
                                      : static_cast<i64>(first + column) - query;
        };
        if (p.slopes) {
            const float slope = -factor * *reinterpret_cast<const float *>(p.slopes + head * p.slope_step);
            each_score([&](int r, int t, int j, int e, int column) {
                if (r == i) x[t][j][e] = fmaf(slope, fabsf(static_cast<float>(distance(column))), x[t][j][e]);
            });
        }
        if (p.lookup == kNoTable) continue;
        const char *table = p.table + head * p.table_head_step;
        const int query_offset = p.lookup == kTableByGrid && token < p.grid_tokens ? p.grid_offset[token] : 0;
        each_score([&](int r, int t, int j, int e, int column) {
            if (r != i || first + column >= s.k_length) return;
            i64 entry;
            if (p.lookup == kTableByGrid)
                entry = query_offset - facts[column].grid_offset + p.grid_center;
            else
                entry =
                    p.entry_of_distance[clamp64(distance(column), -p.max_distance, p.max_distance) + p.max_distance];
            x[t][j][e] = fmaf(factor, *reinterpret_cast<const float *>(table + entry * p.table_entry_step), x[t][j][e]);
        });
    }
}

/// Adds the low-rank bias.
ATTN_DEVICE void add_low_rank(const ForwardParams &p, const Sequence &s, const Schedule &schedule, const Rows &rows,
                              int first, const KeyFacts *facts, Pieces<kWarpKeys> &x)
{
    Pieces<kWarpKeys> sum;
    clear<kWarpKeys>(sum);
    const char *q[kRowsOfThread];
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i)
        q[i] = rows.token(p, i) < 0 ? nullptr : query_row(p, p.rank_q, s, rows.token(p, i), rows.head(p, i));
#pragma unroll 1
    for (int c = 0; c < p.bias_rank; ++c) {
        float a[kRowsOfThread];
#pragma unroll
        for (int i = 0; i < kRowsOfThread; ++i)
            a[i] = q[i] ? read_element(q[i] + c * p.rank_q.channel_step, p.rank_q.type) * p.rank_factor : 0.0f;
#pragma unroll
        for (int j = 0; j < kWarpKeys / 8; ++j)
#pragma unroll
            for (int side = 0; side < 2; ++side) {
                const int column = 8 * j + side;
                // Heads of a tile share the factors of keys, or there is one head.
                const bool reached =
                    schedule.in_hull(first + column) && (!p.sequences.page_size || facts[column].page >= 0);
                const float b =
                    reached ? read_element(key_row(p, p.rank_k, s, first + column, rows.head(p, 0), facts + column) +
                                               c * p.rank_k.channel_step,
                                           p.rank_k.type)
                            : 0.0f;
#pragma unroll
                for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
                    for (int half = 0; half < 2; ++half)
                        sum[t][j][2 * half + side] = fmaf(a[2 * t + half], b, sum[t][j][2 * half + side]);
            }
    }
    each_score([&](int, int t, int j, int e, int) { x[t][j][e] += sum[t][j][e]; });
}

/// Products to scores, in the unit of the activation.
ATTN_DEVICE void finish_scores(const ForwardParams &p, const Sequence &s, const Schedule &schedule, const Rows &rows,
                               int first, const KeyFacts *facts, Pieces<kWarpKeys> &x)
{
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
        float factor = p.score_factor;
        if (p.q_temperature.base && rows.token(p, i) >= 0) {
            const int head = head_of(p, rows.head(p, i), p.heads_q);
            factor *= read_element(query_row(p, p.q_temperature, s, rows.token(p, i), head), p.q_temperature.type);
        }
        each_score([&](int r, int t, int j, int e, int) {
            if (r == i) x[t][j][e] *= factor;
        });
    }
    if (p.bias_rank) add_low_rank(p, s, schedule, rows, first, facts, x);
    const bool has_bias = p.bias.base || p.slopes || p.lookup != kNoTable;
    const bool bias_first = p.cap_inverse != 0.0f;
    if (has_bias && bias_first) add_biases(p, s, rows, first, facts, 1.0f, x);
    if (p.cap_factor != 0.0f) {
        const float inverse = bias_first ? p.cap_inverse : 1.0f;
        each_score(
            [&](int, int t, int j, int e, int) { x[t][j][e] = tanh_exact(x[t][j][e] * inverse) * p.cap_factor; });
    }
    if (has_bias && !bias_first) add_biases(p, s, rows, first, facts, p.unit, x);
}

/// Whether there is a mask program.
ATTN_DEVICE bool has_program(const ForwardParams &p)
{
    return kGeneral && p.classes.base;
}

#if defined(ATTN_MASK_GENERATED)
/// Scores that the program hides, of those that are left, become -inf.
ATTN_DEVICE void mask_by_text(const ForwardParams &p, const Sequence &s, const Rows &rows, int first,
                              Pieces<kWarpKeys> &x)
{
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
        const int token = rows.token(p, i);
        if (token < 0) continue;
        const AttnMaskRow row = mask_row(p.program, p.sequences, s, rows.head(p, i), token);
        each_score([&](int r, int t, int j, int e, int column) {
            if (r != i || x[t][j][e] == -infinity()) return;
            if (!mask_sees(p.program, p.sequences, s, row, first + column)) x[t][j][e] = -infinity();
        });
    }
}
#endif

/// Scores of keys that a row does not see become -inf, whatever they were. `program`: whether that is asked too.
ATTN_DEVICE void mask_scores(const ForwardParams &p, const Sequence &s, const Rows &rows, int first,
                             const KeyFacts *facts, bool program, Pieces<kWarpKeys> &x)
{
    const bool by_position = kGeneral && p.mask.by_position;
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
        const int token = rows.token(p, i);
        KeyRange range = {0, 0, 0};
        i64 query = 0;
        if (token >= 0) {
            if (by_position) {
                range.end = s.k_length;
                query = position_of(p, s, token);
            } else {
                range = keys_of(p.mask, s, token);
            }
        }
        const u32 *bits = nullptr;
        if (kGeneral && program && p.mask_bits && token >= 0) {
            const i64 head = p.mask_heads == 1 ? 0 : rows.head(p, i);
            bits = p.mask_bits +
                   ((static_cast<i64>(s.index) * p.mask_heads + head) * p.sequences.max_q + token) * p.mask_words;
        }
        const int begin = range.begin - first, end = range.end - first, sinks = range.sinks - first;
        each_score([&](int r, int t, int j, int e, int column) {
            if (r != i) return;
            bool visible = (begin <= column && column < end) || column < sinks;
            if (by_position && visible) visible = sees_position(p.mask, query, facts[column].position, first + column);
            if (kGeneral && bits && visible) {
                const int key = first + column;
                visible = bits[key / 32] >> (key % 32) & 1;
            }
            if (!visible) x[t][j][e] = -infinity();
        });
    }
#if defined(ATTN_MASK_GENERATED)
    if (program) mask_by_text(p, s, rows, first, x);
#endif
}

} // namespace attn::gpu

#endif

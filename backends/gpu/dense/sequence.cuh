// The sequences of a launch, read on the device: where each begins, how long it is, which keys its rows see. Whatever
// the length tensors hold, nothing outside the tensors is touched.
#ifndef ATTN_BACKENDS_GPU_DENSE_SEQUENCE_CUH
#define ATTN_BACKENDS_GPU_DENSE_SEQUENCE_CUH

#include "backends/gpu/dense/params.h"
#include "backends/gpu/platform.cuh"

namespace attn::gpu {

struct Sequence {
    int index;
    i64 q_first, k_first; ///< Rows where packed.
    int q_length, k_length;
    int diagonal;      ///< Key level with query 0.
    const char *table; ///< Entry of its first page.
    int pages;         ///< That its table lists.
};

ATTN_DEVICE i64 integer_at(const IntegerVector &v, i64 i)
{
    return read_integer(v.base + i * v.step, v.wide != 0);
}

ATTN_DEVICE i64 clamp64(i64 x, i64 low, i64 high)
{
    return x < low ? low : x > high ? high : x;
}

ATTN_DEVICE Sequence sequence_of(const SequenceParams &p, int b)
{
    Sequence s;
    s.index = b;
    s.q_first = s.k_first = 0;
    i64 q_length = p.max_q, k_length = p.max_kv;
    if (p.cu_q.base) {
        s.q_first = clamp64(integer_at(p.cu_q, b), 0, p.total_q);
        q_length = clamp64(integer_at(p.cu_q, b + 1), s.q_first, p.total_q) - s.q_first;
    }
    if (p.used_q.base) q_length = clamp64(integer_at(p.used_q, b), 0, q_length);
    s.q_length = static_cast<int>(clamp64(q_length, 0, p.max_q));
    s.table = nullptr;
    s.pages = 0;
    if (p.cu_kv.base) {
        s.k_first = clamp64(integer_at(p.cu_kv, b), 0, p.total_kv);
        k_length = clamp64(integer_at(p.cu_kv, b + 1), s.k_first, p.total_kv) - s.k_first;
    } else if (p.page_size) {
        i64 first = 0, pages = p.table_columns;
        if (p.table_ptr.base) {
            first = clamp64(integer_at(p.table_ptr, b), 0, p.table_entries);
            pages = clamp64(integer_at(p.table_ptr, b + 1), first, p.table_entries) - first;
        }
        s.table = p.table.base + (p.table_ptr.base ? first * p.table.step : b * p.table_row_step);
        s.pages = static_cast<int>(clamp64(pages, 0, 0x7fffffff));
        k_length = pages * p.page_size;
    }
    if (p.used_kv.base) k_length = clamp64(integer_at(p.used_kv, b), 0, k_length);
    s.k_length = static_cast<int>(clamp64(k_length, 0, p.max_kv));
    s.diagonal = p.bottom_right ? s.k_length - s.q_length : 0;
    return s;
}

/// The head of a tensor of `heads`, of which OUT has a multiple, that goes with one of OUT.
ATTN_DEVICE int head_of(const ForwardParams &p, int head, int heads)
{
    return heads == p.heads_out ? head : head / (p.heads_out / heads);
}

/// Element of a tensor by head, query and key: the first of a token's row.
ATTN_DEVICE const char *score_row(const ForwardParams &p, const ScoreView &v, const Sequence &s, int token, int head)
{
    const i64 row =
        p.sequences.cu_q.base ? (s.q_first + token) * v.query_step : s.index * v.batch_step + token * v.query_step;
    return v.base + row + head * v.head_step;
}

/// Keys that a token sees: [begin, end), and those below `sinks`.
struct KeyRange {
    int begin, end, sinks;
};

ATTN_DEVICE KeyRange keys_of(const MaskParams &m, const Sequence &s, int token)
{
    const int diagonal = token + s.diagonal;
    KeyRange r;
    const int limit = m.causal ? smaller(s.k_length, diagonal + 1) : s.k_length;
    r.begin = m.has_left ? larger(0, diagonal - m.window_left) : 0;
    r.end = m.has_right ? smaller(limit, diagonal + 1 + m.window_right) : limit;
    r.sinks = m.has_left || m.has_right ? smaller(m.sink_tokens, limit) : 0;
    return r;
}

/// The blocks of keys that a tile of rows visits, in order: those of the sink tokens, then those of the window.
struct Schedule {
    int sinks, begin, end;    ///< Hull of what any row sees.
    int full_begin, full_end; ///< What every row sees.
    int sink_blocks, first, count;

    /// From the first and the last token of the tile, `block` keys at a time.
    ATTN_DEVICE Schedule(const MaskParams &m, const Sequence &s, int first_token, int last_token, int block)
    {
        if (m.by_position) {
            sinks = 0, begin = 0, end = s.k_length;
            full_begin = full_end = 0;
        } else {
            const KeyRange low = keys_of(m, s, first_token), high = keys_of(m, s, last_token);
            sinks = larger(high.sinks, 0), begin = low.begin, end = high.end;
            full_begin = high.begin, full_end = low.end;
        }
        sink_blocks = (sinks + block - 1) / block;
        first = larger(begin / block, sink_blocks);
        const int last = begin < end ? (end + block - 1) / block : 0;
        count = sink_blocks + larger(last - first, 0);
    }

    ATTN_DEVICE int block_of(int i) const { return i < sink_blocks ? i : i - sink_blocks + first; }
    /// Whether a row may see the key: others are read as 0.
    ATTN_DEVICE bool in_hull(int key) const { return (key < sinks) | ((begin <= key) & (key < end)); }
    /// Whether it reaches all `keys` from `key`.
    ATTN_DEVICE bool contains(int key, int keys) const
    {
        return ((begin <= key) & (key + keys <= end)) | (key + keys <= sinks);
    }
    /// Whether every row sees all `keys` from `key`.
    ATTN_DEVICE bool is_full(int key, int keys) const { return full_begin <= key && key + keys <= full_end; }
};

/// Keys of a tile that one of its splits has: blocks [begin, end) of the schedule.
struct SplitRange {
    int begin, end;
    ATTN_DEVICE SplitRange(int count, int split, int splits)
    {
        const int chunk = (count + splits - 1) / splits;
        begin = smaller(split * chunk, count);
        end = smaller(begin + chunk, count);
    }
};

} // namespace attn::gpu

#endif

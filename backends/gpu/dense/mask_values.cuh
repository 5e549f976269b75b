// Where mask programs find what they compare, on the device: indices, positions and ids of one row and of one key.
//
// A kernel with the text of a program (src/mask/emit.h) includes it and this header, then
//
//   const AttnMaskRow row = mask_row(a, sequences, s, head, token);     once for each row of a thread
//   mask_sees(a, sequences, s, row, key)                                for each score
//
// which reads positions and ids of the key from memory, where the program has any. A kernel that has staged those gives
// attn_mask_sees() its own object with of(Value, pair).
#ifndef ATTN_BACKENDS_GPU_DENSE_MASK_VALUES_CUH
#define ATTN_BACKENDS_GPU_DENSE_MASK_VALUES_CUH

#include "backends/gpu/dense/mask_params.h"
#include "backends/gpu/dense/sequence.cuh"

namespace attn::gpu {

ATTN_DEVICE i64 query_integer(const IntegerView &v, const SequenceParams &p, const Sequence &s, int token)
{
    const i64 at = p.cu_q.base ? (s.q_first + token) * v.token_step : s.index * v.batch_step + token * v.token_step;
    return read_integer(v.base + at, v.wide != 0);
}

/// Of a key within its sequence; 0 where its page does not exist.
ATTN_DEVICE i64 key_integer(const IntegerView &v, const SequenceParams &p, const Sequence &s, int key)
{
    i64 at;
    if (p.page_size) {
        const int page = key / p.page_size;
        if (page >= s.pages) return 0;
        const i64 entry = read_integer(s.table + page * p.table.step, p.table.wide != 0);
        if (entry < 0 || entry >= p.pages) return 0;
        at = entry * v.batch_step + (key - page * p.page_size) * v.token_step;
    } else if (p.cu_kv.base) {
        at = (s.k_first + key) * v.token_step;
    } else {
        at = s.index * v.batch_step + key * v.token_step;
    }
    return read_integer(v.base + at, v.wide != 0);
}

/// A query, for attn_mask_row().
struct MaskQuery {
    const MaskArgs &a;
    const SequenceParams &p;
    const Sequence &s;
    int head, token;

    ATTN_DEVICE i64 of(mask::Value value, i32 pair) const
    {
        switch (value) {
        case mask::Value::row_index:
            return token;
        case mask::Value::row_level:
            return token + s.k_length - s.q_length;
        case mask::Value::row_position:
            return query_integer(a.positions_q, p, s, token);
        case mask::Value::row_id:
            return query_integer(a.ids_q[pair], p, s, token);
        case mask::Value::head:
            return head;
        default:
            return 0;
        }
    }
};

/// A key, for attn_mask_sees().
struct MaskKey {
    const MaskArgs &a;
    const SequenceParams &p;
    const Sequence &s;
    int key;

    ATTN_DEVICE i64 of(mask::Value value, i32 pair) const
    {
        switch (value) {
        case mask::Value::key_position:
            return key_integer(a.positions_kv, p, s, key);
        case mask::Value::key_id:
            return key_integer(a.ids_kv[pair], p, s, key);
        default:
            return key;
        }
    }
};

#if defined(ATTN_MASK_GENERATED) // attn_generated.cuh has been included
ATTN_DEVICE AttnMaskRow mask_row(const MaskArgs &a, const SequenceParams &p, const Sequence &s, int head, int token)
{
    return attn_mask_row(a.terms, a.parameters, a.heads, head, s.q_length, s.k_length, MaskQuery{a, p, s, head, token});
}

ATTN_DEVICE bool mask_sees(const MaskArgs &a, const SequenceParams &p, const Sequence &s, const AttnMaskRow &row,
                           int key)
{
    return attn_mask_sees(row, MaskKey{a, p, s, key});
}
#endif

} // namespace attn::gpu

#endif

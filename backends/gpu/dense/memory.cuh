// From global to shared memory: rows of Q, blocks of keys, and what is known of keys beforehand.
#ifndef ATTN_BACKENDS_GPU_DENSE_MEMORY_CUH
#define ATTN_BACKENDS_GPU_DENSE_MEMORY_CUH

#include "backends/gpu/dense/config.cuh"
#include "backends/gpu/dense/sequence.cuh"

namespace attn::gpu {

/// The rows of a tile: row r of the block of threads is token (first + r) / group of OUT head head0 + (first + r) %
/// group.
struct Tile {
    int first, total; ///< Of the sequence's q_length * group rows.
    int head0;
};

ATTN_DEVICE const char *query_row(const ForwardParams &p, const TokenView &v, const Sequence &s, int token, int head)
{
    const i64 row =
        p.sequences.cu_q.base ? (s.q_first + token) * v.token_step : s.index * v.batch_step + token * v.token_step;
    return v.base + row + head * v.head_step;
}

/// Address of a key; `head` is of the tensor.
ATTN_DEVICE const char *key_row(const ForwardParams &p, const TokenView &v, const Sequence &s, int key, int head,
                                const KeyFacts *facts)
{
    i64 row;
    if (p.sequences.page_size)
        row = facts->page * v.batch_step + facts->row * v.token_step;
    else if (p.sequences.cu_kv.base)
        row = (s.k_first + key) * v.token_step;
    else
        row = s.index * v.batch_step + key * v.token_step;
    return v.base + row + head * v.head_step;
}

/// Eight channels from channel c of a row of `dim`, as floats; those beyond are 0.
ATTN_DEVICE void read_channels(const TokenView &v, const char *row, int c, int dim, float (&x)[8])
{
    if (v.vector && c + 8 <= dim) {
        const char *from = row + c * element_bytes(v.type);
        const uint4 first = *reinterpret_cast<const uint4 *>(from);
        if (v.type == kFloat32) {
            const uint4 second = *reinterpret_cast<const uint4 *>(from + 16);
            const u32 words[8] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
#pragma unroll
            for (int i = 0; i < 8; ++i) x[i] = __uint_as_float(words[i]);
            return;
        }
        const u32 words[4] = {first.x, first.y, first.z, first.w};
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const auto bits = static_cast<unsigned short>(words[i / 2] >> (i % 2 * 16));
            x[i] = v.type == kFloat16 ? float_of_half(bits) : float_of_bfloat16(bits);
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = c + i < dim ? read_element(row + (c + i) * v.channel_step, v.type) : 0.0f;
}

/// Eight channels of a row into shared memory; all 0 where `row` is NULL.
ATTN_DEVICE void stage_channels(char *shared, int at, const TokenView &v, const char *row, int c, int dim)
{
    if constexpr (kFloats) {
        float x[8] = {};
        if (row) read_channels(v, row, c, dim, x);
        auto *to = reinterpret_cast<float4 *>(shared + at);
        to[0] = make_float4(x[0], x[1], x[2], x[3]);
        to[1] = make_float4(x[4], x[5], x[6], x[7]);
    } else {
        if (!kGeneral || v.vector) {
            const int bytes = row ? larger(smaller((dim - c) * 2, 16), 0) : 0;
            copy_async(shared_address(shared + at), bytes ? row + c * 2 : v.base, bytes);
            return;
        }
        u32 words[4] = {};
        if (row) {
#pragma unroll
            for (int i = 0; i < 8; ++i)
                if (c + i < dim)
                    words[i / 2] |=
                        static_cast<u32>(*reinterpret_cast<const unsigned short *>(row + (c + i) * v.channel_step))
                        << (i % 2 * 16);
        }
        *reinterpret_cast<uint4 *>(shared + at) = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

ATTN_DEVICE void stage_queries(const ForwardParams &p, const Sequence &s, const Tile &tile, char *shared)
{
    constexpr int kUnits = kDimQk / 8;
    constexpr int kTotal = kRows * kUnits;
    if constexpr (!kGeneral && kThreads % kUnits == 0 && kTotal % kThreads == 0) {
        constexpr int kRowsApart = kThreads / kUnits;
        const int first = threadIdx.x / kUnits, c = threadIdx.x % kUnits * 8;
        const int bytes = larger(smaller((p.dim_qk - c) * 2, 16), 0);
        const auto to = [&](int round) {
            return shared_address(shared + kAt.q) +
                   static_cast<u32>(place_of<kSwizzlesQk, kQkStep>(first + round * kRowsApart, c));
        };
        const char *base = query_row(p, p.q, s, 0, head_of(p, tile.head0, p.heads_q)) + c * 2;
        const int row = tile.first + first;
        if (p.group == 1) {
            const char *from = base + row * p.q.token_step;
            const i64 apart = kRowsApart * p.q.token_step;
#pragma unroll
            for (int round = 0; round < kTotal / kThreads; ++round, from += apart)
                copy_async(to(round), from, row + round * kRowsApart < tile.total ? bytes : 0);
        } else { // a group of more than one has a head of Q for each of OUT
#pragma unroll 1
            for (int round = 0; round < kTotal / kThreads; ++round) {
                const int token = (row + round * kRowsApart) / p.group;
                const int head = row + round * kRowsApart - token * p.group;
                copy_async(to(round), base + token * p.q.token_step + head * p.q.head_step,
                           row + round * kRowsApart < tile.total ? bytes : 0);
            }
        }
    } else {
#pragma unroll 1
        for (int i = threadIdx.x; i < kTotal; i += kThreads) {
            const int r = i / kUnits, c = i % kUnits * 8;
            const int row = tile.first + r;
            const char *from = nullptr;
            if (row < tile.total) {
                const int token = row / p.group, head = tile.head0 + row - token * p.group;
                from = query_row(p, p.q, s, token, head_of(p, head, p.heads_q));
            }
            stage_channels(shared, kAt.q + place_of<kSwizzlesQk, kQkStep>(r, c), p.q, from, c, p.dim_qk);
        }
    }
}

/// Copies blocks of K or V of one head into shared memory. Keys out of reach of the whole tile become 0, so that what
/// they hold cannot matter.
template <int dim, int step, bool swizzles>
class BlockCopy {
public:
    ATTN_DEVICE BlockCopy(const ForwardParams &p, const TokenView &v, const Sequence &s, int head, int actual_dim)
        : p_(p), v_(v), s_(s), head_(head), dim_(actual_dim)
    {
        if constexpr (!kEven) return;
        // The place of this thread in the first block, where keys lie one after the other.
        const i64 first = p.sequences.cu_kv.base ? s.k_first * v.token_step : s.index * v.batch_step;
        from_ =
            v.base + head * v.head_step + (p.sequences.page_size ? 0 : first + row() * v.token_step) + channel() * 2;
    }

    ATTN_DEVICE void stage(const Schedule &schedule, int first_key, const KeyFacts *facts, char *shared, int at) const
    {
        if constexpr (kEven) {
            const int bytes = larger(smaller((dim_ - channel()) * 2, 16), 0);
            const auto to = [&](int round) {
                return shared_address(shared + at) +
                       static_cast<u32>(place_of<swizzles, step>(row() + round * kRowsApart, channel()));
            };
            const bool inside = schedule.contains(first_key, kKeys);
            if (p_.sequences.page_size) {
#pragma unroll 2
                for (int round = 0; round < kRounds; ++round) {
                    const int r = row() + round * kRowsApart;
                    const KeyFacts f = facts[r];
                    const bool reached = (inside | schedule.in_hull(first_key + r)) & (f.page >= 0);
                    copy_async(to(round), from_ + f.page * v_.batch_step + f.row * v_.token_step, reached ? bytes : 0);
                }
                return;
            }
            const char *from = from_ + first_key * v_.token_step;
            const i64 apart = kRowsApart * v_.token_step;
            if (inside) {
#pragma unroll
                for (int round = 0; round < kRounds; ++round, from += apart) copy_async(to(round), from, bytes);
            } else {
#pragma unroll 1
                for (int round = 0; round < kRounds; ++round, from += apart)
                    copy_async(to(round), from, schedule.in_hull(first_key + row() + round * kRowsApart) ? bytes : 0);
            }
        } else {
#pragma unroll 1
            for (int i = threadIdx.x; i < kTotal; i += kThreads) {
                const int r = i / kUnits, c = i % kUnits * 8;
                const int key = first_key + r;
                const bool reached = schedule.in_hull(key) && (!p_.sequences.page_size || facts[r].page >= 0);
                const char *row = reached ? key_row(p_, v_, s_, key, head_, facts + r) : nullptr;
                stage_channels(shared, at + place_of<swizzles, step>(r, c), v_, row, c, dim_);
            }
        }
    }

private:
    static constexpr int kUnits = dim / 8; ///< Of eight channels, in a row.
    static constexpr int kTotal = kKeys * kUnits;
    /// Whether each thread copies the same channels of rows at a fixed distance.
    static constexpr bool kEven = !kGeneral && kThreads % kUnits == 0 && kTotal % kThreads == 0;
    static constexpr int kRowsApart = kEven ? kThreads / kUnits : 1;
    static constexpr int kRounds = kTotal / kThreads;

    ATTN_DEVICE static int row()
    {
        return threadIdx.x / kUnits;
    }
    ATTN_DEVICE static int channel()
    {
        return threadIdx.x % kUnits * 8;
    }

    const ForwardParams &p_;
    const TokenView &v_;
    const Sequence &s_;
    int head_, dim_;
    const char *from_;
};

/// Pages, positions and factors of a block of keys, by the first kKeys threads.
ATTN_DEVICE void stage_facts(const ForwardParams &p, const Sequence &s, const Schedule &schedule, int v_head,
                             int first_key, KeyFacts *facts)
{
#pragma unroll 1
    for (int r = threadIdx.x; r < kKeys; r += kThreads) {
        const int key = first_key + r;
        KeyFacts f = {};
        f.v_temperature = 1.0f;
        bool reached = schedule.in_hull(key);
        if (p.sequences.page_size) {
            const int page = key / p.sequences.page_size;
            f.row = key - page * p.sequences.page_size;
            f.page = -1;
            if (reached && page < s.pages) {
                const i64 entry = read_integer(s.table + page * p.sequences.table.step, p.sequences.table.wide != 0);
                if (0 <= entry && entry < p.sequences.pages) f.page = static_cast<int>(entry);
            }
            reached &= f.page >= 0;
        }
        if (kGeneral && reached) {
            if (p.mask.by_position)
                f.position = read_integer(key_row(p, p.mask.k_positions, s, key, 0, &f), p.mask.k_positions.type != 0);
            if (p.v_temperature.base)
                f.v_temperature = read_element(key_row(p, p.v_temperature, s, key, v_head, &f), p.v_temperature.type);
            if (p.lookup == kTableByGrid && key < p.grid_tokens) f.grid_offset = p.grid_offset[key];
        }
        facts[r] = f;
    }
}

} // namespace attn::gpu

#endif

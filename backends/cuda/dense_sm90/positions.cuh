// Masks by position: which blocks of keys a tile of rows visits, and which keys of a block a row sees. Positions may be
// any: neither sorted nor apart. So a tile learns of a block what it is to its rows when it comes to it, from the least
// and the most of the positions of both, and skips it if no row can see a key of it.
#ifndef ATTN_BACKENDS_CUDA_DENSE_SM90_POSITIONS_CUH
#define ATTN_BACKENDS_CUDA_DENSE_SM90_POSITIONS_CUH

#include "backends/cuda/dense_sm90/rows.cuh"

namespace attn::sm90 {

constexpr i64 kLeastPosition = -0x7fffffffffffffffLL - 1, kMostPosition = 0x7fffffffffffffffLL;

/// Positions that a row sees: keys from `begin` to `end`, that included, and sink tokens up to `limit`.
struct Reach {
    i64 begin, end, limit;

    ATTN_DEVICE bool sees(i64 position, bool is_sink) const
    {
        return (begin <= position && position <= end) || (is_sink && position <= limit);
    }
};

/// As sees_position() of the portable kernel, solved for the position of the key.
ATTN_DEVICE Reach reach_of(const MaskParams &m, i64 query)
{
    Reach r = {kLeastPosition, kMostPosition, kMostPosition};
    if (m.has_left && query >= kLeastPosition + m.left) r.begin = query - m.left;
    if (m.has_right && query <= kMostPosition - m.right) r.end = query + m.right;
    if (m.causal) {
        r.limit = query;
        if (query < r.end) r.end = query;
    }
    return r;
}

// The warp that finds which blocks a tile visits.

/// Over the lanes of a warp.
ATTN_DEVICE i64 warp_most(i64 x)
{
    const int high = static_cast<int>(x >> 32), most = __reduce_max_sync(kAllLanes, high);
    const u32 low = __reduce_max_sync(kAllLanes, high == most ? static_cast<u32>(x) : 0u);
    return static_cast<i64>(static_cast<u64>(static_cast<u32>(most)) << 32 | low);
}

struct PositionRange {
    i64 least, most;
};

/// Of the positions of a lane.
template <class Integer, int kOfLane>
ATTN_DEVICE void find_range(const Integer (&x)[kOfLane], Integer *least, Integer *most)
{
    *least = *most = x[0];
#pragma unroll
    for (int i = 1; i < kOfLane; ++i) {
        if (x[i] < *least) *least = x[i];
        if (x[i] > *most) *most = x[i];
    }
}

/// Of 32 x kOfLane tokens, of which `mine` is the first that this lane reads; the next are `step` bytes apart.
/// Positions are of type Integer. All lanes of a warp ask together, here and below.
template <class Integer, int kOfLane>
ATTN_DEVICE PositionRange range_of_whole(const char *mine, i64 step)
{
    Integer x[kOfLane];
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) { // all are on their way together
        x[i] = *reinterpret_cast<const Integer *>(mine);
        mine += step;
        asm volatile("" : "+l"(mine)); // or the compiler works out all addresses first: registers are few
    }
    Integer least, most;
    find_range(x, &least, &most);
    if constexpr (sizeof(Integer) == sizeof(i32))
        return {__reduce_min_sync(kAllLanes, least), __reduce_max_sync(kAllLanes, most)};
    else
        return {~warp_most(~least), warp_most(most)};
}

/// Of `count` tokens from `first` on, 1 to kMost.
template <int kMost>
ATTN_DEVICE PositionRange range_of(const TokenView &positions, const char *first, int count)
{
    constexpr int kOfLane = (kMost + 31) / 32;
    i64 x[kOfLane];
    const auto read = [&](auto integer) { // without branches between them, so that they are on their way together
#pragma unroll
        for (int i = 0; i < kOfLane; ++i) {
            const int token = smaller(static_cast<int>(threadIdx.x % 32) + 32 * i, count - 1);
            x[i] = *reinterpret_cast<const decltype(integer) *>(first + token * positions.token_step);
        }
    };
    if (positions.type != 0)
        read(i64{});
    else
        read(i32{});
    PositionRange range;
    find_range(x, &range.least, &range.most);
    return {~warp_most(~range.least), warp_most(range.most)};
}

/// A block of keys that a tile visits, as those who compute get it with the keys.
struct KeyBlock {
    int bits = 0;

    ATTN_DEVICE static KeyBlock of(int block, bool is_full) { return {4 * block + is_full}; }
    ATTN_DEVICE static KeyBlock none() { return {-4}; }
    ATTN_DEVICE int number() const { return bits >> 2; }
    ATTN_DEVICE bool is_none() const { return bits < 0; }
    ATTN_DEVICE bool is_full() const { return bits & 1; } ///< All rows see all keys.
    ATTN_DEVICE bool is_last() const { return bits & 2; } ///< Of the tile.
    ATTN_DEVICE void end_tile() { bits |= 2; }
};

/// The blocks of keys that a tile visits.
class BlockFinder {
public:
    /// All lanes of a warp ask together, here and below.
    ATTN_DEVICE BlockFinder(const ForwardParams &p, const Tile &tile)
        : p_(p),
          s_(tile.sequence),
          rows_(range_of<kRows>(p.mask.q_positions, token_address(p, p.mask.q_positions, s_, tile.first, 0),
                                smaller(kRows, s_.q_length - tile.first)))
    {
    }

    /// The last one below `block` that a row may see.
    ATTN_DEVICE KeyBlock below(int block) const
    {
        const MaskParams &m = p_.mask;
        const TokenView &view = m.k_positions;
#pragma unroll 1
        while (--block >= 0) {
            const int first = block * kKeys, count = smaller(kKeys, s_.k_length - first);
            const PositionRange keys = range_of<kKeys>(view, key_address(p_, view, s_, first), count);
            if (hides(keys, first < m.sink_tokens)) {
                block = after_hidden(block);
                continue;
            }
            const Reach low = reach_of(m, rows_.least), high = reach_of(m, rows_.most);
            const Reach every = {high.begin, low.end, low.limit}; // what all rows see
            const bool is_full = (every.begin <= keys.least && keys.most <= every.end) ||
                                 (first + kKeys <= m.sink_tokens && keys.most <= every.limit);
            return KeyBlock::of(block, is_full && count == kKeys);
        }
        return KeyBlock::none();
    }

private:
    /// Whether no row sees a key of such positions.
    ATTN_DEVICE bool hides(const PositionRange &keys, bool has_sinks) const
    {
        i64 least = rows_.least, most = rows_.most;
        asm volatile("" : "+l"(least), "+l"(most)); // or all that follows is kept in registers, which are few
        const Reach low = reach_of(p_.mask, least), high = reach_of(p_.mask, most);
        return keys.least > (has_sinks ? high.limit : high.end) || (!has_sinks && keys.most < low.begin);
    }

    /// Blocks that no row sees often follow each other: those right below `block` are looked at several at a time. The
    /// last of them, or `block`.
    ATTN_DEVICE int after_hidden(int block) const
    {
        const TokenView &view = p_.mask.k_positions;
        const bool is_wide = view.type != 0;
        const int together = is_wide ? 2 : 4; // of 64 and 32 bits: as many as registers hold
#pragma unroll 1
        while (block >= together) {
            const int first = (block - together) * kKeys;
            const char *mine = key_address(p_, view, s_, first + static_cast<int>(threadIdx.x % 32));
            const i64 step = 32 * view.token_step;
            const PositionRange keys = is_wide ? range_of_whole<i64, 2 * kKeys / 32>(mine, step)
                                               : range_of_whole<i32, 4 * kKeys / 32>(mine, step);
            if (!hides(keys, first < p_.mask.sink_tokens)) break;
            block -= together;
        }
        return block;
    }

    const ForwardParams &p_;
    const Sequence &s_;
    const PositionRange rows_;
};

// The consumers: which keys a row sees.

/// What the two rows of a thread see of its columns: bit 2 j + side is that of column 8 j + side. `first` is the key of
/// column 0 of this thread. Positions are read anew for each block that is masked: registers are few. Rows past the end
/// see what the last row sees, so that V of keys that no row sees is known.
struct Seen {
    u32 of_row[2];

    ATTN_DEVICE Seen(const ForwardParams &p, const Tile &tile, const Place &at, int first) : of_row{}
    {
        constexpr int kTogether = kDimV > 128 ? 1 : 2; // large heads lack registers for what both rows see
#pragma unroll
        for (int half = 0; half < 2; half += kTogether) look<kTogether>(p, tile, at, first, half);
        const int columns = smaller(larger(tile.sequence.k_length - first, 0), kKeys);
        const u32 within = static_cast<u32>((u64{1} << (columns / 8 * 2 + smaller(columns % 8, 2))) - 1);
        of_row[0] &= within, of_row[1] &= within;
    }

    template <int rows>
    ATTN_DEVICE void look(const ForwardParams &p, const Tile &tile, const Place &at, int first, int row)
    {
        const Sequence &s = tile.sequence;
        Reach reach[rows];
#pragma unroll
        for (int r = 0; r < rows; ++r) reach[r] = reach_of(p.mask, query_position(p, tile, at, row + r));
        const TokenView &view = p.mask.k_positions;
        const char *key = key_address(p, view, s, first);
        const int end = s.k_length - first, sinks = p.mask.sink_tokens - first; // columns
#pragma unroll(kDimV > 128 ? 1 : 4)
        for (int bit = 0; bit < kKeys / 4; ++bit) {
            const int column = 8 * (bit / 2) + bit % 2; // past the end the last key is looked at
            const i64 position = read_integer(key + smaller(column, end - 1) * view.token_step, view.type != 0);
#pragma unroll
            for (int r = 0; r < rows; ++r)
                of_row[row + r] |= static_cast<u32>(reach[r].sees(position, column < sinks)) << bit;
        }
    }

    /// Scores of keys that a row does not see become -inf, whatever they were.
    ATTN_DEVICE void mask(Scores &x) const
    {
        each_score([&](int half, int j, int e, int) {
            if (!(of_row[half] >> (2 * j + e % 2) & 1)) x[j][e] = -infinity();
        });
    }

    /// By one of the 16 rows of the warp. Lanes of the same columns have the same.
    ATTN_DEVICE u32 of_warp() const
    {
        u32 any = of_row[0] | of_row[1];
#pragma unroll
        for (int lanes = 4; lanes < 32; lanes *= 2) any |= __shfl_xor_sync(kAllLanes, any, lanes);
        return any;
    }
};

/// What rows of a tile see of a block, in shared memory: a word for each pair of columns, as Seen has them.
struct SeenByTile {
    u32 words[4];

    static constexpr u32 kAllKeys = static_cast<u32>((u64{1} << (kKeys / 4)) - 1);

    ATTN_DEVICE bool sees_all() const { return (words[0] & words[1] & words[2] & words[3]) == kAllKeys; }
    ATTN_DEVICE bool sees(int key) const { return words[key % 8 / 2] >> (key / 8 * 2 + key % 2) & 1; }
};

} // namespace attn::sm90

#endif

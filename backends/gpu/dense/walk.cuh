// The blocks of keys that a tile visits: those of its schedule but for the ones that a mask program hides altogether.
#ifndef ATTN_BACKENDS_GPU_DENSE_WALK_CUH
#define ATTN_BACKENDS_GPU_DENSE_WALK_CUH

#include "backends/gpu/dense/memory.cuh"

namespace attn::gpu {

/// What the mask program is on a tile of rows and the blocks of its schedule.
class TileClasses {
public:
    ATTN_DEVICE TileClasses(const ForwardParams &p, const Schedule &schedule, int batch, int row_tile, int head)
        : p_(p), schedule_(schedule)
    {
        if constexpr (kGeneral) {
            const i64 pair = static_cast<i64>(batch) * p.mask_heads + (p.mask_heads == 1 ? 0 : head);
            if (p.classes.base)
                row_ = p.classes.base + (pair * p.classes.row_tiles + row_tile) * p.classes.key_tiles;
        }
    }
    ATTN_DEVICE bool present() const { return kGeneral && p_.classes.base; }
    /// Over all heads of the tile.
    ATTN_DEVICE MaskClass of(int i) const
    {
        if (!present()) return kMaskFull;
        const unsigned char *at = row_ + schedule_.block_of(i) * kKeys / p_.classes.tile_keys;
        const auto first = static_cast<MaskClass>(*at);
        if (p_.mask_heads > 1)
#pragma unroll 1
            for (int h = 1; h < p_.group; ++h) {
                at += static_cast<i64>(p_.classes.row_tiles) * p_.classes.key_tiles;
                if (*at != first) return kMaskPartial;
            }
        return first;
    }
    /// The first block from i on that is not skipped, or `end`. All lanes of a warp ask together.
    ATTN_DEVICE int next(int i, int end) const
    {
        if (!present()) return i;
#pragma unroll 1
        for (; i < end; i += 32) {
            const int mine = i + static_cast<int>(threadIdx.x % 32);
            const u32 seen = __ballot_sync(kAllLanes, mine < end && of(mine) != kMaskSkip);
            if (seen) return i + __ffs(static_cast<int>(seen)) - 1;
        }
        return end;
    }

private:
    const ForwardParams &p_;
    const Schedule &schedule_;
    const unsigned char *row_; ///< Of the first head.
};

/// Where a tile is on its way, and what comes next. Places in shared memory go by `step`. The plain operator visits every
/// block; with two stages there is a step before the first block.
class Walk {
public:
    int step;

    ATTN_DEVICE Walk(const TileClasses &classes, const SplitRange &blocks)
        : classes_(classes), begin_(blocks.begin), end_(blocks.end)
    {
        const int first = kGeneral ? classes.next(begin_, end_) : begin_;
        const bool early = kStages > 1 && first < end_;
        step = begin_ - (early ? 1 : 0);
        if constexpr (kGeneral) {
            ahead_[0] = early ? -1 : first;
            ahead_[1] = early ? first : after(first);
            ahead_[2] = after(ahead_[1]);
        }
    }
    /// Of the schedule.
    ATTN_DEVICE int block(int ahead) const { return kGeneral ? ahead_[ahead] : step + ahead; }
    ATTN_DEVICE bool has(int ahead) const { return block(ahead) < end_; }
    ATTN_DEVICE bool before_first() const { return step < begin_; }
    ATTN_DEVICE void advance()
    {
        ++step;
        if constexpr (kGeneral) ahead_[0] = ahead_[1], ahead_[1] = ahead_[2], ahead_[2] = after(ahead_[2]);
    }

private:
    ATTN_DEVICE int after(int block) const { return block < end_ ? classes_.next(block + 1, end_) : end_; }

    const TileClasses &classes_;
    const int begin_, end_;
    int ahead_[kGeneral ? 3 : 1];
};

} // namespace attn::gpu

#endif

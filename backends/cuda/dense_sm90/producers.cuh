// The first warpgroup of the kernel: a warp that finds tiles, a thread that copies, where masks go by position a warp
// that finds blocks of keys. Beyond them, the places in shared memory through which it talks to the consumers.
#ifndef ATTN_BACKENDS_CUDA_DENSE_SM90_PRODUCERS_CUH
#define ATTN_BACKENDS_CUDA_DENSE_SM90_PRODUCERS_CUH

#include "backends/cuda/dense_sm90/epilogue.cuh"
#include "backends/cuda/dense_sm90/positions.cuh"
#include "backends/cuda/ptx/cluster.cuh"
#include "backends/cuda/ptx/mbarrier.cuh"
#include "backends/cuda/ptx/tma.cuh"

namespace attn::sm90 {

using namespace ptx;

extern __shared__ __align__(1024) char shared_memory[];

ATTN_DEVICE Tile *tile_slot(u32 slot)
{
    return reinterpret_cast<Tile *>(shared_memory + kAt.tiles + slot * Shape::kTileBytes);
}

// Where masks go by position: blocks of keys that were found for the thread that copies, which block is in a buffer of
// K, which keys in a buffer of V the tile sees.
ATTN_DEVICE KeyBlock *found_block(u32 slot)
{
    return reinterpret_cast<KeyBlock *>(shared_memory + kAt.found_blocks) + slot;
}
ATTN_DEVICE KeyBlock *block_of_keys(u32 slot)
{
    return reinterpret_cast<KeyBlock *>(shared_memory + kAt.blocks) + slot;
}
ATTN_DEVICE SeenByTile *seen_of_values(u32 slot)
{
    return reinterpret_cast<SeenByTile *>(shared_memory + kAt.seen) + slot;
}

// `base` is the address of shared memory.

/// Tiles that see no key are written here, others go to those who copy and compute.
ATTN_DEVICE void find_tiles(const ForwardParams &params, u32 base)
{
    Ring<kTileSlots> tiles;
    Order order;
    for (bool found = true; found;) {
        mbarrier_wait(empty_barrier(base + kAt.tile_barriers, tiles.slot()), tiles.parity());
        __syncwarp(); // no lane reads a tile that was found here and left any more
        Tile *tile = tile_slot(tiles.slot());
        // By an address that the compiler does not know: registers are few, and it would keep in them what it works out
        // of parameters ahead of the loop. (Likewise the numbers of the block and of blocks, in Order.)
        const ForwardParams *opaque = &params;
        asm volatile("" : "+l"(opaque));
        const ForwardParams &p = *opaque;
        u32 number;
        found = order.next(p, &number);
        const bool writes = threadIdx.x % 32 == 0;
        if (found && !find_tile(p, number, writes, tile)) continue;
        __syncwarp();
        if (found && tile->schedule.count == 0) {
            write_nothing(p, *tile);
            continue;
        }
        if (writes) {
            tile->is_last = !found;
            mbarrier_arrive(full_barrier(base + kAt.tile_barriers, tiles.slot()));
        }
        ++tiles.count;
    }
}

/// Where masks go by position: finds the blocks of keys that tiles visit, for the thread that copies. By a warp.
ATTN_DEVICE void find_blocks(const ForwardParams &p, u32 base)
{
    Ring<kTileSlots> tiles;
    Ring<kBlockSlots> found;
    const bool writes = threadIdx.x % 32 == 0;
    const auto leave_tile = [&](u32 slot) {
        __syncwarp();
        if (writes) mbarrier_arrive(empty_barrier(base + kAt.tile_barriers, slot));
    };
    for (u32 slot = 0; slot < kTileSlots; ++slot) leave_tile(slot);
    for (;; ++tiles.count) {
        mbarrier_wait(full_barrier(base + kAt.tile_barriers, tiles.slot()), tiles.parity());
        const Tile &tile = *tile_slot(tiles.slot());
        if (tile.is_last) break;
        const BlockFinder finder(p, tile);
        KeyBlock next = finder.below(tile.schedule.count);
        if (next.is_none()) next = KeyBlock::of(0, false); // rows that see nothing are written as others are
        while (!next.is_none()) {
            KeyBlock block = next;
            next = finder.below(block.number());
            if (next.is_none()) block.end_tile();
            mbarrier_wait(empty_barrier(base + kAt.block_barriers, found.slot()), found.parity() ^ 1);
            if (writes) {
                *found_block(found.slot()) = block;
                mbarrier_arrive(full_barrier(base + kAt.block_barriers, found.slot()));
            }
            ++found.count;
        }
        leave_tile(tiles.slot());
    }
}

struct TensorMaps {
    const TensorMap &q, &k, &v, &rank_q, &rank_k;
};

/// Where a tile of a tensor begins.
struct Source {
    const TensorMap &map;
    int row, head, batch;
};

/// Copies `rows` rows of `blocks` x 64 channels into the next buffer of a ring, once it is empty, and behind them those
/// of a factor of the low-rank bias if there is one. The blocks of a cluster copy what is `shared` together, each some
/// of its rows, to all.
template <int blocks, int rows, bool shared, int buffers, class... Factor>
ATTN_DEVICE void load_tile(Ring<buffers> &ring, u32 barriers, u32 to, const Source &from, const Factor &...factor)
{
    constexpr int kBlocks = blocks + static_cast<int>(sizeof...(factor));
    mbarrier_wait(empty_barrier(barriers, ring.slot()), ring.parity() ^ 1);
    const u32 full = full_barrier(barriers, ring.slot());
    mbarrier_expect(full, kBlocks * rows * 128);
    constexpr int kPart = rows / (shared ? kCluster : 1);
    const int part = kPart < rows ? static_cast<int>(block_in_cluster()) * kPart : 0;
    const auto load = [&](const Source &source, int block, int channel) {
        const u32 place = to + ((ring.slot() * kBlocks + block) * rows + part) * 128;
        if constexpr (kPart < rows)
            tma_load_to_all(place, source.map, full, channel, source.row + part, source.head, source.batch,
                            (1 << kCluster) - 1);
        else
            tma_load(place, source.map, full, channel, source.row, source.head, source.batch);
    };
#pragma unroll
    for (int b = 0; b < blocks; ++b) load(from, b, 64 * b);
    (load(factor, blocks, 0), ...);
    ++ring.count;
}

ATTN_DEVICE void copy_tiles(const ForwardParams &p, const TensorMaps &maps, u32 base)
{
    Ring<kQueryBuffers> q;
    Ring<kStages> k, v;
    Ring<kTileSlots> tiles;
    Ring<kBlockSlots> found;
    const auto want = [&](u32 slot) { mbarrier_arrive(empty_barrier(base + kAt.tile_barriers, slot)); };
    want(0);
    const auto take_block = [&] {
        mbarrier_wait(full_barrier(base + kAt.block_barriers, found.slot()), found.parity());
        const KeyBlock block = *found_block(found.slot());
        mbarrier_arrive(empty_barrier(base + kAt.block_barriers, found.slot()));
        ++found.count;
        return block;
    };
    // V is asked for one block after K. With two buffers of Q the next tile's Q and first K go before the last V, which
    // is needed later. (With one, a consumer may wait for that V while it holds Q.)
    bool has_v = false;
    int v_row = 0, v_head = 0, v_batch = 0;
    const auto load_v = [&] {
        if (kMask == kMaskPosition && has_v) {
            mbarrier_wait(empty_barrier(base + kAt.v_barriers, v.slot()), v.parity() ^ 1);
            *seen_of_values(v.slot()) = {};
        }
        if (has_v)
            load_tile<kVBlocks, kKeys, true>(v, base + kAt.v_barriers, base + kAt.v,
                                             Source{maps.v, v_row, v_head, v_batch});
        has_v = false;
    };
    for (;; ++tiles.count) {
        mbarrier_wait(full_barrier(base + kAt.tile_barriers, tiles.slot()), tiles.parity());
        const Tile &tile = *tile_slot(tiles.slot());
        if (tile.is_last) break;
        const Schedule &schedule = tile.schedule;
        const int head = tile.head, count = schedule.count;
        const Source queries = {maps.q, static_cast<int>(tile.sequence.q_first) + tile.first, tile.q_head,
                                p.sequences.cu_q.base ? 0 : tile.sequence.index};
        if constexpr (kHasLowRank)
            load_tile<kQkBlocks, kRows, false>(q, base + kAt.q_barriers, base + kAt.q, queries,
                                               Source{maps.rank_q, queries.row, head, queries.batch});
        else
            load_tile<kQkBlocks, kRows, false>(q, base + kAt.q_barriers, base + kAt.q, queries);
        const int k_head = tile.k_head;
        const int batch = p.sequences.cu_kv.base ? 0 : tile.sequence.index;
        const int first = static_cast<int>(tile.sequence.k_first);
        bool wants = true;
        KeyBlock block; // by position
#pragma unroll 1
        for (int i = count - 1; i >= 0; --i) {
            if constexpr (kMask == kMaskPosition) {
                block = take_block();
                i = block.number();
            }
            // The next tile is found while the last two blocks of this one are copied and the two before are computed.
            // Taken earlier, tiles would not go to who is done first.
            if (kMask == kMaskPosition ? wants && (i <= 1 || block.is_last()) : i == smaller(1, count - 1)) {
                want(tiles.after(1).slot());
                wants = false;
            }
            if constexpr (kMask == kMaskPosition) {
                mbarrier_wait(empty_barrier(base + kAt.k_barriers, k.slot()), k.parity() ^ 1);
                *block_of_keys(k.slot()) = block;
            }
            const int row = first + schedule.block_of(i) * kKeys;
            const Source keys = {maps.k, row, k_head, batch};
            if constexpr (kHasLowRank) {
                // Heads may share the factor.
                const int rank_head = p.rank_k.head_step == 0 ? 0 : head;
                load_tile<kQkBlocks, kKeys, true>(k, base + kAt.k_barriers, base + kAt.k, keys,
                                                  Source{maps.rank_k, row, rank_head, batch});
            } else {
                load_tile<kQkBlocks, kKeys, true>(k, base + kAt.k_barriers, base + kAt.k, keys);
            }
            load_v();
            has_v = true;
            v_row = row, v_head = tile.v_head, v_batch = batch;
            if (kMask == kMaskPosition && block.is_last()) break;
        }
        if (kQueryBuffers == 1) load_v();
    }
    load_v();
}

} // namespace attn::sm90

#endif

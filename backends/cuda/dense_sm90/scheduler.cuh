// Which tiles a block of threads computes, in which order, and which blocks of keys each of them visits.
//
// Tiles are numbered by sections of sequences and heads whose keys stay in the L2 cache; within a section the last rows
// come first, as those see the most keys where causal. A block of threads begins with the tile of its own number. Where
// tiles take equally long, blocks go on in turns; else each takes the next number from a counter in memory when it has
// room for a tile. Results do not depend on who computed what.
#ifndef ATTN_BACKENDS_CUDA_DENSE_SM90_SCHEDULER_CUH
#define ATTN_BACKENDS_CUDA_DENSE_SM90_SCHEDULER_CUH

#include "backends/cuda/dense_sm90/config.cuh"
#include "backends/gpu/dense/sequence.cuh"

namespace attn::sm90 {

/// One tile of query rows of one head, as those who copy and compute get it.
struct Tile {
    Sequence sequence;
    Schedule schedule;          ///< Its blocks of keys are visited from the last to the first.
    int head;                   ///< Of OUT.
    int q_head, k_head, v_head; ///< Of Q, K, V: the thread that copies would be late by a division.
    int first;                  ///< Token of row 0.
    /// Blocks that all rows see are those of the schedule from full_begin to full_end; below and above they are masked.
    int full_begin, full_end;
    int is_last; ///< No tile: there are no more.
};
static_assert(sizeof(Tile) <= Shape::kTileBytes, "a tile must fit its slot");

/// The numbers of the tiles of this block of threads.
class Order {
public:
    /// False if there are no more. All lanes of a warp ask together.
    ATTN_DEVICE bool next(const ForwardParams &p, u32 *number)
    {
        // Read anew each time: the compiler would keep these numbers in registers, of which there are few.
        u32 blocks;
        asm volatile("mov.u32 %0, %%nctaid.x;" : "=r"(blocks));
        if (first_ > 0 && p.tile_counter) {
            u32 taken = 0;
            if (threadIdx.x % 32 == 0) taken = atomicAdd(p.tile_counter, 1);
            *number = blocks + __shfl_sync(kAllLanes, taken, 0);
        } else {
            u32 block;
            asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
            *number = first_ + block;
        }
        first_ += blocks;
        return *number < static_cast<u32>(p.sequences.batch * p.heads_out * p.row_tiles);
    }

private:
    u32 first_ = 0;
};

/// Fills in a tile by its number. False if it has no rows: the sequence is shorter than the longest.
/// All lanes of a warp ask together, one writes.
ATTN_DEVICE bool find_tile(const ForwardParams &p, u32 number, bool writes, Tile *tile)
{
    const u32 section_tiles = static_cast<u32>(p.section) * static_cast<u32>(p.row_tiles);
    const u32 section = number / section_tiles, rest = number - section * section_tiles;
    const u32 pairs = static_cast<u32>(p.sequences.batch) * static_cast<u32>(p.heads_out);
    const u32 here = pairs - section * p.section < static_cast<u32>(p.section) ? pairs - section * p.section
                                                                               : static_cast<u32>(p.section);
    const u32 pair = section * p.section + rest % here;
    const int batch = static_cast<int>(pair / p.heads_out);
    const int first = (p.row_tiles - 1 - static_cast<int>(rest / here)) * kRows;
    if (writes) { // as soon as possible: registers are few
        tile->head = static_cast<int>(pair - static_cast<u32>(batch) * p.heads_out);
        tile->first = first;
    }
    const Sequence s = sequence_of(p.sequences, batch);
    // The tiles of a cluster are computed together, also one without rows.
    constexpr int kTogether = kCluster * kRows;
    if (first / kTogether * kTogether >= s.q_length) return false;
    if (!writes) return true;
    tile->q_head = head_of(p, tile->head, p.heads_q);
    tile->k_head = head_of(p, tile->head, p.heads_k);
    tile->v_head = head_of(p, tile->head, p.heads_v);
    tile->sequence = s;
    const Schedule schedule(p.mask, s, first, smaller(first + kRows, s.q_length) - 1, kKeys);
    // In blocks of the sequence, then in those of the schedule.
    const int end = schedule.first + schedule.count - schedule.sink_blocks;
    const int full_begin = larger((schedule.full_begin + kKeys - 1) / kKeys, schedule.first);
    const int full_end = smaller(schedule.full_end / kKeys, end);
    const int shift = schedule.sink_blocks - schedule.first;
    tile->full_end = larger(full_end, schedule.first) + shift;
    tile->full_begin = smaller(full_begin + shift, tile->full_end);
    tile->schedule = schedule;
    return true;
}

} // namespace attn::sm90

#endif

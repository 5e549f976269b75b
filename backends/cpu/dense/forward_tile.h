// Dense forward attention of one tile of query rows, for the instruction set that the including unit is compiled for.
//
//   for each block of keys that a row of the tile can see:
//       K block -> panels [channel][kPanel keys], V block -> panels [key][kPanel channels]                (in L2)
//       for each strip of query rows: scores, online softmax, weighted sum                      (tile_blocked.h)
//   or, with few rows, the same without panels                                                  (tile_few.h)
//   where COLUMN_MASS is wanted, once the rows are done: their weights, kept, summed by key     (tile_kept.h)
//   or, where a row has too many keys or they are split, once all rows are done: computed again (tile_columns.h)
//
// Scores are kept in units of log2(e), so that the exponential is 2^x. Key blocks lie on a grid that begins at key 0
// and every element is summed in key order within its block: a row's bits depend neither on its place in the tile nor
// on keys it cannot see. (Few rows sum the channels of a score in another order, so whether a tile has few rows does
// show: a property of its own sequence, whatever else is in the batch.) Masked scores become -inf by selection, so
// nothing that K holds there matters; a V block with a non-finite element takes the path that adds visible keys only.
#ifndef ATTN_BACKENDS_CPU_DENSE_FORWARD_TILE_H
#define ATTN_BACKENDS_CPU_DENSE_FORWARD_TILE_H

#include "backends/cpu/dense/tile_blocked.h"
#include "backends/cpu/dense/tile_few.h"
#include "backends/cpu/dense/tile_kept.h"
#include "backends/cpu/dense/tile_result.h"

namespace attn::cpu {
namespace {

inline size_t scratch_bytes(const ForwardShape &shape)
{
    return Scratch(shape, nullptr).bytes;
}

/// Fetches keys [begin, end) of the sequence from memory: every tile reads K and V anew, and packing would wait for
/// them.
inline void fetch_keys(const ForwardShape &shape, const ForwardTile &tile, int64_t begin, int64_t end)
{
    const int64_t k_bytes = shape.dim_k * element_bytes(shape.k_type),
                  v_bytes = shape.dim_v * element_bytes(shape.v_type);
    for (int64_t key = begin; key < end; ++key) {
        const char *k = key_row(tile.k, key), *v = key_row(tile.v, key);
        for (int64_t byte = 0; byte < k_bytes; byte += 64) __builtin_prefetch(k + byte, 0, 2);
        for (int64_t byte = 0; byte < v_bytes; byte += 64) __builtin_prefetch(v + byte, 0, 2);
    }
}

inline void run_tile(const ForwardShape &shape, const ForwardTile &tile, void *memory)
{
    Scratch scratch(shape, memory);
    [[maybe_unused]] const TileRegisters registers{};
    const bool few = tile.rows <= kFewRows;
    FewState few_state;
    if (few)
        begin_few(shape, tile, scratch);
    else
        pack_q(shape, tile, scratch);
    for (int64_t r = 0; r < tile.rows; ++r) {
        scratch.mask[r] = mask_of_row(shape, tile, r);
        scratch.max[r] = kLowest;
        scratch.spread[r] = 0;
        store(scratch.sum + r * kWidth, Vec{});
    }
    begin_program(shape, tile, scratch);
    const Keeper keeper(shape, tile, scratch, few);
    const int64_t strips = few ? tile.rows : round_up(tile.rows, kStrip);
    for (int64_t i = 0; i < strips * scratch.o_columns; i += kWidth) store(scratch.o + i, Vec{});

    for (int64_t block = tile.key_begin; block < tile.key_end; block += shape.key_block) {
        const int64_t length = smaller_of(shape.key_block, tile.key_end - block);
        const Hull all = see_block(shape, tile, scratch, block, length);
        if (all.begin >= all.end) continue;
        rank_keys(shape, tile, scratch, block, all);
        if (few) {
            keeper.place(block, 0, &scratch);
            run_few(shape, tile, scratch, block, all, &few_state);
            keeper.note(block, 0, tile.rows, all, scratch);
            continue;
        }
        pack_k(shape, tile, scratch, block, all.begin, all.end);
        const bool v_finite = pack_v(shape, tile, scratch, block, all.begin, all.end);

        const int64_t next = block + shape.key_block, next_length = smaller_of(shape.key_block, tile.key_end - next);
        for (int64_t first = 0; first < tile.rows; first += kStrip) {
            const int64_t rows = smaller_of(kStrip, tile.rows - first);
            fetch_keys(shape, tile, next + next_length * first / tile.rows,
                       next + next_length * (first + rows) / tile.rows);
            const Hull part = all.full ? all : hull_of_rows(shape, scratch, first, rows, block, length);
            if (part.begin >= part.end) continue;
            keeper.place(block, first, &scratch);
            at_height(strip_height(rows), [&]<int M>(StripHeight<M>) {
                run_strip<M>(shape, tile, scratch, first, rows, block, part, v_finite);
            });
            keeper.note(block, first, rows, part, scratch);
        }
    }

    for (int64_t r = 0; r < tile.rows; ++r) {
        const RowState row = {scratch.o + r * scratch.o_columns, scratch.max[r],
                              reduce_add(load(scratch.sum + r * kWidth)), scratch.spread[r]};
        if (tile.out)
            write_row(shape, tile, r, row);
        else
            write_partial(shape, tile, r, row);
    }
    if (keeper.wanted() && keeper.add()) add_nan_rows(shape, tile, memory);
}

inline void merge_tile(const ForwardShape &shape, const ForwardTile &tile, float *partials, int64_t parts)
{
    const int64_t dim = shape.dim_v, step = partial_floats(shape);
    const float *maxima = partials + shape.partial_rows * dim, *sums = maxima + shape.partial_rows;
    const float *spreads = sums + shape.partial_rows;
    for (int64_t r = 0; r < tile.rows; ++r) {
        float max = kLowest;
        for (int64_t p = 0; p < parts; ++p) max = maxima[p * step + r] > max ? maxima[p * step + r] : max;
        const float reference = max == kLowest ? 0.0f : max;
        float *o = partials + r * dim; // of part 0, which the first round rescales in place
        RowState row = {o, max, 0, 0};
        for (int64_t p = 0; p < parts; ++p) {
            const float part_max = maxima[p * step + r], part_sum = sums[p * step + r];
            float weight = 1.0f;
            if (shape.weight == Weight::softmax) {
                float lanes[kWidth];
                store(lanes, exp2(splat(part_max - reference)));
                // A part that saw no key is skipped, whatever its rows hold.
                weight = part_sum == 0.0f ? 0.0f : lanes[0];
            }
            const float *part = partials + p * step + r * dim;
            if (weight == 0.0f && part_sum == part_sum) {
                if (p == 0)
                    for (int64_t c = 0; c < dim; ++c) o[c] = 0;
                continue;
            }
            row.sum += weight * part_sum;
            row.spread += weight * (spreads[p * step + r] + (part_max - reference) * part_sum);
            for (int64_t c = 0; c < dim; ++c) o[c] = p == 0 ? weight * part[c] : o[c] + weight * part[c];
        }
        write_row(shape, tile, r, row);
    }
}

} // namespace
} // namespace attn::cpu

#endif

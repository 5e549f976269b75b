// attn_mask_bits: a bit for every query and key that a mask program shows, and what its tiles are. For machines without a
// compiler, where the forward kernel cannot have the program in it: an interpreter of terms in memory. Where there is
// one, the same kernel with the text of the program (ATTN_MASK_GENERATED).
//
// A block of threads takes a tile in pieces of kPieceRows by kPieceKeys: stages positions and ids, asks what the ranges of
// those tell of the piece, and where that does not decide, evaluates the program for 32 keys at a time, a lane each. The
// class of a tile comes from the bits, so it is exact.
//
// How to use it: fill MaskBitsParams (views of the call; terms and parameters uploaded with the plan; bits and classes in
// the workspace, aligned to 4 bytes), launch mask_bits_request() on the grid of mask_bits_grid() before the forward kernel.
// A tile that is skipped has only zeros for bits, a full one only ones within the sequence. Where a token's rows lie in two
// tiles, its bits are written twice, with the same values.
#include "backends/gpu/dense/mask_params.h"
#include "backends/gpu/dense/sequence.cuh"
#if defined(ATTN_MASK_GENERATED)
#include "attn_generated.cuh"
#endif
#include "backends/gpu/dense/mask_values.cuh"

namespace attn::gpu {

using mask::Coverage;
using mask::Range;
using mask::Value;

constexpr int kPieceRows = 32, kPieceKeys = 128;
constexpr int kWarps = kMaskThreads / 32;

/// Values of a piece: positions, then the ids of each pair.
struct Piece {
    i64 rows[kMostMaskPairs + 1][kPieceRows], keys[kMostMaskPairs + 1][kPieceKeys];
    Range row_ranges[kMostMaskPairs + 1], key_ranges[kMostMaskPairs + 1];
    int first_row, row_count, first_key, key_count;
    int head, shift; ///< shift: of the bottom right diagonal.
    Coverage coverage;
};

/// The values of a row and of a key of a piece.
struct PieceValues {
    const Piece &piece;
    int row, key;

    ATTN_DEVICE i64 of(Value value, i32 pair) const
    {
        switch (value) {
        case Value::row_index:
            return piece.first_row + row;
        case Value::row_level:
            return piece.first_row + row + piece.shift;
        case Value::row_position:
            return piece.rows[0][row];
        case Value::row_id:
            return piece.rows[pair + 1][row];
        case Value::head:
            return piece.head;
        case Value::key_index:
            return piece.first_key + key;
        case Value::key_position:
            return piece.keys[0][key];
        case Value::key_id:
            return piece.keys[pair + 1][key];
        default:
            return 0;
        }
    }
};

struct PieceRanges {
    const Piece &piece;

    ATTN_DEVICE Range of(Value value, i32 pair) const
    {
        const i64 last_row = piece.first_row + piece.row_count - 1;
        switch (value) {
        case Value::row_index:
            return {piece.first_row, last_row};
        case Value::row_level:
            return {piece.first_row + piece.shift, last_row + piece.shift};
        case Value::row_position:
            return piece.row_ranges[0];
        case Value::row_id:
            return piece.row_ranges[pair + 1];
        case Value::head:
            return {piece.head, piece.head};
        case Value::key_index:
            return {piece.first_key, piece.first_key + piece.key_count - 1};
        case Value::key_position:
            return piece.key_ranges[0];
        case Value::key_id:
            return piece.key_ranges[pair + 1];
        default:
            return {0, 0};
        }
    }
};

/// Over the lanes of a warp.
ATTN_DEVICE Range range_of(Range range)
{
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        range.least = mask::least_of(range.least, __shfl_xor_sync(kAllLanes, range.least, step));
        range.most = mask::most_of(range.most, __shfl_xor_sync(kAllLanes, range.most, step));
    }
    return range;
}

/// Positions and ids of a piece, with their ranges: a warp for each vector.
ATTN_DEVICE void stage(const MaskBitsParams &p, const Sequence &s, Piece &piece)
{
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll 1
    for (int n = warp; n <= p.mask.pairs; n += kWarps) {
        const IntegerView &rows = n == 0 ? p.mask.positions_q : p.mask.ids_q[n - 1];
        const IntegerView &keys = n == 0 ? p.mask.positions_kv : p.mask.ids_kv[n - 1];
        Range range = {mask::kMost, mask::kLeast};
        if (rows.base)
            for (int i = lane; i < piece.row_count; i += 32) {
                const i64 value = query_integer(rows, p.sequences, s, piece.first_row + i);
                piece.rows[n][i] = value;
                range = {mask::least_of(range.least, value), mask::most_of(range.most, value)};
            }
        range = range_of(range);
        if (lane == 0) piece.row_ranges[n] = range;
        range = {mask::kMost, mask::kLeast};
        if (keys.base)
            for (int j = lane; j < piece.key_count; j += 32) {
                const i64 value = key_integer(keys, p.sequences, s, piece.first_key + j);
                piece.keys[n][j] = value;
                range = {mask::least_of(range.least, value), mask::most_of(range.most, value)};
            }
        range = range_of(range);
        if (lane == 0) piece.key_ranges[n] = range;
    }
}

/// The program for a head: terms, and the bounds of its atoms.
struct Program {
    mask::Term terms[mask::kMostTerms];
    mask::Bound bounds[mask::kMostTerms];
};

ATTN_DEVICE void load_program(const MaskArgs &a, const Sequence &s, int head, Program &program)
{
#pragma unroll 1
    for (int n = threadIdx.x; n < a.count; n += kMaskThreads) {
        const mask::Term term = a.terms[n];
        program.terms[n] = term;
        if (mask::is_atom(term))
            program.bounds[n] = mask::resolve(term, a.parameters, a.heads, head, s.q_length, s.k_length);
    }
}

/// What a row sees by the program, for the key of a lane.
class RowProgram {
public:
    ATTN_DEVICE RowProgram(const MaskBitsParams &p, const Sequence &s, const Program &program, const Piece &piece, int row)
#if defined(ATTN_MASK_GENERATED)
        : row_(attn_mask_row(p.mask.terms, p.mask.parameters, p.mask.heads, piece.head, s.q_length, s.k_length,
                             PieceValues{piece, row, 0}))
    {
        static_cast<void>(program);
    }
    ATTN_DEVICE bool sees(const PieceValues &values) const { return attn_mask_sees(row_, values); }

private:
    const AttnMaskRow row_;
#else
        : program_(program), count_(p.mask.count)
    {
        static_cast<void>(s), static_cast<void>(piece), static_cast<void>(row);
    }
    ATTN_DEVICE bool sees(const PieceValues &values) const
    {
        return mask::evaluate(program_.terms, count_, [&](i32 n) { return program_.bounds[n]; }, values);
    }

private:
    const Program &program_;
    const i32 count_;
#endif
};

/// The bits of a piece that the ranges do not decide, or of one that they do, a row for each warp at a time. Tells whether
/// some of them are set, and whether all are.
ATTN_DEVICE void write_piece(const MaskBitsParams &p, const Sequence &s, const Program &program, const Piece &piece,
                             u32 *bits, int words, bool &some, bool &all)
{
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll 1
    for (int i = warp; i < piece.row_count; i += kWarps) {
        u32 *to = bits ? bits + static_cast<i64>(piece.first_row + i) * p.words + piece.first_key / 32 : nullptr;
        if (piece.coverage != Coverage::partial) {
            const bool full = piece.coverage == Coverage::full;
            if (piece.key_count > 0) some |= full, all &= full;
            const int count = full ? piece.key_count - 32 * lane : 0;
            if (to && lane < words) to[lane] = count >= 32 ? kAllLanes : count > 0 ? (1u << count) - 1 : 0;
            continue;
        }
        const RowProgram row(p, s, program, piece, i);
#pragma unroll 1
        for (int w = 0; w < words; ++w) {
            const int key = 32 * w + lane, count = piece.key_count - 32 * w;
            const u32 word = __ballot_sync(kAllLanes, key < piece.key_count && row.sees({piece, i, key}));
            some |= word != 0, all &= word == (count >= 32 ? kAllLanes : count > 0 ? (1u << count) - 1 : 0);
            if (to && lane == 0) to[w] = word;
            if (!bits && some && !all) return; // that is all there is to know
        }
    }
}

/// One tile of one sequence and head; returns to all threads whether some pair is seen, and whether all are.
ATTN_DEVICE void write_tile(const MaskBitsParams &p, const Sequence &s, const Program &program, Piece &piece, u32 *bits,
                            int row_tile, int key_tile, bool &some, bool &all)
{
    const MaskClasses &c = p.classes;
    const int row_begin = row_tile * c.tile_rows / c.group, key_begin = key_tile * c.tile_keys;
    const int row_end = smaller(((row_tile + 1) * c.tile_rows + c.group - 1) / c.group, s.q_length);
    const int key_end = smaller(key_begin + c.tile_keys, p.sequences.max_kv);
    some = false, all = row_begin < row_end && key_begin < s.k_length;
#pragma unroll 1
    for (int row = row_begin; row < row_end; row += kPieceRows)
#pragma unroll 1
        for (int key = key_begin; key < key_end; key += kPieceKeys) {
            __syncthreads(); // the piece before is done with
            if (threadIdx.x == 0) {
                piece.first_row = row, piece.row_count = smaller(kPieceRows, row_end - row);
                piece.first_key = key, piece.key_count = larger(smaller(smaller(kPieceKeys, key_end - key), s.k_length - key), 0);
            }
            __syncthreads();
            if (piece.key_count > 0) stage(p, s, piece);
            __syncthreads();
            if (threadIdx.x == 0)
                piece.coverage = piece.key_count == 0
                                     ? Coverage::skip
                                     : mask::classify(program.terms, p.mask.count,
                                                      [&](i32 n) { return program.bounds[n]; }, PieceRanges{piece});
            __syncthreads();
            write_piece(p, s, program, piece, bits, (smaller(kPieceKeys, key_end - key) + 31) / 32, some, all);
        }
    some = __syncthreads_or(some) != 0;
    all = __syncthreads_and(all) != 0;
}

} // namespace attn::gpu

extern "C" __global__ void __launch_bounds__(attn::gpu::kMaskThreads)
    attn_mask_bits(const __grid_constant__ attn::gpu::MaskBitsParams p)
{
    using namespace attn::gpu;
    __shared__ Program program;
    __shared__ Piece piece;
    const int row_tile = static_cast<int>(blockIdx.x) / p.classes.key_tiles;
    const int key_tile = static_cast<int>(blockIdx.x) - row_tile * p.classes.key_tiles;
    const i64 pairs = static_cast<i64>(p.sequences.batch) * p.mask_heads();
#pragma unroll 1
    for (i64 pair = blockIdx.y; pair < pairs; pair += gridDim.y) {
        const int head = static_cast<int>(pair % p.mask_heads());
        const Sequence s = sequence_of(p.sequences, static_cast<int>(pair / p.mask_heads()));
        __syncthreads();
        load_program(p.mask, s, head, program);
        if (threadIdx.x == 0) piece.head = head, piece.shift = s.k_length - s.q_length;
        bool some, all;
        u32 *bits = p.bits ? p.bits + pair * p.sequences.max_q * p.words : nullptr;
        write_tile(p, s, program, piece, bits, row_tile, key_tile, some, all);
        if (p.classes.base && threadIdx.x == 0)
            p.classes.base[(pair * p.classes.row_tiles + row_tile) * p.classes.key_tiles + key_tile] =
                all ? kMaskFull : some ? kMaskPartial : kMaskSkip;
    }
}

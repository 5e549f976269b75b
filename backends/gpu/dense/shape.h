// The compile-time shape of a kernel of dense attention, and what follows from it: tile sizes, threads, shared memory.
// The host chooses a shape, the kernel is compiled for it, both read this.
//
// A block of threads computes `rows()` query rows (query heads of one key head are packed as rows of a token) against
// the keys of one sequence, `keys` at a time. Its warps stand in a grid:
//   warps_m  warps share out the rows, 16 * row_tiles each;
//   warps_n  warps share out the keys of the scores and then the channels of the output; weights go through shared
//            memory between the two;
//   warps_k  warps share out the keys of a step, each with a softmax and an output of its own, merged at the end: for
//            few rows, which wait for memory and not for each other.
#ifndef ATTN_BACKENDS_GPU_DENSE_SHAPE_H
#define ATTN_BACKENDS_GPU_DENSE_SHAPE_H

#include "backends/gpu/types.h"

namespace attn::gpu {

/// Where parts of shared memory begin, in bytes.
struct SharedLayout {
    i32 q, k, v, weights, reduce, facts, seen, bytes;
};

/// What is known of a key before its scores: staged two blocks ahead.
struct KeyFacts {
    i64 position;
    i32 page, row;
    float v_temperature;
    i32 grid_offset;
};

struct Shape {
    i32 type;    ///< Element of the products: 1, 2: fp16, bf16 on the matrix units, with 16-bit weights; 0: float32
                 ///< arithmetic on whatever types the tensors have, rounded nowhere else.
    i32 general; ///< 1: all options, unaligned tensors; 0: the plain operator.
    i32 dim_qk, dim_v; ///< Channels, padded: the loops over them are unrolled.
    i32 row_tiles, warps_m, warps_n, warps_k;
    i32 keys;
    i32 stages; ///< Blocks of keys in shared memory. Floats: 1, K and V taking turns.
    i32 blocks; ///< Of threads that should fit an SM: bounds the registers.

    constexpr bool floats() const { return type == 0; }
    constexpr i32 threads() const { return 32 * warps_m * warps_n * warps_k; }
    constexpr i32 rows() const { return 16 * row_tiles * warps_m; }
    /// Keys whose scores a warp computes, and channels of its output.
    constexpr i32 warp_keys() const { return keys / (warps_n * warps_k); }
    constexpr i32 warp_channels() const { return dim_v / warps_n; }
    constexpr bool shares_weights() const { return warps_n > 1 || floats(); }

    constexpr i32 element_bytes() const { return floats() ? 4 : 2; }
    /// Eight rows of a matrix must begin in eight different groups of banks. Where a row is whole groups of 128 bytes,
    /// its units of 16 bytes change places within them (unit u of row r lies at u ^ r % 8), and copies write whole
    /// groups; else rows are 16 bytes longer than their channels.
    constexpr bool swizzles_qk() const { return !floats() && dim_qk % 64 == 0; }
    constexpr bool swizzles_v() const { return !floats() && warp_channels() % 64 == 0; }
    constexpr i32 qk_step() const { return dim_qk * element_bytes() + (swizzles_qk() ? 0 : 16); }
    constexpr i32 v_step() const { return dim_v * element_bytes() + (swizzles_v() ? 0 : 16); }
    constexpr i32 weight_step() const { return keys * element_bytes() + 16; }
    constexpr i32 k_bytes() const { return keys * qk_step(); }
    constexpr i32 v_bytes() const { return keys * v_step(); }

    static constexpr i32 kFactSlots = 3;

    constexpr SharedLayout shared() const
    {
        SharedLayout at = {};
        at.q = 0;
        at.k = at.q + rows() * qk_step();
        at.v = floats() ? at.k : at.k + stages * k_bytes();
        const i32 end = floats() ? at.k + (k_bytes() > v_bytes() ? k_bytes() : v_bytes()) : at.v + stages * v_bytes();
        at.weights = end;
        at.reduce = at.weights + (shares_weights() ? rows() * weight_step() : 0);
        at.facts = at.reduce + (warps_n > 1 ? 3 * warps_n * rows() * 4 : 0);
        at.seen = at.facts + kFactSlots * keys * static_cast<i32>(sizeof(KeyFacts));
        at.bytes = at.seen + (general ? keys * 4 : 0);
        return at;
    }

    /// Floats of a row where warps over keys merge: channels, maximum, sum, spread.
    constexpr i32 merge_step() const { return dim_v + 3; }

    /// Why no kernel can have this shape; NULL if one can.
    constexpr const char *fault() const
    {
        const SharedLayout at = shared();
        if (warps_k > 1 && warps_n > 1) return "warps share out keys in one way only";
        if (warps_k > 1 && warps_k * rows() * merge_step() * 4 > at.weights) return "the merge needs more memory";
        if (warp_keys() % (floats() ? 8 : 16) != 0 || warp_keys() == 0) return "a warp needs whole products of keys";
        if (dim_qk % 16 != 0 || warp_channels() % 16 != 0) return "a warp needs whole products of channels";
        if (floats() && (stages != 1 || row_tiles * warp_keys() > 64)) return "floats have one stage and 64 scores";
        return nullptr;
    }
};

} // namespace attn::gpu

#endif

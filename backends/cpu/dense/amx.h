// The tile registers of AMX: eight of 16 rows of 64 bytes. Internal linkage: see simd.h.
//
// As assembly, because compilers differ in whether they know that a tile load reads memory. With ATTN_EMULATE_AMX the
// registers are memory and the unit runs, and is tested, on a processor without AMX.
#ifndef ATTN_BACKENDS_CPU_DENSE_AMX_H
#define ATTN_BACKENDS_CPU_DENSE_AMX_H

#include "backends/cpu/simd.h"

namespace attn::cpu {
namespace {

constexpr int kTileSide = 16;                  ///< Rows, and words of a row.
constexpr int64_t kTileBytes = 64;             ///< Of a row of a tile.
constexpr int64_t kTileWords = 16 * kTileSide; ///< Of a tile.

#if defined(ATTN_EMULATE_AMX)

alignas(64) thread_local float emulated_tiles[8][kTileSide][kTileSide];

/// Tiles between this and its destructor are usable, whole, on this thread.
struct TileRegisters {
    TileRegisters() { __builtin_memset(emulated_tiles, 0, sizeof emulated_tiles); }
};

template <int Tile>
inline void tile_zero()
{
    __builtin_memset(emulated_tiles[Tile], 0, sizeof emulated_tiles[Tile]);
}

template <int Tile>
inline void tile_load(const float *p, int64_t row_bytes)
{
    for (int64_t r = 0; r < kTileSide; ++r)
        __builtin_memcpy(emulated_tiles[Tile][r], reinterpret_cast<const char *>(p) + r * row_bytes, 64);
}

template <int Tile>
inline void tile_store(float *p, int64_t row_bytes)
{
    for (int64_t r = 0; r < kTileSide; ++r)
        __builtin_memcpy(reinterpret_cast<char *>(p) + r * row_bytes, emulated_tiles[Tile][r], 64);
}

/// The sums of the first and of the second elements of the pairs apart, as the instruction has them.
template <int C, int A, int B>
inline void tile_add_pair_products()
{
    for (int m = 0; m < kTileSide; ++m) {
        Vec first = {}, second = {};
        for (int k = 0; k < kTileSide; ++k) {
            const VecI a = VecI{} + bits(load(emulated_tiles[A][m]))[k], b = bits(load(emulated_tiles[B][k]));
            first += from_bits(a << 16) * from_bits(b << 16);
            second += from_bits(a & INT32_C(-65536)) * from_bits(b & INT32_C(-65536));
        }
        store(emulated_tiles[C][m], load(emulated_tiles[C][m]) + (first + second));
    }
}

#else

/// Tiles between this and its destructor are usable, whole, on this thread.
struct TileRegisters {
    TileRegisters()
    {
        struct alignas(64) {
            uint8_t palette = 1, start_row = 0, reserved[14] = {};
            uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
        } config;
        __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");
    }
    ~TileRegisters() { __asm__ volatile("tilerelease" : : : "memory"); }
    TileRegisters(const TileRegisters &) = delete;
    TileRegisters &operator=(const TileRegisters &) = delete;
};

template <int Tile>
ATTN_INLINE void tile_zero()
{
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(Tile));
}

template <int Tile>
ATTN_INLINE void tile_load(const float *p, int64_t row_bytes)
{
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(row_bytes), "i"(Tile) : "memory");
}

template <int Tile>
ATTN_INLINE void tile_store(float *p, int64_t row_bytes)
{
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(row_bytes), "i"(Tile) : "memory");
}

/// C += A B: rows of 16 pairs times columns of 16 pairs of bfloat16.
template <int C, int A, int B>
ATTN_INLINE void tile_add_pair_products()
{
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

#endif

} // namespace
} // namespace attn::cpu

#endif

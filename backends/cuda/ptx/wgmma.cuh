// Products of warpgroups on the matrix units (sm_90a): asynchronous, operands in shared memory.
//
// A product of 64 x n lies in registers as pieces of 8 columns: element e of piece j belongs to row 16 warp + lane / 4
// + 8 (e / 2) and column 8 j + 2 (lane % 4) + e % 2, as with mma.sync. Operands in shared memory are tiles of rows of
// 128 bytes (64 elements), swizzled by 128 bytes, aligned to 1024.
#ifndef ATTN_BACKENDS_CUDA_PTX_WGMMA_CUH
#define ATTN_BACKENDS_CUDA_PTX_WGMMA_CUH

#include "backends/gpu/platform.cuh"

namespace attn::ptx {

using gpu::u32;
using gpu::u64;

/// Before products whose registers or shared memory other instructions wrote.
ATTN_DEVICE void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/// Ends a group of products.
ATTN_DEVICE void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits for all but the last `pending` groups.
template <int pending>
ATTN_DEVICE void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

/// Keeps the compiler from using a product before this place: it knows nothing of when wgmma is done.
template <int pieces>
ATTN_DEVICE void pin(float (&x)[pieces][4])
{
#pragma unroll
    for (int j = 0; j < pieces; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) asm volatile("" : "+f"(x[j][e])::"memory");
}

// Descriptors of operands: the address and two distances, in units of 16 bytes, and the kind of swizzle.
constexpr u64 kSwizzle128 = u64{1} << 62;
constexpr u32 kSwizzleAtom = 1024; ///< Bytes of 8 rows, after which the pattern repeats.

/// Of an operand whose rows are along k: Q and K. A step of 16 along k is 32 bytes on, within the 128 of a row.
ATTN_DEVICE u64 descriptor_along_k(u32 address)
{
    return (address & 0x3ffff) >> 4 | u64{1} << 16 | u64{kSwizzleAtom >> 4} << 32 | kSwizzle128;
}
/// Of an operand whose rows are along n, one row for each k: V. Blocks of 64 along n are `block` bytes apart; a step of
/// 16 along k is 16 rows on.
ATTN_DEVICE u64 descriptor_along_n(u32 address, u32 block)
{
    return (address & 0x3ffff) >> 4 | u64{block >> 4} << 16 | u64{kSwizzleAtom >> 4} << 32 | kSwizzle128;
}
/// What is added to a descriptor to go on by so many bytes.
constexpr u64 descriptor_step(u32 bytes)
{
    return bytes >> 4;
}

/// Products of 64 x n, 16 along k. Only what is written below exists.
///   shared(): c = (accumulate ? c : 0) + a b; a is along k, b too (n rows).
///   shared_along_n(): c += a b; a is along k, b along n.
///   registers(): c += a b; a in registers as mma.sync has it, b along n.
///   registers_along_k(): c = (accumulate ? c : 0) + a b; a in registers, b along k.
template <gpu::Element type, int n>
struct Wgmma;

// Lists of operands cannot be written as templates.
#define ATTN_PIECES_2(x, j) \
    "+f"(x[j][0]), "+f"(x[j][1]), "+f"(x[j][2]), "+f"(x[j][3]), "+f"(x[j + 1][0]), "+f"(x[j + 1][1]), \
        "+f"(x[j + 1][2]), "+f"(x[j + 1][3])
#define ATTN_PIECES_4(x, j) ATTN_PIECES_2(x, j), ATTN_PIECES_2(x, j + 2)
#define ATTN_PIECES_8(x, j) ATTN_PIECES_4(x, j), ATTN_PIECES_4(x, j + 4)
#define ATTN_PIECES_16(x, j) ATTN_PIECES_8(x, j), ATTN_PIECES_8(x, j + 8)

// %0 .. %(n / 2 - 1).
#define ATTN_OUTPUT_64 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define ATTN_OUTPUT_80 \
    ATTN_OUTPUT_64 \
    ", %32, %33, %34, %35, %36, %37, %38, %39"
#define ATTN_OUTPUT_96 \
    ATTN_OUTPUT_80 \
    ", %40, %41, %42, %43, %44, %45, %46, %47"
#define ATTN_OUTPUT_128 \
    ATTN_OUTPUT_96 \
    ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define ATTN_OUTPUT_192 \
    ATTN_OUTPUT_128 \
    ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define ATTN_OUTPUT_256 \
    ATTN_OUTPUT_192 \
    ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

#define ATTN_PRODUCT_64 ATTN_PIECES_8(c, 0)
#define ATTN_PRODUCT_80 ATTN_PIECES_8(c, 0), ATTN_PIECES_2(c, 8)
#define ATTN_PRODUCT_96 ATTN_PIECES_8(c, 0), ATTN_PIECES_4(c, 8)
#define ATTN_PRODUCT_128 ATTN_PIECES_16(c, 0)
#define ATTN_PRODUCT_192 ATTN_PIECES_16(c, 0), ATTN_PIECES_8(c, 16)
#define ATTN_PRODUCT_256 ATTN_PIECES_16(c, 0), ATTN_PIECES_16(c, 16)

#define ATTN_WGMMA_SHARED(type, n, a, b, add) \
    asm volatile("{\n" \
                 ".reg .pred adds;\n" \
                 "setp.ne.b32 adds, " add ", 0;\n" \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" ATTN_OUTPUT_##n \
                 "}, " a ", " b ", adds, 1, 1, 0, 0;\n" \
                 "}" \
                 : ATTN_PRODUCT_##n \
                 : "l"(a_descriptor), "l"(b_descriptor), "r"(accumulate))
#define ATTN_WGMMA_SHARED_ALONG_N(type, n, a, b) \
    asm volatile("{\n" \
                 ".reg .pred adds;\n" \
                 "setp.eq.b32 adds, 0, 0;\n" \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" ATTN_OUTPUT_##n \
                 "}, " a ", " b ", adds, 1, 1, 0, 1;\n" \
                 "}" \
                 : ATTN_PRODUCT_##n \
                 : "l"(a_descriptor), "l"(b_descriptor))
#define ATTN_WGMMA_REGISTERS(type, n, a0, a1, a2, a3, b) \
    asm volatile("{\n" \
                 ".reg .pred adds;\n" \
                 "setp.eq.b32 adds, 0, 0;\n" \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" ATTN_OUTPUT_##n \
                 "}, {" a0 ", " a1 ", " a2 ", " a3 "}, " b ", adds, 1, 1, 1;\n" \
                 "}" \
                 : ATTN_PRODUCT_##n \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_descriptor))

#define ATTN_WGMMA_REGISTERS_ALONG_K(type, n, a0, a1, a2, a3, b, add) \
    asm volatile("{\n" \
                 ".reg .pred adds;\n" \
                 "setp.ne.b32 adds, " add ", 0;\n" \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" ATTN_OUTPUT_##n \
                 "}, {" a0 ", " a1 ", " a2 ", " a3 "}, " b ", adds, 1, 1, 0;\n" \
                 "}" \
                 : ATTN_PRODUCT_##n \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_descriptor), "r"(accumulate))

/// i0 ...: the numbers of the operands after those of the product.
#define ATTN_DEFINE_WGMMA(n, i0, i1, i2, i3, i4, i5) \
    template <gpu::Element type> \
    struct Wgmma<type, n> { \
        static ATTN_DEVICE void shared(float (&c)[n / 8][4], u64 a_descriptor, u64 b_descriptor, int accumulate) \
        { \
            if constexpr (type == gpu::kBfloat16) \
                ATTN_WGMMA_SHARED("bf16", n, i0, i1, i2); \
            else \
                ATTN_WGMMA_SHARED("f16", n, i0, i1, i2); \
        } \
        static ATTN_DEVICE void shared_along_n(float (&c)[n / 8][4], u64 a_descriptor, u64 b_descriptor) \
        { \
            if constexpr (type == gpu::kBfloat16) \
                ATTN_WGMMA_SHARED_ALONG_N("bf16", n, i0, i1); \
            else \
                ATTN_WGMMA_SHARED_ALONG_N("f16", n, i0, i1); \
        } \
        static ATTN_DEVICE void registers(float (&c)[n / 8][4], const u32 *a, u64 b_descriptor) \
        { \
            if constexpr (type == gpu::kBfloat16) \
                ATTN_WGMMA_REGISTERS("bf16", n, i0, i1, i2, i3, i4); \
            else \
                ATTN_WGMMA_REGISTERS("f16", n, i0, i1, i2, i3, i4); \
        } \
        static ATTN_DEVICE void registers_along_k(float (&c)[n / 8][4], const u32 (&a)[4], u64 b_descriptor, \
                                                  int accumulate) \
        { \
            if constexpr (type == gpu::kBfloat16) \
                ATTN_WGMMA_REGISTERS_ALONG_K("bf16", n, i0, i1, i2, i3, i4, i5); \
            else \
                ATTN_WGMMA_REGISTERS_ALONG_K("f16", n, i0, i1, i2, i3, i4, i5); \
        } \
    }

ATTN_DEFINE_WGMMA(64, "%32", "%33", "%34", "%35", "%36", "%37");
ATTN_DEFINE_WGMMA(80, "%40", "%41", "%42", "%43", "%44", "%45");
ATTN_DEFINE_WGMMA(96, "%48", "%49", "%50", "%51", "%52", "%53");
ATTN_DEFINE_WGMMA(128, "%64", "%65", "%66", "%67", "%68", "%69");
ATTN_DEFINE_WGMMA(192, "%96", "%97", "%98", "%99", "%100", "%101");
ATTN_DEFINE_WGMMA(256, "%128", "%129", "%130", "%131", "%132", "%133");

#undef ATTN_PIECES_2
#undef ATTN_PIECES_4
#undef ATTN_PIECES_8
#undef ATTN_PIECES_16
#undef ATTN_PRODUCT_64
#undef ATTN_PRODUCT_80
#undef ATTN_PRODUCT_96
#undef ATTN_PRODUCT_128
#undef ATTN_PRODUCT_192
#undef ATTN_PRODUCT_256
#undef ATTN_OUTPUT_64
#undef ATTN_OUTPUT_80
#undef ATTN_OUTPUT_96
#undef ATTN_OUTPUT_128
#undef ATTN_OUTPUT_192
#undef ATTN_OUTPUT_256
#undef ATTN_WGMMA_SHARED
#undef ATTN_WGMMA_SHARED_ALONG_N
#undef ATTN_WGMMA_REGISTERS
#undef ATTN_WGMMA_REGISTERS_ALONG_K
#undef ATTN_DEFINE_WGMMA

} // namespace attn::ptx

#endif

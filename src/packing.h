// How `attn pack` learns which kernels a plan wants: an extension of attn_options that makes a handle for a GPU that
// need not be there. Between the library and its own tool; no part of the ABI, and another thing in every version.
#ifndef ATTN_SRC_PACKING_H
#define ATTN_SRC_PACKING_H

#include <attn/attn.h>

namespace attn {

/// A compiled kernel, valid during the call that brings it.
struct PackedKernel {
    uint8_t key[32];
    const char *target, *label;
    int32_t compiler, is_ptx;
    const void *image;
    size_t bytes;
};

/// The type of Packing; far from those that attn.h will name.
inline constexpr attn_ext_type kPackingType = 0x7061636b;

/// On a handle with it, planning compiles the kernels of the plan for `target` and hands each over, once for the
/// handle, on the thread that plans; several may. Nothing can be executed. Of the other options, only the device
/// (ATTN_DEVICE_CUDA), the flag ATTN_HANDLE_NO_DISK_CACHE, cache_dir and compiler_path may be set.
struct Packing {
    attn_ext ext; ///< With kPackingType.
    const char *target;
    void *ctx;
    void(ATTN_CALL *keep)(void *ctx, const PackedKernel *kernel);
};

} // namespace attn

#endif

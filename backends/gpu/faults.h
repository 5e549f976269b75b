// Checked mode, in terms that hosts and kernels share.
#ifndef ATTN_BACKENDS_GPU_FAULTS_H
#define ATTN_BACKENDS_GPU_FAULTS_H

#include "backends/gpu/types.h"

namespace attn::gpu {

/// Something wrong with the contents of a tensor.
struct Fault {
    i32 rank;     ///< 0: nothing is wrong. Else smaller is reported first.
    i32 slot;     ///< attn_slot.
    i64 position; ///< Row-major index in the tensor of the slot.
    i64 value;    ///< What is there.
};

/// Threads of the one block that looks for faults: so which one is found does not depend on chance.
constexpr i32 kFaultThreads = 256;

// Numbers of attn.h, which compilers of kernels cannot read.
constexpr i32 kStatusOfFaults = -10; ///< ATTN_ERROR_DATA
constexpr i32 kSlotK = 0x02, kSlotV = 0x03, kSlotCuSeqlensQ = 0x10, kSlotCuSeqlensKv = 0x11, kSlotSeqlensQ = 0x12,
              kSlotSeqlensKv = 0x13, kSlotBlockTable = 0x14, kSlotBlockTablePtr = 0x15, kSlotSlotMapping = 0x16,
              kSlotPositionsQ = 0x32, kSlotRopeCos = 0x38;

} // namespace attn::gpu

#endif

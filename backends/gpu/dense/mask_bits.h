// The kernel that turns mask programs into bits, as executors launch it; backends/gpu/dense/mask_bits.cuh says how.
#ifndef ATTN_BACKENDS_GPU_DENSE_MASK_BITS_H
#define ATTN_BACKENDS_GPU_DENSE_MASK_BITS_H

#include "backends/gpu/dense/mask_params.h"
#include "backends/gpu/device.h"
#include "mask/program.h"

namespace attn::gpu {

/// Why the kernels of a GPU do not serve a program; empty if they do.
std::string refuse_program(const MaskProgram &program);

/// The interpreter, which serves every program.
kernel::Request mask_bits_request();
/// The same kernel with the text of a program in it.
kernel::Request mask_bits_request(const MaskProgram &program);

/// Constants of a plan: terms, then parameters, to upload in one piece.
std::string mask_constants(const MaskProgram &program);
/// The part of the arguments that the plan knows; `constants` is where mask_constants() lies on the device.
MaskArgs mask_args(const MaskProgram &program, const void *constants);

/// Blocks of a launch.
Grid mask_bits_grid(const MaskBitsParams &params);

} // namespace attn::gpu

#endif

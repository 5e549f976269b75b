// The kernels that the library carries compiled, so that common plans need no compiler.
#ifndef ATTN_BACKENDS_CUDA_DEFAULT_KERNELS_H
#define ATTN_BACKENDS_CUDA_DEFAULT_KERNELS_H

#include "kernel/store.h"

#include <string>
#include <vector>

namespace attn::cuda {

/// A target of the embedded pack, and the shared memory that kernels for it may count on.
struct DefaultTarget {
    const char *name;
    bool wide_memory; ///< 227 KiB for a block of threads; else 99.
    bool hopper;      ///< Has the instructions that kernels for Hopper need.
};

/// Cubins for Ampere, which serve Ada too, and for Hopper. For later GPUs there is PTX, which the driver compiles: they
/// have either amount of shared memory, so there is PTX of both kinds.
inline constexpr DefaultTarget kDefaultTargets[] = {
    {"sm_80", false, false}, {"sm_90a", true, true}, {"compute_80", false, false}, {"compute_90", true, false}};

/// For each target, as what a build may take is bounded.
inline constexpr size_t kMostDefaultKernels = 48;

/// The kernels for a target, of every family of executors. The build compiles them, and the tests check the registers
/// of each (tests/kernel/resources.csv).
std::vector<kernel::Request> default_kernels(const DefaultTarget &target);

} // namespace attn::cuda

#endif

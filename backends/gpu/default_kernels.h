// The kernels that the library carries compiled, so that common plans need no compiler: each family of executors lists
// its own.
#ifndef ATTN_BACKENDS_GPU_DEFAULT_KERNELS_H
#define ATTN_BACKENDS_GPU_DEFAULT_KERNELS_H

#include "kernel/store.h"

#include <string>
#include <vector>

namespace attn::gpu {

/// Targets of the embedded pack: cubins for sm_80 (which serve sm_86 and sm_89 too) and for sm_90a, and PTX for
/// everything later.
inline constexpr const char *kDefaultTargets[] = {"sm_80", "sm_90a", "compute_80"};
/// For each target; what a build may take is bounded by it.
inline constexpr size_t kMostDefaultKernels = 48;

struct DefaultKernel {
    kernel::Request request;
    std::vector<std::string> targets; ///< Of kDefaultTargets; a kernel for Hopper alone has {"sm_90a"}.
};

/// All of them. The build compiles them, and the tests check the registers of each (tests/gpu/resources.csv).
std::vector<DefaultKernel> default_kernels();

} // namespace attn::gpu

#endif

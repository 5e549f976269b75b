// What a kernel in a cubin takes of the machine, read from the file itself.
#ifndef ATTN_TESTS_KERNEL_CUBIN_H
#define ATTN_TESTS_KERNEL_CUBIN_H

#include <cstdint>
#include <string>
#include <vector>

namespace attn::kernel {

struct KernelResources {
    std::string name;
    int64_t registers = -1;   ///< Of a thread.
    int64_t local_bytes = -1; ///< Of a thread, on its stack: arrays and spilled registers.
    int64_t shared_bytes = 0; ///< Of a block, static; from sm_90 on with 1024 that the system takes.
};

/// The kernels of a cubin (a 64-bit little-endian ELF file). Throws std::runtime_error if it is none.
std::vector<KernelResources> read_cubin(const std::string &cubin);

} // namespace attn::kernel

#endif

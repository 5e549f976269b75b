// Runs kernels that are written for the threads of a GPU on one thread of the CPU: each of theirs is a fiber, which
// goes on to its next meeting point (a barrier, or an operation of a warp), and there lets the next one run. Blocks run
// one after the other; the order of everything is fixed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace gpu_emulated {

struct Grid3 {
    unsigned x = 1, y = 1, z = 1;
};

// Where the fiber that runs is.
struct Here {
    Grid3 thread, block, grid;
};
extern Here here;

// The shared memory of the block, under the name that kernels give it. Filled with nonsense before each block.
constexpr std::size_t kSharedBytes = 227 << 10;

// Runs `kernel` for every thread of every block. Stops the program where some threads of a block wait for others that
// have ended: a kernel would hang.
void run_kernel(Grid3 grid, unsigned threads, const std::function<void()> &kernel);

// A kernel that runs on fibers, by the request that names it; `defines`: each but the first after a blank.
using RunKernel = void (*)(Grid3 grid, unsigned threads, void **parameters);
struct AddKernel {
    AddKernel(const char *source, const char *entry, const char *defines, RunKernel run);
};

// Waits for all threads of the block.
void meet_block();
// What all threads of the block said: whether any, or all, are true.
bool any_of_block(bool value);
bool all_of_block(bool value);

// Every lane of a warp gives bytes and gets, until its next operation of the warp, those of all: lane l's at
// [l * kLaneBytes].
constexpr std::size_t kLaneBytes = 64;
const unsigned char *meet_warp(const void *mine, std::size_t bytes);

} // namespace gpu_emulated

extern "C" char shared[gpu_emulated::kSharedBytes];

// How kernels are written so that they need no GPU: as programs of phases.
//
// A program is what one thread of a block does. Its phases run one after the other, all threads of the block having
// ended a phase before any begins the next; between phases it keeps what its members hold and sees what other threads
// of the block left in Shared:
//
//     thread 0   run<0> |         | run<1> |         | run<2>
//     thread 1   run<0> | barrier | run<1> | barrier | run<2>
//     ...        run<0> |         | run<1> |         | run<2>
//
// Within a phase threads do not communicate but for the atomics below. So a GPU runs a program with all threads at
// once, and a test on the CPU thread by thread, with the same results.
#ifndef ATTN_BACKENDS_GPU_THREADS_CUH
#define ATTN_BACKENDS_GPU_THREADS_CUH

#include "backends/gpu/types.h"

#if defined(__CUDACC__)
#define ATTN_DEVICE __device__ __forceinline__
#define ATTN_UNROLL _Pragma("unroll")
#else
#define ATTN_DEVICE inline
#define ATTN_UNROLL
#endif

namespace attn::gpu {

/// Which thread this is.
struct Place {
    u64 block;     ///< Of the x and z axes of the grid: more than either counts.
    u64 blocks;    ///< Their number.
    u32 block_row; ///< Of the y axis.
    u32 thread;
};

/// *to = max(*to, value).
ATTN_DEVICE void keep_largest(u64 *to, u64 value)
{
#if defined(__CUDACC__)
    atomicMax(to, value);
#else
    if (*to < value) *to = value;
#endif
}

/// If *to is `expected`, makes it `value`. Returns what it was.
ATTN_DEVICE u64 exchange_if(u64 *to, u64 expected, u64 value)
{
#if defined(__CUDACC__)
    return atomicCAS(to, expected, value);
#else
    const u64 was = *to;
    if (was == expected) *to = value;
    return was;
#endif
}

#if defined(__CUDACC__)
template <class Program, int Phase = 0>
ATTN_DEVICE void run_phases(Program &program)
{
    program.template run<Phase>();
    if constexpr (Phase + 1 < Program::kPhases) {
        __syncthreads();
        run_phases<Program, Phase + 1>(program);
    }
}

/// The body of a kernel.
template <class Program>
ATTN_DEVICE void run_program(const typename Program::Parameters &parameters, typename Program::Shared &shared)
{
    const u64 block = static_cast<u64>(blockIdx.z) * gridDim.x + blockIdx.x;
    const Place place = {block, static_cast<u64>(gridDim.z) * gridDim.x, blockIdx.y, threadIdx.x};
    Program program(parameters, shared, place);
    run_phases(program);
}
#endif

} // namespace attn::gpu

#endif

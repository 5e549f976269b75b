// Checked mode: what kernels find wrong with lengths and indices, and the one fault that slot STATUS reports.
#ifndef ATTN_BACKENDS_GPU_FAULTS_CUH
#define ATTN_BACKENDS_GPU_FAULTS_CUH

#include "backends/gpu/convert.cuh"
#include "backends/gpu/faults.h"

namespace attn::gpu {

/// Which of two faults is reported: of the slot that is looked at first, the one at the smallest position.
ATTN_DEVICE void keep_first(const Fault &fault, Fault *first)
{
    if (fault.rank == 0) return;
    const bool sooner =
        first->rank == 0 || fault.rank < first->rank || (fault.rank == first->rank && fault.position < first->position);
    if (sooner) *first = fault;
}

/// Boundary i of packed sequences, by the rules: from 0 up, never falling, within `rows`, `longest` at most from one to
/// the next.
ATTN_DEVICE Fault boundary_fault(const IntegerVector &cu, i64 i, i64 rows, i64 longest, i32 rank, i32 slot)
{
    const i64 value = load_integer(cu, i), before = i ? load_integer(cu, i - 1) : 0;
    const bool right = value >= before && value <= rows && (i == 0 || before < 0 || value - before <= longest);
    return right ? Fault{} : Fault{rank, slot, i, value};
}

/// The faults that the threads of a block found, down to one. Threads call both, with a barrier between.
struct FaultTable {
    Fault first[kFaultThreads];
};

/// Writes slot STATUS: `[status, slot, position, value]`, numbers beyond int32 as its limits; zeros without a fault.
ATTN_DEVICE void write_status(const TokenView &status, const Fault &fault)
{
    const i64 values[4] = {fault.rank ? kStatusOfFaults : 0, fault.slot, fault.position, fault.value};
    ATTN_UNROLL
    for (i32 i = 0; i < 4; ++i) {
        const i64 value = values[i] > 0x7fffffff        ? 0x7fffffff
                          : values[i] < -0x7fffffff - 1 ? -0x7fffffff - 1
                                                        : values[i];
        store(status.base + i * status.token_step, static_cast<i32>(value));
    }
}

/// What thread 0 does once every thread has left its fault in the table.
ATTN_DEVICE void report_first(const FaultTable &table, const TokenView &status)
{
    Fault first = {};
    for (i32 i = 0; i < kFaultThreads; ++i) keep_first(table.first[i], &first);
    write_status(status, first);
}

} // namespace attn::gpu

#endif

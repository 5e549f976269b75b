// What the tests of the kernel store share: their own sources, and scratch directories.
#ifndef ATTN_TESTS_UNIT_CORE_KERNEL_FIXTURE_H
#define ATTN_TESTS_UNIT_CORE_KERNEL_FIXTURE_H

#include "kernel/source.h"
#include "kernel/store.h"

namespace attn::kernel {

/// tests/unit/kernels
Sources test_sources() noexcept;

/// attn_test_scale for a factor.
inline Request scale_request(int factor = 3)
{
    return {"test/scale.cuh",
            "attn_test_scale",
            {"SCALE=" + std::to_string(factor)},
            "__device__ inline float offset() { return 1.0f; }\n"};
}

} // namespace attn::kernel

#endif

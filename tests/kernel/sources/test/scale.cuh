// A kernel for tests of the kernel store: y = SCALE x + OFFSET, whose parts are a header, a definition and a generated
// text.
#include "attn_generated.cuh"
#include "test/index.h"

extern "C" __global__ void attn_test_scale(const float *x, float *y, test::i64 count)
{
    const test::i64 i = test::index(blockIdx.x, blockDim.x, threadIdx.x);
    if (i < count) y[i] = static_cast<float>(SCALE) * x[i] + offset();
}

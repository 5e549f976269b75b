// The vectors of the CPU backend, compiled for avx2.
#if defined(__x86_64__)
#include "core_simd_body.h"

namespace attn::test {

extern const SimdUnit kSimdAvx2 = make_unit("avx2");

} // namespace attn::test
#endif

// The vectors of the CPU backend, compiled for avx512.
#if defined(__x86_64__)
#include "core_simd_body.h"

namespace attn::test {

extern const SimdUnit kSimdAvx512 = make_unit("avx512");

} // namespace attn::test
#endif

// The vectors of the CPU backend, compiled for NEON.
#if defined(__aarch64__)
#define ATTN_NEON
#include "core_simd_body.h"

namespace attn::test {

extern const SimdUnit kSimdNeon = make_unit("neon");

} // namespace attn::test
#endif

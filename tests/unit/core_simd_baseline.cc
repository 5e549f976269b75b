// The vectors of the CPU backend, compiled for baseline.
#include "core_simd_body.h"

namespace attn::test {

extern const SimdUnit kSimdBaseline = make_unit("baseline");

} // namespace attn::test

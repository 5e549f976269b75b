#include "rows_simd.h"

namespace attn::perf {

const RowKernels kRowsBaseline = {soften, scale, widen};

} // namespace attn::perf

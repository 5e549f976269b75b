#include "rows_simd.h"

namespace attn::perf {

const RowKernels kRowsBaseline = {soften, scale, widen, sum};

} // namespace attn::perf

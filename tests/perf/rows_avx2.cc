#include "rows_simd.h"

namespace attn::perf {

const RowKernels kRowsAvx2 = {soften, scale, widen};

} // namespace attn::perf

#include "rows_simd.h"

namespace attn::perf {

const RowKernels kRowsAvx512 = {soften, scale, widen};

} // namespace attn::perf

// Dense forward attention of bfloat16 for processors with AVX-512 and the bfloat16 dot products of AVX512-BF16.
#define ATTN_PRODUCTS_DOT
#include "backends/cpu/dense/forward_tile.h"

namespace attn::cpu {

const ForwardKernel kForwardAvx512Bf16 = {
    "cpu.dense.forward.avx512_bf16", kStrip, kPanel, 192, kFewRows, scratch_bytes, run_tile, merge_tile, add_columns};

} // namespace attn::cpu

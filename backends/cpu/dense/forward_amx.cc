// Dense forward attention of bfloat16 for processors with AVX-512, AVX512-BF16 and the tiles of AMX.
#define ATTN_PRODUCTS_AMX
#include "backends/cpu/dense/forward_tile.h"

namespace attn::cpu {

const ForwardKernel kForwardAmx = {"cpu.dense.forward.amx", kStrip,   kPanel,     512,        kFewRows,
                                   scratch_bytes,           run_tile, merge_tile, add_columns};

} // namespace attn::cpu

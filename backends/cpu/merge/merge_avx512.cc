// Merge of partial results for the instruction set that the build compiles this file for: avx512.
#include "backends/cpu/merge/merge_row.h"

namespace attn::cpu {

const MergeKernel kMergeAvx512 = {"cpu.merge.avx512", add_parts, write_channels};

} // namespace attn::cpu

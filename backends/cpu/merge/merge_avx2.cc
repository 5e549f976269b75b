// Merge of partial results for the instruction set that the build compiles this file for: avx2.
#include "backends/cpu/merge/merge_row.h"

namespace attn::cpu {

const MergeKernel kMergeAvx2 = {"cpu.merge.avx2", add_parts, write_channels};

} // namespace attn::cpu

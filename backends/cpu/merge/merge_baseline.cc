// Merge of partial results for the instruction set that the build compiles this file for: baseline.
#include "backends/cpu/merge/merge_row.h"

namespace attn::cpu {

const MergeKernel kMergeBaseline = {"cpu.merge.baseline", add_parts, write_channels};

} // namespace attn::cpu

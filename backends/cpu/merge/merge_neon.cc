// Merge of partial results for NEON, which every AArch64 processor has.
#define ATTN_NEON
#include "backends/cpu/merge/merge_row.h"

namespace attn::cpu {

const MergeKernel kMergeNeon = {"cpu.merge.neon", add_parts, write_channels};

} // namespace attn::cpu

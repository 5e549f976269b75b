// Convolutions and scans for NEON, which every AArch64 processor has.
#define ATTN_NEON
#include "backends/cpu/sequence/conv_strip.h"
#include "backends/cpu/sequence/scan_strip.h"

namespace attn::cpu {

const SequenceKernel kSequenceNeon = {"cpu.conv.neon", "cpu.scan.neon", load_taps, convolve,   keep_tokens,
                                      scan_segment,    scan_local,      carry,     read_state, write_state};

} // namespace attn::cpu

// Convolutions and scans for the instruction set that the build compiles this file for: avx2.
#include "backends/cpu/sequence/conv_strip.h"
#include "backends/cpu/sequence/scan_strip.h"

namespace attn::cpu {

const SequenceKernel kSequenceAvx2 = {"cpu.conv.avx2", "cpu.scan.avx2", load_taps, convolve,   keep_tokens,
                                      scan_segment,    scan_local,      carry,     read_state, write_state};

} // namespace attn::cpu

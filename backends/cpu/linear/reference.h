// The recurrence itself, token by token in double precision: the reference for every other path.
#ifndef ATTN_BACKENDS_CPU_LINEAR_REFERENCE_H
#define ATTN_BACKENDS_CPU_LINEAR_REFERENCE_H

#include "backends/cpu/linear/kernel.h"

namespace attn::cpu {

extern const LinearKernel kLinearReference;

} // namespace attn::cpu

#endif

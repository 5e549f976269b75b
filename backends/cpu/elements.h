// Element types of tensors, and gates: what executors and kernels of the CPU share.
#ifndef ATTN_BACKENDS_CPU_ELEMENTS_H
#define ATTN_BACKENDS_CPU_ELEMENTS_H

#include <stdint.h>

namespace attn::cpu {

/// Element types that kernels read and write.
enum class Element : int32_t { float32, float16, bfloat16 };

/// Bytes of one element.
constexpr int64_t element_bytes(Element element)
{
    return element == Element::float32 ? 4 : 2;
}

/// What multiplies an output element.
enum class Gate : int32_t { none, sigmoid, linear, silu };

} // namespace attn::cpu

#endif

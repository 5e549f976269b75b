#include "backends/cpu/views.h"

#include "names.h"

namespace attn::cpu {

bool element_of(attn_dtype dtype, Element *element) noexcept
{
    switch (dtype) {
    case ATTN_FLOAT32:
        *element = Element::float32;
        return true;
    case ATTN_FLOAT16:
        *element = Element::float16;
        return true;
    case ATTN_BFLOAT16:
        *element = Element::bfloat16;
        return true;
    default:
        return false;
    }
}

Gate gate_of(attn_gate gate) noexcept
{
    return gate == ATTN_GATE_LINEAR ? Gate::linear : gate == ATTN_GATE_SILU ? Gate::silu : Gate::sigmoid;
}

Bytes::Bytes(const attn_tensor &view) : data(first_element(view))
{
    element_of(view.dtype, &type);
    const int64_t bytes = dtype_bytes(view.dtype);
    for (int axis = 0; axis < view.ndim && axis < 4; ++axis) step[axis] = step_of(view, axis) * bytes;
    channel_step = view.shape[view.ndim - 1] > 1 ? view.strides[view.ndim - 1] : 1;
}

} // namespace attn::cpu

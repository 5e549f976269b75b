#include "backends/gpu/views.h"

#include "names.h"
#include "tensor_view.h"

#include <cstdint>

namespace attn::gpu {

bool element_of(attn_dtype dtype, i32 *element) noexcept
{
    switch (dtype) {
    case ATTN_FLOAT32:
        *element = 0;
        return true;
    case ATTN_FLOAT16:
        *element = 1;
        return true;
    case ATTN_BFLOAT16:
        *element = 2;
        return true;
    default:
        return false;
    }
}

i64 bytes_of_step(const attn_tensor &view, int axis) noexcept
{
    return step_of(view, axis) * dtype_bytes(view.dtype);
}

char *address_of(const attn_tensor &view) noexcept
{
    return first_element(view);
}

TokenView token_view(const attn_tensor &view, bool has_batch, bool has_heads, bool has_channels) noexcept
{
    TokenView v = {};
    v.base = address_of(view);
    if (!element_of(view.dtype, &v.type)) v.type = view.dtype == ATTN_INT64;
    int axis = 0;
    if (has_batch) v.batch_step = bytes_of_step(view, axis++);
    v.token_step = bytes_of_step(view, axis++);
    if (has_heads) v.head_step = bytes_of_step(view, axis++);
    if (has_channels) v.channel_step = bytes_of_step(view, axis);
    const bool dense = !has_channels || view.shape[axis] == 1 || v.channel_step == dtype_bytes(view.dtype);
    v.vector = dense && reinterpret_cast<uintptr_t>(v.base) % 16 == 0 && v.batch_step % 16 == 0 &&
               v.token_step % 16 == 0 && v.head_step % 16 == 0;
    return v;
}

ScoreView score_view(const attn_tensor &view, bool packed, bool has_keys) noexcept
{
    ScoreView v = {};
    v.base = address_of(view);
    element_of(view.dtype, &v.type);
    int axis = 0;
    if (!packed) v.batch_step = bytes_of_step(view, axis++);
    v.head_step = bytes_of_step(view, axis++);
    v.query_step = bytes_of_step(view, axis++);
    const int last = view.ndim - 1;
    if (has_keys) v.key_step = bytes_of_step(view, last);
    v.keys = static_cast<i32>(view.shape[last] > INT32_MAX ? INT32_MAX : view.shape[last]);
    return v;
}

IntegerVector integer_vector(const attn_tensor &view) noexcept
{
    IntegerVector v = {};
    v.base = address_of(view);
    v.step = bytes_of_step(view, view.ndim - 1);
    v.wide = view.dtype == ATTN_INT64;
    return v;
}

} // namespace attn::gpu

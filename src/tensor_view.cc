#include "tensor_view.h"

#include <algorithm>

namespace attn {
namespace {

bool is_empty(const attn_tensor &view)
{
    return std::any_of(view.shape, view.shape + view.ndim, [](int64_t extent) { return extent == 0; });
}

} // namespace

char *first_element(const attn_tensor &view) noexcept
{
    return is_empty(view) ? nullptr : static_cast<char *>(view.data) + view.byte_offset;
}

int64_t step_of(const attn_tensor &view, int axis) noexcept
{
    return view.shape[axis] > 1 && !is_empty(view) ? view.strides[axis] : 0;
}

} // namespace attn

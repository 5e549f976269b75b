#include "overlap.h"

#include <algorithm>
#include <cstddef>

namespace attn {
namespace {

/// Address arithmetic in 128 bits: a caller's strides may be anything.
__extension__ typedef __int128 Wide;

Wide magnitude(int64_t stride)
{
    return stride < 0 ? -static_cast<Wide>(stride) : static_cast<Wide>(stride);
}

Wide address(const attn_tensor &view)
{
    return static_cast<Wide>(reinterpret_cast<uintptr_t>(view.data)) + static_cast<Wide>(view.byte_offset);
}

bool is_empty(const attn_tensor &view)
{
    return std::any_of(view.shape, view.shape + view.ndim, [](int64_t extent) { return extent == 0; });
}

/// What is left of a view modulo `period` once the axes that step by multiples of it are dropped.
struct Residue {
    Wide first = 0, length = 0;
};

Residue residue(const attn_tensor &view, int64_t bytes, Wide period)
{
    Residue result{address(view), bytes};
    for (int axis = 0; axis < view.ndim; ++axis) {
        const Wide step = static_cast<Wide>(view.strides[axis]) * bytes;
        if (view.shape[axis] <= 1 || step % period == 0) continue;
        const Wide reach = step * (view.shape[axis] - 1);
        if (reach < 0) result.first += reach;
        result.length += reach < 0 ? -reach : reach;
    }
    result.first = ((result.first % period) + period) % period;
    return result;
}

bool are_disjoint_modulo(const attn_tensor &a, int64_t a_bytes, const attn_tensor &b, int64_t b_bytes, Wide period)
{
    const Residue ra = residue(a, a_bytes, period), rb = residue(b, b_bytes, period);
    if (ra.length > period || rb.length > period) return false;
    // On a circle of `period` bytes: b must begin after a ends and end before a begins again.
    const Wide gap = ((rb.first - ra.first) % period + period) % period;
    return gap >= ra.length && gap + rb.length <= period;
}

} // namespace

bool view_span(const attn_tensor &view, int64_t element_bytes, int64_t *first, int64_t *last) noexcept
{
    Wide low = 0, high = element_bytes;
    for (int axis = 0; axis < view.ndim; ++axis) {
        const Wide reach = static_cast<Wide>(view.strides[axis]) * element_bytes * (view.shape[axis] - 1);
        (reach < 0 ? low : high) += reach;
    }
    const Wide base = address(view);
    if (low < -static_cast<Wide>(PTRDIFF_MAX) || high > static_cast<Wide>(PTRDIFF_MAX)) return false;
    if (base + low < 0 || base + high > static_cast<Wide>(UINTPTR_MAX)) return false;
    *first = static_cast<int64_t>(low);
    *last = static_cast<int64_t>(high);
    return true;
}

bool has_distinct_elements(const attn_tensor &view) noexcept
{
    if (is_empty(view)) return true;
    int order[8];
    int axes = 0;
    for (int axis = 0; axis < view.ndim; ++axis) {
        if (view.shape[axis] <= 1) continue;
        int place = axes++;
        for (; place > 0 && magnitude(view.strides[order[place - 1]]) > magnitude(view.strides[axis]); --place)
            order[place] = order[place - 1];
        order[place] = axis;
    }
    Wide reach = 0; // of all faster axes
    for (int i = 0; i < axes; ++i) {
        const Wide stride = magnitude(view.strides[order[i]]);
        if (stride <= reach) return false;
        reach += stride * (view.shape[order[i]] - 1);
    }
    return true;
}

bool are_disjoint(const attn_tensor &a, int64_t a_bytes, const attn_tensor &b, int64_t b_bytes) noexcept
{
    if (is_empty(a) || is_empty(b)) return true;
    int64_t a_first, a_last, b_first, b_last;
    if (!view_span(a, a_bytes, &a_first, &a_last) || !view_span(b, b_bytes, &b_first, &b_last)) return false;
    if (address(a) + a_last <= address(b) + b_first || address(b) + b_last <= address(a) + a_first) return true;
    for (int axis = 0; axis < a.ndim; ++axis) {
        const Wide period = magnitude(a.strides[axis]) * a_bytes;
        if (a.shape[axis] > 1 && period > 0 && are_disjoint_modulo(a, a_bytes, b, b_bytes, period)) return true;
    }
    return false;
}

} // namespace attn

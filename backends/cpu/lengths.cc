#include "backends/cpu/lengths.h"

#include "backends/cpu/views.h"

#include <cstring>

namespace attn::cpu {
namespace {

long long wide(int64_t value)
{
    return value;
}

} // namespace

IntegerView::IntegerView(const attn_tensor &view)
    : base(first_element(view)), step(bytes_of_step(view, 0)), wide(view.dtype == ATTN_INT64)
{
}

int64_t IntegerView::operator[](int64_t i) const noexcept
{
    return read_integer(base + i * step, wide);
}

int64_t read_integer(const char *p, bool wide) noexcept
{
    int32_t narrow;
    int64_t value;
    if (wide) {
        memcpy(&value, p, sizeof value);
        return value;
    }
    memcpy(&narrow, p, sizeof narrow);
    return narrow;
}

int64_t bytes_of_step(const attn_tensor &view, int axis) noexcept
{
    return step_of(view, axis) * (view.dtype == ATTN_INT64 ? 8 : 4);
}

attn_status check_boundaries(const char *name, const IntegerView &cu, int64_t batch, int64_t rows,
                             int64_t longest) noexcept
{
    if (cu[0] < 0) return fail(ATTN_ERROR_DATA, "%s[0] = %lld: must be >= 0", name, wide(cu[0]));
    if (cu[0] > rows)
        return fail(ATTN_ERROR_DATA, "%s[0] = %lld: must be at most the %lld rows of the tensor", name, wide(cu[0]),
                    wide(rows));
    for (int64_t b = 0; b < batch; ++b) {
        if (cu[b + 1] < cu[b])
            return fail(ATTN_ERROR_DATA, "%s[%lld] = %lld: must not be less than the one before, %lld", name,
                        wide(b + 1), wide(cu[b + 1]), wide(cu[b]));
        if (cu[b + 1] > rows)
            return fail(ATTN_ERROR_DATA, "%s[%lld] = %lld: must be at most the %lld rows of the tensor", name,
                        wide(b + 1), wide(cu[b + 1]), wide(rows));
        if (cu[b + 1] - cu[b] > longest)
            return fail(ATTN_ERROR_DATA, "%s[%lld] - %s[%lld] = %lld: the plan bounds a sequence to %lld", name,
                        wide(b + 1), name, wide(b), wide(cu[b + 1] - cu[b]), wide(longest));
    }
    return ATTN_OK;
}

attn_status check_length(const char *name, int64_t b, int64_t length, int64_t most) noexcept
{
    if (length >= 0 && length <= most) return ATTN_OK;
    return fail(ATTN_ERROR_DATA, "%s[%lld] = %lld: must be 0 .. %lld", name, wide(b), wide(length), wide(most));
}

} // namespace attn::cpu

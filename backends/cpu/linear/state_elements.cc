// Elements of states between dtypes, as append converts channels.
#include "backends/cpu/append/channels.h"
#include "state.h"

namespace attn {

void copy_elements(const Elements &from, const Elements &to, int64_t count) noexcept
{
    cpu::copy_channels({from.data, from.step, from.dtype}, {to.data, to.step, to.dtype}, count);
}

} // namespace attn

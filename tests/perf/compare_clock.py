"""At which clock a GPU's multiprocessors ran: a kernel reads their cycles and the time, before and after."""

from __future__ import annotations

import functools
import statistics
from typing import Any, Callable

from compare_rows import DEVICE

MOST_SMS = 1024
SOURCE = """
extern "C" __global__ void read_clocks(long long *out)
{
    unsigned sm;
    unsigned long long time;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
    out[2 * sm] = clock64();
    out[2 * sm + 1] = static_cast<long long>(time);
}
"""


@functools.cache
def kernel() -> Callable[..., Any] | None:
    """None: PyTorch is too old to compile one, and clocks are not known."""
    import torch

    compile_kernel = getattr(torch.cuda, "_compile_kernel", None)
    return compile_kernel(SOURCE, "read_clocks") if compile_kernel else None


def read() -> Any:
    """Of the multiprocessors that get a block, in order of the stream: cycles and ns. 0: got none."""
    import torch

    out = torch.zeros(MOST_SMS, 2, dtype=torch.int64, device=DEVICE)
    if run := kernel():
        run((2 * torch.cuda.get_device_properties(0).multi_processor_count, 1, 1), (1, 1, 1), (out,))
    return out


def mhz_between(before: Any, after: Any) -> float:
    """The median of the multiprocessors. 0: not known."""
    pairs = zip(before.tolist(), after.tolist())
    rates = [1e3 * (c1 - c0) / (t1 - t0) for (c0, t0), (c1, t1) in pairs if c0 and c1 and t1 > t0]
    return statistics.median(rates) if rates else 0.0

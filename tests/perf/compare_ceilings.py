"""What the card can do in this run: the rate of a matrix product, and the bandwidth of reading."""

from __future__ import annotations

from functools import partial
from typing import Callable

import torch

from compare_rows import DEVICE

try:
    import triton  # type: ignore[import-untyped]
    import triton.language as tl  # type: ignore[import-untyped]

    @triton.jit  # type: ignore[untyped-decorator]
    def _read(x, out, count: tl.constexpr, rounds: tl.constexpr):  # type: ignore[no-untyped-def]
        block = tl.program_id(0)
        start = block.to(tl.int64) * (count * rounds)
        total = tl.zeros((count,), tl.int32)
        for n in range(rounds):
            total += tl.load(x + start + n * count + tl.arange(0, count))
        tl.store(out + block, tl.sum(total))

    HAS_TRITON = True
except ImportError:
    HAS_TRITON = False

READ_BYTES = 2 << 30
MATMUL = 8192


def matmul_tflops(burst: Callable[[Callable[[], object]], float], dtype: torch.dtype = torch.bfloat16) -> float:
    """`burst` gives the median time of a function in ms."""
    a, b = (torch.randn(MATMUL, MATMUL, device=DEVICE, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2.0 * MATMUL**3 / 1e12 / (burst(lambda: torch.matmul(a, b, out=out)) / 1e3)


def read_gbps(burst: Callable[[Callable[[], object]], float]) -> float:
    """The best of several ways to read 2 GiB."""
    x = torch.ones(READ_BYTES // 4, device=DEVICE, dtype=torch.int32)
    ways: list[Callable[[], object]] = [lambda: torch.amax(x)]
    if HAS_TRITON:
        for count, rounds in ((2048, 4), (4096, 4), (4096, 16), (8192, 8)):
            blocks = x.numel() // (count * rounds)
            out = torch.empty(blocks, device=DEVICE, dtype=torch.int32)
            ways.append(partial(_read[(blocks,)], x, out, count, rounds, num_warps=8))
    return READ_BYTES / 1e9 / (min(burst(way) for way in ways) / 1e3)

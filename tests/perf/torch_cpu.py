#!/usr/bin/env python3
"""Dense attention on the CPU beside PyTorch's scaled_dot_product_attention, in one process and in turns.

Needs the `attn` package (bindings/python) and PyTorch. Both use the same pinned cores, of different physical cores
where there are enough. Times are medians; GFLOP/s count 4 * heads * queries * keys * channels, half if causal; decoding
counts the bytes of K and V. The cache of decoding lies as PyTorch wants it, [head, key, channel], unless said.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Callable, NamedTuple


class Case(NamedTuple):
    name: str
    queries: int
    keys: int
    heads_q: int
    heads_k: int
    dim: int
    causal: bool
    interleaved: bool = False  # the cache is [key, head, channel]

    @property
    def decodes(self) -> bool:
        return self.queries == 1


def prefill(tokens: int, heads: int, dim: int, causal: bool) -> Case:
    name = f"s{tokens} h{heads} d{dim} {'causal' if causal else 'full'}"
    return Case(name, tokens, tokens, heads, heads, dim, causal)


CASES = [
    prefill(2048, 8, 128, False),
    prefill(2048, 8, 128, True),
    prefill(8192, 2, 128, False),
    prefill(2048, 8, 64, False),
    prefill(512, 16, 64, True),
    Case("decode 32768 h32/8 d128", 1, 32768, 32, 8, 128, False),
    Case("decode 32768 h32/8 d128 [key, head]", 1, 32768, 32, 8, 128, False, True),
    Case("decode 32768 h8/8 d128", 1, 32768, 8, 8, 128, False),
    Case("decode 32768 h64/8 d128", 1, 32768, 64, 8, 128, False),
]


def distinct_cores(count: int) -> list[int]:
    """Processors of this process, of different cores first."""
    allowed = sorted(os.sched_getaffinity(0))
    first: dict[str, int] = {}
    for cpu in allowed:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        first.setdefault(path.read_text() if path.exists() else str(cpu), cpu)
    cores = list(first.values()) + [cpu for cpu in allowed if cpu not in first.values()]
    return sorted(cores[:count])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=11)
    parser.add_argument("--isa", default="", help="values of ATTN_CPU_ISA to compare, by commas; default: the best")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--cores", default="", help="processors to use, by commas; default: of distinct cores")
    parser.add_argument("--filter", default="", help="only cases whose name contains this")
    options = parser.parse_args()

    cores = [int(c) for c in options.cores.split(",")] if options.cores else distinct_cores(options.threads)
    os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import attn  # after pinning: threads inherit it
    import torch
    import torch.nn.functional as functional

    torch.set_num_threads(options.threads)
    handles: dict[str, attn.Handle] = {}
    for isa in options.isa.split(","):
        os.environ["ATTN_CPU_ISA"] = isa
        try:
            handles[isa or "best"] = attn.Handle(options.threads)
        except attn.Error as error:
            print(f"{isa}: {error}")
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print(f"{model}, processors {cores}, PyTorch {torch.__version__}, {options.repetitions} repetitions")

    def seconds(runs: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
        times: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            run()
        for _ in range(options.repetitions):
            for name, run in runs.items():
                time.sleep(0.1)  # threads of the one before go to sleep
                begin = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - begin)
        return times

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    memory = torch.ones(128 << 20)
    halves = (a.bfloat16(), b.bfloat16())
    ceilings = seconds({"sgemm": lambda: a @ b, "bf16": lambda: halves[0] @ halves[1], "read": lambda: memory.sum()})
    best = {name: min(values) for name, values in ceilings.items()}
    print(
        f"torch 2048^3: sgemm {2 * 2048**3 / best['sgemm'] / 1e9:.0f} GFLOP/s, bf16 {2 * 2048**3 / best['bf16'] / 1e9:.0f}; "
        f"sum of 512 MiB: {memory.numel() * 4 / best['read'] / 1e9:.1f} GB/s"
    )
    del memory

    slowest = 1e9
    for dtype_name in options.dtypes.split(","):
        dtype = getattr(torch, dtype_name)
        for case in CASES:
            if options.filter not in case.name:
                continue
            torch.manual_seed(1)
            q = torch.randn(1, case.heads_q, case.queries, case.dim).to(dtype)
            k = torch.randn(1, case.heads_k, case.keys, case.dim).to(dtype)
            v = torch.randn(1, case.heads_k, case.keys, case.dim).to(dtype)
            if case.interleaved:
                k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (k, v))
            runs: dict[str, Callable[[], object]] = {}
            outs: dict[str, torch.Tensor] = {}
            for name, handle in handles.items():
                plan = attn.Plan(
                    heads_q=case.heads_q, heads_k=case.heads_k, dim_qk=case.dim, max_q=case.queries, max_kv=case.keys,
                    q_dtype=dtype, causal="top_left" if case.causal else None, handle=handle,
                )  # fmt: skip
                out = torch.full((1, case.queries, case.heads_q, case.dim), float("nan"), dtype=dtype)
                views = [x.transpose(1, 2) for x in (q, k, v)]
                runs[name] = lambda plan=plan, views=views, out=out: plan(*views, out=out)
                outs[name] = out
            grouped = case.heads_q != case.heads_k
            runs["torch"] = lambda: functional.scaled_dot_product_attention(
                q, k, v, is_causal=case.causal, enable_gqa=grouped
            )
            times = seconds(runs)
            exact = functional.scaled_dot_product_attention(
                q.double(), k.double(), v.double(), is_causal=case.causal, enable_gqa=grouped
            )
            flops = 4.0 * case.heads_q * case.queries * case.keys * case.dim / (2 if case.causal else 1)
            bytes_read = 2.0 * case.heads_k * case.keys * case.dim * k.element_size()
            work, unit = (bytes_read, "GB/s") if case.decodes else (flops, "GFLOP/s")
            theirs = statistics.median(times["torch"])
            line = f"{dtype_name:9} {case.name:36} torch {work / theirs / 1e9:7.1f} {unit}"
            for name, out in outs.items():
                ours = statistics.median(times[name])
                error = ((out.transpose(1, 2).double() - exact).norm() / exact.norm()).item()
                line += f" | {name} {work / ours / 1e9:7.1f} = {theirs / ours:5.2f} x (error {error:.1e})"
            slowest = min(slowest, theirs / statistics.median(times[next(iter(outs))]))
            print(line, flush=True)
    print(f"slowest against PyTorch: {slowest:.2f} x")
    return 0


if __name__ == "__main__":
    sys.exit(main())

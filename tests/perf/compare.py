#!/usr/bin/env python3
"""libattn on a GPU beside cuDNN, FlashAttention-2 and FlexAttention, in one process and in turns.

Needs PyTorch with CUDA and libattn.so, nothing else. For each row a sample of the results is checked first; then the
libraries take turns, in an order drawn anew for each round, as a burst that heats the GPU slows the next one down:
after a rest of 0.1 s, 5 calls to warm up and 30 that are timed one by one with events. Rows of long calls, where the
power of the GPU is what limits, take as many rounds as fit 3 s.
Quoted are the median and the best. The GPU is kept busy while the calls are enqueued, so times are those of the device;
what a call costs the host is listed apart. Inputs are random normal numbers; decoding rotates through caches of at least
200 MB. "twin" is libattn on a plainer problem, whose rate the row should come near. Beside rates stands the clock of the bursts,
which the GPU lowers at the limit of its power. Ceilings, a bfloat16 matrix product of 8192 and reading 2 GiB, are
measured in the same run, before and after.

Writes compare.csv, compare.md (the table) and compare.svg (the plot) into the folder given by --out.
"""

from __future__ import annotations

import argparse
import csv
import random
import signal
import statistics
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator

import compare_rows
from compare_rows import Row

REST_S = 0.1
WARM_UPS = 5
TIMED = 30
LONG_MS = 2.0  # from which a call counts as long
LONG_ROW_S = 3.0  # that rows of long calls are timed, at least
OURS = ("libattn", "contiguous", "graph", "twin")  # of what is timed; their results lie in inputs.out
PEER_S = 90  # for a peer to get ready: some compile
# Largest errors of a bfloat16 or float16 result: of all sampled rows, and of the worst.
TOLERANCES = {"bfloat16": (4e-3, 1e-2), "float16": (6e-4, 2e-3)}
LIBRARIES = ("build/gpu-bundle/libattn.so.0", "build/release/libattn.so.0", "libattn.so.0")


@dataclass
class Timing:
    """Times of one library on one row, in ms of the device and us of the host."""

    device: list[float]
    host: list[float]
    mhz: list[float] = field(default_factory=list)  # of the multiprocessors, a burst each

    @property
    def median(self) -> float:
        return statistics.median(self.device)

    @property
    def best(self) -> float:
        return min(self.device)


@dataclass
class Result:
    row: Row  # the twin of the row for library "twin"
    library: str
    timing: Timing | None = None
    error: float = 0.0
    worst_row: float = 0.0
    bar: float = 0.0  # in the unit of the row; 0: none
    note: str = ""  # why there is no timing, or what is wrong

    @property
    def rate(self) -> float:
        return self.row.rate(self.timing.median) if self.timing else 0.0

    @property
    def mhz(self) -> float:
        return statistics.median(self.timing.mhz) if self.timing and self.timing.mhz else 0.0


def burst(functions: list[Callable[[], Any]], timed: int = TIMED) -> Timing:
    """One burst. Several functions, on distinct memory, take turns."""
    import compare_clock
    import torch

    time.sleep(REST_S)
    host = []
    for n in range(WARM_UPS):
        begin = time.perf_counter()
        functions[n % len(functions)]()
        host.append(time.perf_counter() - begin)
    torch.cuda.synchronize()
    # Busy for as long as the host will take: about 2 cycles a nanosecond.
    torch.cuda._sleep(int(2e9 * (1.5 * timed * min(host) + 200e-6)))  # type: ignore[no-untyped-call]
    event = partial(torch.cuda.Event, enable_timing=True)
    events = [(event(), event()) for _ in range(timed)]
    host = []
    before = compare_clock.read()
    for n, (start, end) in enumerate(events):
        function = functions[n % len(functions)]
        start.record()
        begin = time.perf_counter()
        function()
        host.append(1e6 * (time.perf_counter() - begin))
        end.record()
    after = compare_clock.read()
    torch.cuda.synchronize()
    mhz = compare_clock.mhz_between(before, after)
    return Timing([start.elapsed_time(end) for start, end in events], host, [mhz] if mhz else [])


def in_turns(libraries: dict[str, list[Callable[[], Any]]], rounds: int, order: random.Random) -> dict[str, Timing]:
    timings = {name: Timing([], []) for name in libraries}
    begin = time.monotonic()
    is_long = False
    while rounds > 0 or (is_long and time.monotonic() - begin < LONG_ROW_S):
        rounds -= 1
        for name in order.sample(list(libraries), len(libraries)):
            one = burst(libraries[name])
            timings[name].device += one.device
            timings[name].host += one.host
            timings[name].mhz += one.mhz
            is_long |= one.median > LONG_MS and name != "graph"
    return timings


def bar_of(row: Row, rates: dict[str, float], ceilings: dict[str, float]) -> float:
    """What the row is held to, in its unit."""
    if row.over_cudnn and "cudnn" in rates:
        return row.over_cudnn * rates["cudnn"]
    if row.bar_tflops:
        return row.bar_tflops * ceilings["matmul"] / compare_rows.BARS_MATMUL_TFLOPS
    if row.of_read:
        return row.of_read * ceilings["read"]
    if row.of_twin and "twin" in rates:
        return row.of_twin * rates["twin"]
    if row.of_peer and row.peers and row.peers[0] in rates:
        return row.of_peer * rates[row.peers[0]]
    return 0.0


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TimeoutError where what is inside takes longer, on the main thread."""

    def stop(signum: int, frame: object) -> None:
        raise TimeoutError(f"not ready after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_row(handle: Any, row: Row, peers: set[str], rounds: int, seed: int, ceilings: dict[str, float]) -> list[Result]:
    import attn_ctypes
    import compare_peers
    import torch

    all_inputs = compare_peers.make_inputs(row, seed)
    twin_inputs = compare_peers.make_inputs(row.twin, seed) if row.twin and "twin" in peers else []
    libraries: dict[str, list[Callable[[], Any]]] = {}
    results: dict[str, Result] = {}
    plan = None
    own = Result(row, "libattn")
    results["libattn"] = own
    try:
        libraries["libattn"], plan = compare_peers.libattn(handle, row, all_inputs, in_pages=row.page_size > 0)
    except attn_ctypes.Error as refusal:
        own.note = f"refused: {refusal}"
    for name in row.peers:
        if name not in peers:
            continue
        mine = all_inputs
        results[name] = Result(row, name)
        if name == "twin":
            assert row.twin
            mine, results[name] = twin_inputs, Result(row.twin, name, note=row.twin.name)
        try:
            with at_most(PEER_S):
                libraries[name] = compare_peers.peer(name, handle, results[name].row, mine)
        except Exception as error:  # a peer that cannot is no failure of ours
            results[name].note = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    for name, functions in list(libraries.items()):
        inputs = (twin_inputs if name == "twin" else all_inputs)[0]
        try:
            with at_most(PEER_S):
                out = functions[0]()
                torch.cuda.synchronize()
            # PyTorch's result has tokens and heads exchanged.
            out = inputs.out if name in OURS else out.transpose(1, 2)
            result = results[name]
            result.error, result.worst_row = compare_peers.sampled_error(result.row, inputs, out, seed)
            inputs.out.fill_(float("nan"))
        except Exception as error:
            if name == "libattn":
                raise
            results[name].note = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            del libraries[name]
    wrong: set[str] = set()
    for name in OURS:
        if name not in libraries:
            continue
        r, (most, most_row) = results[name], TOLERANCES[results[name].row.dtype]
        if not (r.error <= most and r.worst_row <= most_row):
            errors = f"error {r.error:.1e} (at most {most:.0e}), worst row {r.worst_row:.1e} ({most_row:.0e})"
            own.note = "; ".join(filter(None, (f"WRONG ({name}): {errors}", own.note)))
            wrong.add(name)
    for name, timing in in_turns(libraries, rounds, random.Random(seed)).items():
        calls = compare_peers.graph_calls(row, len(all_inputs)) if name == "graph" else 1
        device, host = [ms / calls for ms in timing.device], [us / calls for us in timing.host]
        results[name].timing = Timing(device, host, timing.mhz)
    own.bar = bar_of(row, {name: r.rate for name, r in results.items() if r.timing and name not in wrong}, ceilings)
    del plan, libraries
    for inputs in all_inputs + twin_inputs:
        inputs.keep.clear()
    return list(results.values())


def say(results: list[Result], ceilings: dict[str, float]) -> str:
    """One line for the terminal."""
    own, row = results[0], results[0].row
    ceiling = ceilings["read" if row.decodes else "matmul"]
    line = f"{row.name:46}"
    if own.timing:
        line += (
            f" libattn {own.timing.median:8.4f} ms {own.rate:7.1f} {row.unit} ({own.rate / ceiling:.2f} of ceiling, best"
            f" {row.rate(own.timing.best):.1f}, host {statistics.median(own.timing.host):.0f} us, error {own.error:.1e})"
        )
        if own.mhz and not row.decodes:
            line += f" | {own.mhz:.0f} MHz"
        if own.bar:
            line += f" | bar {own.bar:.1f}: {own.rate / own.bar:.3f} x"
    for peer in results[1:]:
        if peer.timing and peer.library == "graph":
            line += f" | in a graph {1e3 * peer.timing.median:.1f} us, {peer.rate / ceiling:.3f} of ceiling"
        elif peer.timing:
            ratio = f" = {own.rate / peer.rate:.3f} x" if own.timing else ""
            clock = f" at {peer.mhz:.0f} MHz" if peer.mhz and not row.decodes else ""
            line += f" | {peer.library} {peer.rate:.1f}{clock}{ratio}"
        else:
            line += f" | {peer.library}: {peer.note}"
    return line + (f" | {own.note}" if own.note else "")


def write_csv(path: Path, all_results: list[list[Result]], facts: list[str]) -> None:
    with path.open("w", newline="") as file:
        for fact in facts:
            file.write(f"# {fact}\n")
        writer = csv.writer(file)
        writer.writerow(
            "row group library unit median best median_ms best_ms host_us mhz error worst_row bar note".split()
        )
        for results in all_results:
            for r in results:
                numbers = [""] * 6
                if r.timing:
                    numbers = [
                        f"{r.rate:.2f}",
                        f"{r.row.rate(r.timing.best):.2f}",
                        f"{r.timing.median:.5f}",
                        f"{r.timing.best:.5f}",
                        f"{statistics.median(r.timing.host):.1f}",
                        f"{r.mhz:.0f}" if r.mhz else "",
                    ]
                bar = f"{r.bar:.2f}" if r.bar else ""
                errors = [f"{r.error:.2e}", f"{r.worst_row:.2e}"]
                writer.writerow([results[0].row.name, r.row.group, r.library, r.row.unit, *numbers, *errors, bar, r.note])


def write_markdown(path: Path, all_results: list[list[Result]], facts: list[str]) -> None:
    lines = [*facts, ""]
    for group in dict.fromkeys(results[0].row.group for results in all_results):
        chosen = [results for results in all_results if results[0].row.group == group]
        peers = list(dict.fromkeys(peer.library for results in chosen for peer in results[1:]))
        lines.append("| row | libattn | to its bar | " + " | ".join(f"{p}, ratio" for p in peers) + " |")
        lines.append("|---" * (3 + len(peers)) + "|")
        for results in chosen:
            own = results[0]
            cells = [own.row.name, f"{own.rate:.1f} {own.row.unit}" if own.timing else own.note]
            cells.append(f"{own.rate / own.bar:.2f}" if own.bar and own.timing else "–")
            for name in peers:
                found = [peer for peer in results[1:] if peer.library == name and peer.timing]
                cells.append(
                    f"{found[0].rate:.1f}" + (f", {own.rate / found[0].rate:.2f}" if own.timing else "") if found else "–"
                )
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    path.write_text("\n".join(lines))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only rows whose name contains one of these, by commas")
    parser.add_argument("--group", default="", help="only these groups, by commas: dense, half, more, decode, page, mask")
    parser.add_argument("--peers", default="cudnn,fa2,flex,contiguous,graph,twin", help="which to compare with, by commas")
    parser.add_argument("--quick", action="store_true", help="few rows, one round")
    parser.add_argument("--rounds", type=int, default=0, help="bursts of each library on a row, at least (2)")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds after which no new row begins")
    parser.add_argument("--library", default="", help="libattn.so; default: the bundle's, the build's, the system's")
    parser.add_argument("--no-compile", action="store_true", help="kernels of packs and caches only")
    parser.add_argument("--out", type=Path, default=Path("build/compare"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--describe", action="store_true", help="print the kernel of each plan, and time nothing")
    parser.add_argument("--dry-run", action="store_true", help="list the rows and their work; needs no GPU")
    options = parser.parse_args()
    begin = time.monotonic()

    names, groups = options.only.split(","), options.group.split(",")
    rows = [
        row
        for row in compare_rows.all_rows()
        if any(name in row.name for name in names)
        and (not options.group or row.group in groups)
        and (not options.quick or row.quick)
    ]
    if not rows:
        print("no row has such a name")
        return 2
    if options.dry_run:
        for row in rows:
            work = f"{row.bytes() / 1e9:8.3f} GB" if row.decodes else f"{row.flops() / 1e12:8.3f} TFLOP"
            print(f"{row.group:7} {row.name:46} {work:15} {', '.join(row.peers)}")
        return 0

    import attn_ctypes
    import compare_ceilings
    import compare_plot
    import torch

    paths = [options.library] if options.library else [p for p in LIBRARIES if Path(p).exists() or "/" not in p]
    library = attn_ctypes.Library(str(Path(paths[0]).resolve()) if "/" in paths[0] else paths[0])
    device = {"cuda": attn_ctypes.DEVICE_CUDA, "cpu": attn_ctypes.DEVICE_CPU}[compare_rows.DEVICE]
    handle = attn_ctypes.Handle(library, device, flags=attn_ctypes.NO_COMPILE if options.no_compile else 0)
    if options.describe:
        import compare_peers

        for row in rows:
            try:
                _, plan = compare_peers.libattn(handle, row, compare_peers.make_inputs(row, 1)[:1], row.page_size > 0)
                print(f"{row.name}: {plan.describe()}")
            except attn_ctypes.Error as refusal:
                print(f"{row.name}: refused: {refusal}")
        return 0

    def median_of(function: Callable[[], object]) -> float:
        return burst([function]).median

    def measure_ceilings() -> dict[str, float]:
        return {
            "matmul": compare_ceilings.matmul_tflops(median_of),
            "matmul fp16": compare_ceilings.matmul_tflops(median_of, torch.float16),
            "read": compare_ceilings.read_gbps(median_of),
        }

    def say_ceilings(ceilings: dict[str, float]) -> str:
        return (
            f"matrix product {ceilings['matmul']:.0f} TFLOP/s ({ceilings['matmul fp16']:.0f} in float16), "
            f"reading {ceilings['read']:.0f} GB/s"
        )

    properties = library.device(device, 0)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    facts = [
        f"{properties.name.decode()} ({properties.arch.decode()}, {properties.compute_units} SMs), driver "
        f"{properties.driver_version // 1000}.{properties.driver_version % 1000 // 10}",
        f"libattn {library.version()}, PyTorch {torch.__version__}, cuDNN {cudnn}, "
        f"{time.strftime('%Y-%m-%d %H:%M')} UTC, seed {options.seed}",
    ]
    ceilings = measure_ceilings()
    facts.append(f"ceilings: {say_ceilings(ceilings)}")
    print("\n".join(facts), flush=True)

    rounds = options.rounds or (1 if options.quick else 2)
    all_results: list[list[Result]] = []
    skipped = []
    for row in rows:
        if time.monotonic() - begin > options.budget:
            skipped.append(row.name)
            continue
        print(f"{row.name} ...", end="\r", file=sys.stderr, flush=True)
        results = run_row(handle, row, set(options.peers.split(",")), rounds, options.seed, ceilings)
        all_results.append(results)
        print(say(results, ceilings), flush=True)
        torch.cuda.empty_cache()
    after = measure_ceilings()
    facts.append(f"at the end: {say_ceilings(after)}")
    print(facts[-1])
    if skipped:
        print(f"out of time ({options.budget:.0f} s), not measured: {', '.join(skipped)}")
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "compare.csv", all_results, facts)
    write_markdown(options.out / "compare.md", all_results, facts)
    compare_plot.write_svg(options.out / "compare.csv", options.out / "compare.svg")
    wrong = [results[0].row.name for results in all_results if "WRONG" in results[0].note]
    refused = [results[0].row.name for results in all_results if "refused" in results[0].note]
    below = [r[0].row.name for r in all_results if r[0].timing and r[0].bar and r[0].rate < r[0].bar]
    print(
        f"{len(all_results)} rows: {len(wrong)} wrong, {len(refused)} refused, {len(below)} below their bar; in {options.out}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

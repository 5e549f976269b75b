"""What compare.py measures: the rows, how much work each is, and the bar it is held to.

Bars of dense rows are those of gpu_bars.csv, measured on one H200 (see docs/performance.md): the better of
FlashAttention-3 and cuDNN, where both were timed as a multiple of cuDNN, which is at hand to repeat. Bars of decoding are
fractions of the read bandwidth of the card.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

DEVICE = "cuda"
BARS = Path(__file__).with_name("gpu_bars.csv")
# Ceilings of the card and the run that the bars are of.
BARS_MATMUL_TFLOPS = 807.0
BARS_READ_GBPS = 4521.0
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class Row:
    name: str
    group: str  # dense, half, more, decode, page, mask
    batch: int
    queries: int
    keys: int
    heads_q: int
    heads_k: int
    dim: int
    dim_v: int = 0  # channels of V and OUT; 0: dim
    lengths: tuple[int, ...] = ()  # of packed sequences; queries and keys are then the longest
    dtype: str = "bfloat16"
    values: str = ""  # the type that holds the values of the inputs, if not dtype: others cost the card more power
    causal: bool = False
    window: int = 0  # keys that a query sees up to itself; 0: all
    sinks: int = 0  # first keys, seen whatever the window
    softcap: float = 0.0
    alibi: bool = False
    page_size: int = 0
    peers: tuple[str, ...] = ()
    over_cudnn: float = 0.0  # bar: times what cuDNN reaches in the same run
    bar_tflops: float = 0.0  # bar, where cuDNN was not timed; of a card with BARS_MATMUL_TFLOPS
    of_read: float = 0.0  # bar: of the read bandwidth of the same run
    of_peer: float = 0.0  # bar: times what the first peer reaches
    twin: Row | None = None  # a plainer problem, which libattn is timed on, too: peer "twin"
    of_twin: float = 0.0  # bar: times what libattn reaches on the twin
    quick: bool = False  # part of --quick

    @property
    def decodes(self) -> bool:
        return self.queries == 1

    @property
    def unit(self) -> str:
        return "GB/s" if self.decodes else "TFLOP/s"

    @property
    def value_dim(self) -> int:
        return self.dim_v or self.dim

    def visible_pairs(self) -> int:
        """Pairs of query and key that see each other, of one head of one sequence, or of all that are packed. Causal rows
        are square."""
        if self.lengths:
            return sum(length * length for length in self.lengths) // (2 if self.causal else 1)
        if not self.causal:
            return self.queries * self.keys
        pairs = 0
        for i in (range(self.queries)) if self.window else ():
            near = min(self.window, i + 1)
            pairs += near + min(self.sinks, i + 1 - near)
        return pairs if self.window else self.queries * self.keys // 2

    def flops(self) -> float:
        sequences = 1 if self.lengths else self.batch
        return 2.0 * sequences * self.heads_q * (self.dim + self.value_dim) * self.visible_pairs()

    def bytes(self) -> float:
        """Of K and V, which is what decoding reads, and of Q and OUT."""
        keys = 1.0 * self.batch * self.keys * self.heads_k * (self.dim + self.value_dim)
        queries = 1.0 * self.batch * self.queries * self.heads_q * (self.dim + self.value_dim)
        return (keys + queries) * BYTES[self.dtype]

    def rate(self, ms: float) -> float:
        work = self.bytes() / 1e9 if self.decodes else self.flops() / 1e12
        return work / (ms / 1e3)


def dense_rows() -> list[Row]:
    """The forward rows of gpu_bars.csv whose dtype libattn has."""
    dtypes = {"bf16": "bfloat16", "fp16": "float16"}
    rows = []
    with BARS.open() as file:
        for line in csv.DictReader(file):
            if line["direction"] != "fwd" or line["dtype"] not in dtypes:
                continue
            dim, tokens = int(line["d"]), int(line["seq"])
            heads_q, heads_k, batch = int(line["heads_q"]), int(line["heads_kv"]), int(line["batch"])
            causal = line["mask"] == "causal"
            heads = f"h{heads_q}" if heads_q == heads_k else f"h{heads_q}/{heads_k}"
            rows.append(
                Row(
                    f"d{dim} {heads} b{batch} s{tokens} {line['mask']}",
                    "dense",
                    batch,
                    tokens,
                    tokens,
                    heads_q,
                    heads_k,
                    dim,
                    dtype=dtypes[line["dtype"]],
                    causal=causal,
                    peers=("cudnn", "fa2"),
                    over_cudnn=float(line["bar_over_cudnn"] or 0),
                    bar_tflops=float(line["bar_tflops"] or 0),
                    quick=dim in (64, 128) and tokens in (2048, 8192) and heads_q == heads_k,
                )
            )
    return rows


def half_rows() -> list[Row]:
    """The bfloat16 rows of dense_rows() in float16, each beside itself in bfloat16."""
    rows = []
    for row in dense_rows():
        if row.dtype == "bfloat16":
            named = replace(row, name=f"fp16 {row.name}", group="half", dtype="float16", over_cudnn=0.0, bar_tflops=0.0)
            rows.append(replace(named, peers=("cudnn", "twin"), twin=row, of_twin=0.98, quick=False))
    return rows


def more_rows() -> list[Row]:
    """What is compared with plainer rows of the same work: float16, heads in groups, sequences of mixed lengths; and MLA."""

    def row(name: str, batch: int, tokens: int, heads: tuple[int, int], causal: bool, **more: object) -> Row:
        label = f"{name} b{batch} s{tokens} {'causal' if causal else 'full'}"
        return Row(label, "more", batch, tokens, tokens, *heads, peers=("cudnn",), causal=causal, **more)  # type: ignore[arg-type] # fmt: skip

    rows = []
    for causal in (False, True):
        for batch, tokens in ((8, 2048), (2, 8192)):
            plain = row("d128 h16", batch, tokens, (16, 16), causal, dim=128)
            half = row("fp16 d128 h16", batch, tokens, (16, 16), causal, dim=128, dtype="float16")
            half = replace(half, peers=("cudnn", "twin"), twin=plain, of_twin=0.98)
            same = f"fp16 of bf16 values d128 h16 b{batch} s{tokens} {'causal' if causal else 'full'}"
            rows += [half, replace(half, name=same, values="bfloat16")]
            ungrouped = row("d128 h32", batch, tokens, (32, 32), causal, dim=128)
            grouped = row("d128 h32/8", batch, tokens, (32, 8), causal, dim=128)
            rows += [ungrouped, replace(grouped, peers=("cudnn", "twin"), twin=ungrouped, of_twin=0.97)]
    rows.append(row("MLA d192/128 h128", 1, 8192, (128, 128), True, dim=192, dim_v=128, over_cudnn=1.1))
    mixed = tuple(2**n for n in range(13, 5, -1)) * 2 + (128,)
    for causal in (False, True):
        twin = None
        for name, lengths in (("8 x 4096", (4096,) * 8), ("64 .. 8192", mixed)):
            label = f"packed {name} d128 h16 {'causal' if causal else 'full'}"
            longest = max(lengths)
            one = Row(label, "more", len(lengths), longest, longest, 16, 16, 128, lengths=lengths, causal=causal)
            rows.append(replace(one, peers=("twin",), twin=twin, of_twin=0.9) if twin else one)
            twin = one
    return rows


def decode_rows() -> list[Row]:
    """One query a sequence, 32 query heads on 8 key heads; then without groups, and in pages."""
    rows = []
    goals = {(32, 8192): 4340.0, (128, 4096): 4400.0, (1, 131072): 4250.0, (1, 8192): 2097.0, (1, 1024): 0.0}
    for (batch, keys), goal in goals.items():
        rows.append(
            Row(
                f"decode h32/8 b{batch} k{keys}",
                "decode",
                batch,
                1,
                keys,
                32,
                8,
                128,
                peers=("cudnn", "fa2", "graph"),
                of_read=goal / BARS_READ_GBPS,
                quick=True,
            )
        )
    rows.append(Row("decode h32 b8 k8192", "decode", 8, 1, 8192, 32, 32, 128, peers=("cudnn", "fa2")))
    rows.append(Row("decode h64/1 b32 k8192", "decode", 32, 1, 8192, 64, 1, 128, peers=("cudnn", "fa2", "graph")))
    rows.append(Row("decode h32/8 d64 b32 k8192", "decode", 32, 1, 8192, 32, 8, 64, peers=("cudnn", "fa2")))
    for batch, keys in ((32, 8192), (128, 4096)):
        for page, share in ((16, 0.95), (64, 0.95), (1, 0.75)):
            rows.append(
                Row(
                    f"decode h32/8 b{batch} k{keys} pages of {page}",
                    "page",
                    batch,
                    1,
                    keys,
                    32,
                    8,
                    128,
                    page_size=page,
                    peers=("contiguous",),
                    of_peer=share,
                    quick=page != 64 and batch == 32,
                )
            )
    return rows


def mask_rows() -> list[Row]:
    def row(name: str, tokens: int, **more: object) -> Row:
        return Row(f"{name} s{tokens}", "mask", 1, tokens, tokens, 16, 16, 128, causal=True, peers=("flex",), of_peer=1.0,
                   **more)  # type: ignore[arg-type] # fmt: skip

    return [
        row("causal", 16384),
        row("window 1024 causal", 32768, window=1024, quick=True),
        row("4 sinks + window 1024 causal", 32768, window=1024, sinks=4),
        row("softcap 30 causal", 16384, softcap=30.0, quick=True),
        row("ALiBi causal", 16384, alibi=True, quick=True),
    ]


def all_rows() -> list[Row]:
    return dense_rows() + more_rows() + decode_rows() + mask_rows() + half_rows()

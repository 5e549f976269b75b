"""Attention by libattn and by what PyTorch has, on the same tensors: for each, functions that enqueue one call.

Tensors lie as [batch, token, head, channel] in memory; PyTorch gets views of them with tokens and heads exchanged.
Decoding rotates through several caches, so that none is found in the L2 cache.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Callable

# Read when torch is imported. With workers of its own FlexAttention takes minutes to get ready on some machines.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import torch
import torch.nn.functional as functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from attn_ctypes import BOTTOM_RIGHT, DTYPES, WINDOW_LEFT, Call, DensePlan, Handle
from compare_rows import DEVICE, Row

ROTATED_BYTES = 200e6
MOST_SETS = 64
GRAPH_S = 6e-3  # about as long as a graph of calls takes

Function = Callable[[], Any]


@dataclass
class Inputs:
    """One set of tensors of a row, and where libattn puts its result."""

    q: torch.Tensor
    k: torch.Tensor  # [batch, token, head, channel]
    v: torch.Tensor
    out: torch.Tensor
    k_pages: torch.Tensor | None = None  # [page, row, head, channel]
    v_pages: torch.Tensor | None = None
    table: torch.Tensor | None = None
    slopes: torch.Tensor | None = None
    ends: torch.Tensor | None = None  # of packed sequences, after a 0
    keep: list[Any] = field(default_factory=list)  # what calls refer to


def make_inputs(row: Row, seed: int) -> list[Inputs]:
    torch.manual_seed(seed)
    dtype = getattr(torch, row.dtype)
    values = getattr(torch, row.values or row.dtype)
    sets = 1
    if row.decodes:
        sets = min(MOST_SETS, 1 + math.ceil(ROTATED_BYTES / row.bytes()))
    all_inputs = []
    for _ in range(sets):
        tokens_q = (1, sum(row.lengths)) if row.lengths else (row.batch, row.queries)
        tokens_k = tokens_q if row.lengths else (row.batch, row.keys)
        q = torch.randn((*tokens_q, row.heads_q, row.dim), device=DEVICE).to(values).to(dtype)
        k, v = (
            torch.randn((*tokens_k, row.heads_k, dim), device=DEVICE, dtype=values).to(dtype)
            for dim in (row.dim, row.value_dim)
        )
        out = torch.full((*tokens_q, row.heads_q, row.value_dim), math.nan, device=DEVICE, dtype=dtype)
        inputs = Inputs(q, k, v, out)
        if row.lengths:
            ends = torch.tensor((0, *row.lengths), device=DEVICE).cumsum(0)
            inputs.ends = ends.to(torch.int32)
        if row.page_size:
            inputs.k_pages, inputs.v_pages, inputs.table = paged(row, k, v)
        if row.alibi:
            inputs.slopes = torch.pow(2.0, -8.0 * torch.arange(1, row.heads_q + 1, device=DEVICE) / row.heads_q).float()
        all_inputs.append(inputs)
    return all_inputs


def paged(row: Row, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same keys in pages of a pool, in random order."""
    per = row.keys // row.page_size
    order = torch.randperm(row.batch * per, device=DEVICE)
    shape = (row.batch * per, row.page_size, row.heads_k, row.dim)
    pools = []
    for x in (k, v):
        pool = torch.empty_like(x).view(shape)
        pool[order] = x.view(shape)
        pools.append(pool)
    return pools[0], pools[1], order.to(torch.int32).view(row.batch, per).contiguous()


def view(slot: str, x: torch.Tensor) -> tuple[str, int, str, tuple[int, ...], tuple[int, ...]]:
    return slot, x.data_ptr(), str(x.dtype).removeprefix("torch."), tuple(x.shape), tuple(x.stride())


def libattn(handle: Handle, row: Row, all_inputs: list[Inputs], in_pages: bool) -> tuple[list[Function], DensePlan]:
    problem = dict(
        q_dtype=DTYPES[row.dtype],
        batch=row.batch,
        heads_q=row.heads_q,
        heads_k=row.heads_k,
        dim_qk=row.dim,
        dim_v=row.dim_v,
        total_q=sum(row.lengths),
        total_kv=sum(row.lengths),
        max_q=row.queries,
        max_kv=row.keys,
        page_size=row.page_size if in_pages else 0,
    )
    dense: dict[str, Any] = dict(softcap=row.softcap)
    if row.causal:
        dense["causal"] = BOTTOM_RIGHT
    if row.window:
        dense.update(flags=WINDOW_LEFT, window_left=row.window - 1, sink_tokens=row.sinks)
    binds = ["ALIBI_SLOPES"] if row.alibi else []
    if row.lengths:
        binds += ["CU_SEQLENS_Q", "CU_SEQLENS_KV"]
    plan = DensePlan(handle, problem, dense, binds)
    memory = torch.empty(plan.workspace_bytes + plan.workspace_alignment, device=DEVICE, dtype=torch.uint8)
    workspace = -(-memory.data_ptr() // plan.workspace_alignment) * plan.workspace_alignment
    stream = torch.cuda.current_stream().cuda_stream
    calls: list[Function] = []
    for inputs in all_inputs:
        views = [view("Q", inputs.q), view("OUT", inputs.out)]
        if inputs.ends is not None:
            views = [view("Q", inputs.q[0]), view("OUT", inputs.out[0])]
            views += [view("K", inputs.k[0]), view("V", inputs.v[0])]
            views += [view("CU_SEQLENS_Q", inputs.ends), view("CU_SEQLENS_KV", inputs.ends)]
        elif in_pages:
            assert inputs.k_pages is not None and inputs.v_pages is not None and inputs.table is not None
            views += [view("K", inputs.k_pages), view("V", inputs.v_pages), view("BLOCK_TABLE", inputs.table)]
        else:
            views += [view("K", inputs.k), view("V", inputs.v)]
        if inputs.slopes is not None:
            views.append(view("ALIBI_SLOPES", inputs.slopes))
        call = Call(plan, views, workspace)
        inputs.keep += [memory, call]
        calls.append(partial(call, stream))
    return calls, plan


def graph_calls(row: Row, sets: int) -> int:
    """How many calls a graph has: each set of tensors as often as the others."""
    one = row.bytes() / 4.4e12 + 5e-6
    return sets * math.ceil(GRAPH_S / one / sets)


def in_a_graph(handle: Handle, row: Row, all_inputs: list[Inputs]) -> list[Function]:
    """libattn itself, graph_calls() of its calls as one graph: replayed, it takes the time of the GPU alone."""
    calls, _ = libattn(handle, row, all_inputs, in_pages=row.page_size > 0)
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):  # type: ignore[no-untyped-call]
        for n in range(graph_calls(row, len(all_inputs))):
            call = calls[n % len(calls)]
            assert isinstance(call, partial)
            call.func(stream.cuda_stream)
    all_inputs[0].keep += [graph, stream]
    return [graph.replay]


def sdpa(backend: SDPBackend, row: Row, all_inputs: list[Inputs]) -> list[Function]:
    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(backend):
            return functional.scaled_dot_product_attention(
                q, k, v, is_causal=row.causal, enable_gqa=row.heads_q != row.heads_k
            )

    functions: list[Function] = []
    for inputs in all_inputs:
        q, k, v = (x.transpose(1, 2) for x in (inputs.q, inputs.k, inputs.v))
        functions.append(partial(run, q, k, v))
    return functions


def flex(row: Row, all_inputs: list[Inputs]) -> list[Function]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def mask(b: Any, h: Any, i: Any, j: Any) -> Any:
        seen = i >= j
        if row.window:
            near = i - j < row.window
            seen = seen & ((near | (j < row.sinks)) if row.sinks else near)
        return seen

    score = None
    if row.softcap:

        def score(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:  # noqa: F811
            return row.softcap * torch.tanh(s / row.softcap)

    elif row.alibi:
        slopes = all_inputs[0].slopes
        assert slopes is not None

        def score(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:  # noqa: F811
            return s + slopes[h] * (j - i)

    block_mask = create_block_mask(mask, None, None, row.queries, row.keys, device=DEVICE, _compile=True)
    compiled = torch.compile(flex_attention, dynamic=False)
    functions: list[Function] = []
    for inputs in all_inputs:
        q, k, v = (x.transpose(1, 2) for x in (inputs.q, inputs.k, inputs.v))
        grouped = row.heads_q != row.heads_k
        functions.append(partial(compiled, q, k, v, score_mod=score, block_mask=block_mask, enable_gqa=grouped))
    return functions


def peer(name: str, handle: Handle, row: Row, all_inputs: list[Inputs]) -> list[Function]:
    if name == "cudnn":
        return sdpa(SDPBackend.CUDNN_ATTENTION, row, all_inputs)
    if name == "fa2":
        return sdpa(SDPBackend.FLASH_ATTENTION, row, all_inputs)
    if name == "flex":
        return flex(row, all_inputs)
    if name in ("contiguous", "twin"):  # libattn itself, on the same keys without pages, or on another row
        return libattn(handle, row, all_inputs, in_pages=False)[0]
    if name == "graph":
        return in_a_graph(handle, row, all_inputs)
    raise ValueError(f"no peer {name}")


def sampled_error(row: Row, inputs: Inputs, out: torch.Tensor, seed: int) -> tuple[float, float]:
    """Error of a sample of rows against fp64: of all of them together, and of the worst. `out` lies as inputs.out."""
    if inputs.ends is not None:
        return packed_error(row, inputs, out, seed)
    generator = torch.Generator().manual_seed(seed)

    def some(count: int, most: int) -> list[int]:
        chosen = torch.randint(0, count, (most,), generator=generator).tolist()
        return sorted({0, count - 1, *chosen})

    rows = torch.tensor(some(row.queries, 40), device=DEVICE)
    difference = norm = worst = 0.0
    for b in some(row.batch, 1)[:3]:
        for h in some(row.heads_q, 2):
            group = h * row.heads_k // row.heads_q
            q = inputs.q[b, rows, h].double()
            k, v = inputs.k[b, :, group].double(), inputs.v[b, :, group].double()
            s = q @ k.T / math.sqrt(row.dim)
            if row.softcap:
                s = row.softcap * torch.tanh(s / row.softcap)
            keys = torch.arange(row.keys, device=DEVICE)
            level = rows[:, None] + row.keys - row.queries
            if inputs.slopes is not None:
                s = s - inputs.slopes[h].double() * (keys[None, :] - level).abs()
            if row.causal:
                seen = keys[None, :] <= level
                if row.window:
                    seen &= (level - keys[None, :] < row.window) | (keys[None, :] < row.sinks)
                s = s.masked_fill(~seen, -math.inf)
            reference = torch.softmax(s, dim=-1) @ v
            error = (out[b, rows, h].double() - reference).square().sum(-1)
            size = reference.square().sum(-1)
            difference, norm = difference + error.sum().item(), norm + size.sum().item()
            worst = max(worst, (error / size).max().sqrt().item())
    return math.sqrt(difference / norm), worst


def packed_error(row: Row, inputs: Inputs, out: torch.Tensor, seed: int) -> tuple[float, float]:
    """The same for packed sequences: each is a row of its own."""
    assert inputs.ends is not None
    ends = inputs.ends.tolist()
    errors = []
    for begin, end in {(0, ends[1]), (ends[-2], ends[-1]), *zip(ends[:-1:5], ends[1::5])}:
        one = replace(row, batch=1, queries=end - begin, keys=end - begin, lengths=())
        q, k, v, part = (x[:, begin:end] for x in (inputs.q, inputs.k, inputs.v, out))
        errors.append(sampled_error(one, Inputs(q, k, v, part), part, seed))
    return max(error for error, _ in errors), max(worst for _, worst in errors)

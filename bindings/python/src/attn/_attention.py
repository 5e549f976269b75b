"""`attention`: dense attention in one call, with its plan kept for the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Optional, TypeVar, Union, overload

from . import _core
from ._arrays import ArrayLike, SupportsDLPack
from ._geometry import DENSE_AXES, Geometry
from ._handle import Handle, default_handle
from ._options import (
    Activation,
    Alignment,
    BiasLookup,
    BiasStage,
    DenseOptions,
    Flag,
    GateKind,
    Layout,
    Options,
    Precision,
    Window,
    round_up,
    size,
)
from ._plan import OUTPUTS, DenseInputs, DenseOutputs, Output, Plan, longest_of, output_names, spread
from ._where import where_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .mask import Mask

A = TypeVar("A", bound=SupportsDLPack)


class _Arguments(DenseOptions, DenseInputs, DenseOutputs, total=False):
    dim_v: Optional[int]
    max_seqlen_q: Optional[int]
    max_seqlen_kv: Optional[int]
    handle: Optional[Handle]
    stream: Any


@overload
def attention(
    q: A,
    k: ArrayLike,
    v: Optional[ArrayLike] = ...,
    *,
    return_lse: Literal[False] = ...,
    out: Optional[A] = ...,
    **arguments: Unpack[_Arguments],
) -> A: ...
@overload
def attention(
    q: A,
    k: ArrayLike,
    v: Optional[ArrayLike] = ...,
    *,
    return_lse: Literal[True],
    out: Optional[A] = ...,
    **arguments: Unpack[_Arguments],
) -> tuple[A, A]: ...
@overload
def attention(
    q: A,
    k: ArrayLike,
    v: Optional[ArrayLike] = ...,
    *,
    outputs: Sequence[Output],
    out: Optional[A] = ...,
    **arguments: Unpack[_Arguments],
) -> tuple[A, ...]: ...
def attention(
    q: Any,
    k: ArrayLike,
    v: Optional[ArrayLike] = None,
    *,
    causal: Optional[Alignment] = None,
    align: Optional[Alignment] = None,
    window: Optional[Window] = None,
    sink_tokens: int = 0,
    mask: Optional[Mask] = None,
    scale: Optional[float] = None,
    softcap: Optional[float] = None,
    activation: Activation = "softmax",
    activation_bias: float = 0.0,
    activation_length: Optional[int] = None,
    bias_stage: BiasStage = "post_softcap",
    bias_lookup: Optional[BiasLookup] = None,
    gate_kind: GateKind = "sigmoid",
    precision: Precision = "full",
    flags: Iterable[Flag] = (),
    layout: Layout = "bshd",
    dim_v: Optional[int] = None,
    cu_seqlens_q: Optional[ArrayLike] = None,
    cu_seqlens_kv: Optional[ArrayLike] = None,
    max_seqlen_q: Optional[int] = None,
    max_seqlen_kv: Optional[int] = None,
    seqlens_q: Optional[ArrayLike] = None,
    seqlens_kv: Optional[ArrayLike] = None,
    block_table: Optional[ArrayLike] = None,
    block_table_ptr: Optional[ArrayLike] = None,
    positions_q: Optional[ArrayLike] = None,
    positions_kv: Optional[ArrayLike] = None,
    ids_q: Union[ArrayLike, Mapping[int, ArrayLike], None] = None,
    ids_kv: Union[ArrayLike, Mapping[int, ArrayLike], None] = None,
    q_temperature: Optional[ArrayLike] = None,
    v_temperature: Optional[ArrayLike] = None,
    bias: Optional[ArrayLike] = None,
    alibi_slopes: Optional[ArrayLike] = None,
    bias_table: Optional[ArrayLike] = None,
    bias_lowrank_q: Optional[ArrayLike] = None,
    bias_lowrank_k: Optional[ArrayLike] = None,
    sink_logits: Optional[ArrayLike] = None,
    gate: Optional[ArrayLike] = None,
    head_weight: Optional[ArrayLike] = None,
    return_lse: bool = False,
    outputs: Sequence[Output] = (),
    out: Any = None,
    lse: Any = None,
    row_max: Any = None,
    row_entropy: Any = None,
    column_mass: Any = None,
    handle: Optional[Handle] = None,
    stream: Any = None,
) -> Any:
    """Attention: `softmax(scale * q @ k.T, masked) @ v` for every head of every sequence, and its variants.

    Arrays may be anything with the buffer protocol or DLPack (NumPy, PyTorch, CuPy, JAX, ...), all in host memory or
    all on one CUDA device (there `__cuda_array_interface__` serves too), with any strides; they are not copied. B
    sequences, Tq and Tk tokens, Hq, Hk, Hv heads, Ho = max(Hq, Hk, Hv), D channels. Head h of the result uses head
    `h * Hq // Ho` of Q, and K and V likewise.

    The score of a key is `scale * q_temperature * (q . k) + bias_lowrank_q . bias_lowrank_k`, capped by `softcap`, plus
    the biases. `activation` turns the scores of a query's visible keys into weights. The result is the sum of V by
    weight and `v_temperature`, times the gate, times `head_weight`.

    Parameters
    ----------
    q : array
        `[B, Tq, Hq, D]`; float32, float16 or bfloat16.
    k : array
        `[B, Tk, Hk, D]`, or pages of all sequences `[pages, rows, Hk, D]` where `block_table` is given.
    v : array, optional
        `[B, Tk, Hv, Dv]`, or pages. None: the first `dim_v` channels of K (absorbed MLA).
    causal : {"top_left", "bottom_right", "by_position"}, optional
        Query i sees the keys j up to its diagonal: `j <= i`; `j <= i + Tk - Tq` (decoding with a cache);
        `positions_kv[j] <= positions_q[i]`. Default: all keys.
    align : {"top_left", "bottom_right", "by_position"}, optional
        Which key is level with query i, for windows and biases by distance without `causal`.
    window : (left, right), optional
        Keys seen before and after the diagonal key; None is unlimited. The last 1024 keys: `(1023, 0)`.
    sink_tokens : int
        First keys of a sequence that are seen whatever the window.
    mask : attn.mask.Mask, optional
        Further restricts which keys are seen: an expression as `attn.mask.id_eq() & attn.mask.causal("top_left")`.
    scale : float, optional
        Default: `1 / sqrt(D)`.
    softcap : float, optional
        Scores become `softcap * tanh(score / softcap)`.
    activation : {"softmax", "sigmoid", "relu"}
        The weight of a key with score s: `exp(s) / sum`; `1 / (1 + exp(-(s + activation_bias)))`; `max(s, 0) / L`.
    activation_bias : float
        Sigmoid: added to the score.
    activation_length : int, optional
        ReLU: L. Default: the key length of the sequence.
    bias_stage : {"post_softcap", "pre_softcap"}
        Whether `bias`, `alibi_slopes` and `bias_table` join the score after the softcap or before.
    bias_lookup : BiasLookup, optional
        Which entry of `bias_table` a query and a key look up.
    gate_kind : {"sigmoid", "linear", "silu"}
        What multiplies the result where `gate` is g: `sigmoid(g)`, `g`, `g * sigmoid(g)`.
    precision : {"full", "tf32"}
        "tf32": products of float32 inputs may be rounded to 10 bits of mantissa.
    flags : iterable of {"allow_nondeterministic", "batch_invariant", "strict_nonfinite", "checked"}
        Results may differ in rounding from run to run; a sequence gives the same bits in whatever batch it is; a
        non-finite V never reaches a query that does not see it; lengths and tables are validated. The CPU always has
        the last three.
    layout : {"bshd", "bhsd", "thd"}
        Order of the axes of all arrays with tokens and heads; "bhsd" has heads before tokens (and before rows in
        pages), "thd" packs all sequences along one axis, `[total, H, D]`, and needs `cu_seqlens_q`. Arrays with queries
        by keys, and the further results, are `[batch, head, ...]` in any layout; packed they lose `batch`.
    dim_v : int, optional
        Channels of V where `v` is None.
    cu_seqlens_q, cu_seqlens_kv : array, optional
        `[B + 1]` integers: sequence b owns rows `cu[b]` to `cu[b + 1]` of the packed Q, of the packed K and V.
    max_seqlen_q, max_seqlen_kv : int, optional
        Longest sequence, where packed or paged. Default: found from the lengths.
    seqlens_q, seqlens_kv : array, optional
        `[B]` integers: only the first rows of each sequence are used. Results beyond are not written.
    block_table : array, optional
        `[B, n]` integers: the pages of each sequence, in order.
    block_table_ptr : array, optional
        `[B + 1]` integers: `block_table` is flat, and sequence b owns a range of it.
    positions_q, positions_kv : array, optional
        `[B, Tq]` and `[B, Tk]` integers (packed: `[total]`), for the alignment "by_position".
    ids_q, ids_kv : array or mapping of int to array, optional
        `[B, Tq]` and `[B, Tk]` integers (packed: `[total]`; of keys, pages), which `mask` compares: an array is pair 0,
        a mapping names the pairs.
    q_temperature : array, optional
        `[B, Tq, Hq]` float32: multiplies the scale.
    v_temperature : array, optional
        `[B, Tk, Hv]` float32 (or pages): multiplies V.
    bias : array, optional
        `[B, Ho, Tq, Tk]` float32, float16 or bfloat16 (packed Q: `[Ho, total, Tk]`): added to the score.
    alibi_slopes : array, optional
        `[Ho]` float32: adds `-slope * abs(distance from the diagonal)`.
    bias_table : array, optional
        `[entries, Ho]` float32: adds the entry that `bias_lookup` says.
    bias_lowrank_q, bias_lowrank_k : array, optional
        `[B, Tq, Ho, R]` and `[B, Tk, Ho, R]` (or pages), float32, float16 or bfloat16: their product over R is added to
        the score, before the softcap.
    sink_logits : array, optional
        `[Ho]` float32: the logit of a key without value that joins the softmax's sum.
    gate : array, optional
        `[B, Tq, Ho, Dv]` float32, float16 or bfloat16; `[B, Tq, Ho, 1]` gates by head.
    head_weight : array, optional
        `[B, Tq, Ho]` float32: multiplies the result; 0 skips the work.
    return_lse : bool
        Return `(out, lse)`: short for `outputs=("lse",)`.
    outputs : sequence of {"lse", "row_max", "row_entropy", "column_mass"}
        Return `(out, ...)` with these, in this order.
    out : array, optional
        Where to write the result, in `layout`; its dtype may differ from Q's. It must not overlap another array.
    lse, row_max, row_entropy, column_mass : array, optional
        Where to write these results.
    handle : Handle, optional
        Threads and device. Default: one handle of the process for the device of `q`; on the CPU with all cores.
    stream : int or stream, optional
        On a GPU: a CUstream as an integer (0 and 1: the default stream, 2: the per-thread one), or a stream of PyTorch,
        CuPy or CUDA Python. Default: the one that is current in the library of `q`.

    Every axis of `bias`, of the low-rank biases, `bias_table`, temperatures, gate, head weights, slopes and sink logits
    may have extent 1 instead, and is then repeated.

    Returns
    -------
    out : array
        `[B, Tq, Ho, Dv]` in `layout`: `out` if given, else new, of the library and dtype of `q`. A query that sees no
        key gives 0.
    lse : array
        `[B, Ho, Tq]` (packed: `[Ho, total]`) float32, the natural logarithm of the softmax's sum, sink included; -inf
        for a query that sees no key and no sink.
    row_max : array
        `[B, Ho, Tq]` float32: the largest score of a visible key.
    row_entropy : array
        `[B, Ho, Tq]` float32: entropy of the weights, in nats.
    column_mass : array
        `[B, Ho, Tk]` (packed K: `[Ho, total]`) float32: the attention that each key received, its weights summed over
        the queries. Paged, Tk is the longest sequence.

    Raises
    ------
    attn.Error
        The library refuses the call (sizes, dtypes, options, lengths, overlap); the message names field, value and
        rule. Nothing has been written.
    TypeError, ValueError
        An array cannot be viewed, has the wrong number of axes, or must be writable and is not; an option has no
        meaning.

    Notes
    -----
    May be called from any thread; the GIL is released while planning and computing. On a GPU a call comes after the
    work that producers of the arrays still have to do, and is enqueued only, unless an array is not of PyTorch or CuPy:
    then it waits for its end. Lengths on a device are not looked at. Plans are kept with the handle
    (the 64 last used, with sizes rounded up to a power of two), so repeated calls do not plan again.

    Softmax attention: Vaswani et al. 2017. Sigmoid: Ramapuram et al. 2024. ReLU: Wortsman et al. 2023. ALiBi: Press et
    al. 2022. Low-rank bias: FlashBias, Wu et al. 2025. Temperatures: selective self-attention, Zhang et al. 2024. Sink
    logits: gpt-oss, 2025. Gate: Qiu et al. 2025. Head weights: Mixture-of-Head attention, Jin et al. 2024.

    Examples
    --------
    >>> import numpy as np, attn
    >>> q = k = v = np.ones((1, 128, 8, 64), np.float32)
    >>> attn.attention(q, k, v, causal="top_left").shape
    (1, 128, 8, 64)
    """
    options = Options(
        causal=causal,
        align=align,
        window=window,
        sink_tokens=sink_tokens,
        mask=mask,
        scale=scale,
        softcap=softcap,
        activation=activation,
        activation_bias=activation_bias,
        activation_length=activation_length,
        bias_stage=bias_stage,
        bias_lookup=bias_lookup,
        gate_kind=gate_kind,
        precision=precision,
        flags=flags,
        layout=layout,
    )
    if return_lse and outputs:
        raise ValueError("return_lse: must be False where outputs are named; name 'lse' among them")
    returned = ("lse",) if return_lse else output_names(outputs)
    inputs: dict[str, Optional[ArrayLike]] = {
        "cu_seqlens_q": cu_seqlens_q,
        "cu_seqlens_kv": cu_seqlens_kv,
        "seqlens_q": seqlens_q,
        "seqlens_kv": seqlens_kv,
        "block_table": block_table,
        "block_table_ptr": block_table_ptr,
        "positions_q": positions_q,
        "positions_kv": positions_kv,
        **spread({"ids_q": ids_q, "ids_kv": ids_kv}),
        "bias": bias,
        "bias_table": bias_table,
        "bias_lowrank_q": bias_lowrank_q,
        "bias_lowrank_k": bias_lowrank_k,
        "alibi_slopes": alibi_slopes,
        "sink_logits": sink_logits,
        "q_temperature": q_temperature,
        "v_temperature": v_temperature,
        "gate": gate,
        "head_weight": head_weight,
    }
    given = {"lse": lse, "row_max": row_max, "row_entropy": row_entropy, "column_mass": column_mass}
    computed = tuple(name for name in OUTPUTS if name in returned or given[name] is not None)
    packed_q, packed_kv, paged = cu_seqlens_q is not None, cu_seqlens_kv is not None, block_table is not None
    if packed_kv and paged:
        raise ValueError("cu_seqlens_kv and block_table: K and V are either packed or paged")
    geometry = Geometry(DENSE_AXES, options.layout, packed_q=packed_q, packed_kv=packed_kv, pages=paged)
    if max_seqlen_q is not None and not packed_q:
        raise ValueError("max_seqlen_q: must be None where q is not packed; its shape says it")
    if max_seqlen_kv is not None and not (packed_kv or paged):
        raise ValueError("max_seqlen_kv: must be None where k is neither packed nor paged; its shape says it")
    if (bias_lowrank_q is None) != (bias_lowrank_k is None):
        raise ValueError("bias_lowrank_q and bias_lowrank_k: must be given together")

    where = where_of((q, k, v, *inputs.values(), out, *given.values()), handle._device if handle else None, stream)
    views = {name: geometry.view(array, name, where) for name, array in inputs.items() if array is not None}
    q_view = views["q"] = geometry.view(q, "q", where)
    k_view = views["k"] = geometry.view(k, "k", where)
    if v is not None:
        if dim_v is not None:
            raise ValueError("dim_v: must be None where v is given; its shape says it")
        v_view = views["v"] = geometry.view(v, "v", where)
        heads_v, channels_v, v_dtype = v_view.shape[-2], v_view.shape[-1], v_view.dtype
    else:
        if dim_v is None:
            raise ValueError("v = None: must be an array, unless dim_v says how many channels of k it is")
        heads_v, channels_v, v_dtype = k_view.shape[-2], size("dim_v", dim_v), k_view.dtype
    ready = {} if out is None else {"out": geometry.view(out, "out", where, writable=True)}

    if packed_q:
        batch = max((views["cu_seqlens_q"].shape or (0,))[0] - 1, 0)
        total_q = q_view.shape[0]
        longest_q = longest_of("max_seqlen_q", max_seqlen_q, views["cu_seqlens_q"], total_q)
    else:
        batch, longest_q, total_q = q_view.shape[0], q_view.shape[1], 0
    page_size, total_kv = None, 0
    if packed_kv:
        total_kv = k_view.shape[0]
        longest_kv = longest_of("max_seqlen_kv", max_seqlen_kv, views["cu_seqlens_kv"], total_kv)
    elif paged:
        page_size = k_view.shape[1]
        if page_size == 0:
            raise ValueError(f"k has shape {k_view.shape}: its pages must have at least 1 row")
        pages = (views["block_table"].shape or (0,))[-1]
        if block_table_ptr is not None and max_seqlen_kv is None:
            pages = longest_of("max_seqlen_kv", None, views["block_table_ptr"], pages)
        longest_kv = pages * page_size if max_seqlen_kv is None else size("max_seqlen_kv", max_seqlen_kv)
    else:
        longest_kv = k_view.shape[1]
    if "bias" in views and (packed_kv or paged):
        longest_kv = max(longest_kv, views["bias"].shape[-1])  # which may be wider than the longest sequence
    if column_mass is not None and paged:
        ready["column_mass"] = geometry.view(column_mass, "column_mass", where, writable=True)
        longest_kv = max(longest_kv, ready["column_mass"].shape[-1])

    sizes = {
        "batch": max(batch, 1),
        "heads_q": q_view.shape[-2],
        "heads_k": k_view.shape[-2],
        "heads_v": heads_v,
        "dim_qk": q_view.shape[-1],
        "dim_v": channels_v,
        "max_q": round_up(longest_q),
        "max_kv": round_up(longest_kv),
        "total_q": round_up(total_q) if packed_q else None,
        "total_kv": round_up(total_kv) if packed_kv else None,
        "page_size": page_size,
    }
    for name in ("heads_q", "heads_k", "heads_v", "dim_qk", "dim_v"):
        if sizes[name] == 0:  # which the ABI would read as "default"
            raise ValueError(f"{name} = 0: q, k and v must have at least one head and one channel")
    rank = views["bias_lowrank_q"].shape[-1] if "bias_lowrank_q" in views else 0
    if rank == 0 and "bias_lowrank_q" in views:
        raise ValueError(f"bias_lowrank_q has shape {views['bias_lowrank_q'].shape}: must have at least one channel")
    extents = dict(zip(geometry.axes("q") + geometry.axes("k"), q_view.shape + k_view.shape))
    heads = max(q_view.shape[-2], k_view.shape[-2], heads_v)
    extents.update(j=longest_kv, V=heads_v, H=heads, D=channels_v)
    binds = {
        name: (views[name].dtype, geometry.repeated(views[name], name, extents)) for name in inputs if name in views
    }
    dtypes = {"q_dtype": q_view.dtype, "k_dtype": k_view.dtype, "v_dtype": v_dtype}
    dtypes["out_dtype"] = ready["out"].dtype if "out" in ready else 0
    owner = handle or default_handle(where[:2])

    def make() -> Plan:
        plan = Plan.__new__(Plan)
        plan._plan(owner, options, geometry, sizes, dtypes, binds, computed, bias_rank=rank, aliased=v is None)
        return plan

    key = (options.key, *sizes.values(), *dtypes.values(), *binds.items(), computed, rank, v is None)
    plan: Plan = owner._plan(key, make)
    results = plan._run(
        q,
        views,
        {"out": out, **{name: given[name] for name in computed}},
        where,
        extents={"j": longest_kv},
        sizes=(batch, longest_q, longest_kv, total_q, total_kv),
        ready=ready,
    )
    return (results["out"], *(results[name] for name in returned)) if returned else results["out"]


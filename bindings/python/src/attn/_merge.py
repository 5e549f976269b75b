"""`merge` and `MergePlan`: one result from partial results over disjoint keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Optional, TypedDict, TypeVar, overload

from . import _core
from ._arrays import ArrayLike, SupportsDLPack
from ._geometry import MERGE_AXES, Geometry
from ._handle import Handle, default_handle
from ._options import Activation, Flag, GateKind, Inputs, Layout, choice, flag_bits, layout_name, round_up, size
from ._plan import BasePlan, Sizes, check_sizes, dtype_codes, longest_of, make_problem, output_names
from ._where import Where, where_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

A = TypeVar("A", bound=SupportsDLPack)

INPUTS = ("cu_seqlens_q", "seqlens_q", "sink_logits", "gate", "head_weight")


class _MergeInputs(TypedDict, total=False):
    cu_seqlens_q: Optional[ArrayLike]
    seqlens_q: Optional[ArrayLike]
    sink_logits: Optional[ArrayLike]
    gate: Optional[ArrayLike]
    head_weight: Optional[ArrayLike]


class _Arguments(_MergeInputs, total=False):
    activation: Activation
    gate_kind: GateKind
    flags: Iterable[Flag]
    layout: Layout
    max_seqlen_q: Optional[int]
    lse: Any
    handle: Optional[Handle]
    stream: Any


class MergePlan(BasePlan):
    """A merge prepared for given dtypes, heads, channels, number of parts and largest sizes.

    Call it like `merge`, without the options. Keyword arguments only.

    Parameters
    ----------
    parts : int
        Partial results of a call, 1 to 1024.
    heads, dim_v, max_q : int
        Heads and channels of the results, longest query sequence.
    batch : int
        Most sequences.
    total_q : int, optional
        Most rows of packed queries. Default: `batch * max_q`.
    dtype : str or dtype
        Of the parts: "float32", "float16" or "bfloat16", a NumPy dtype or a torch.dtype.
    out_dtype : str or dtype, optional
        Default: that of the parts.
    activation, gate_kind, flags, layout
        As in `merge`.
    inputs : iterable of str, or mapping of str to dtype or Input
        Which of `seqlens_q`, `sink_logits`, `gate`, `head_weight` every call will bring. `layout="thd"` implies
        `cu_seqlens_q`.
    outputs : iterable of {"lse"}
        What calls compute and return beside OUT.
    handle : Handle, optional
        Default: one handle of the process, on the CPU with all cores.

    Raises
    ------
    attn.Error
        The library refuses the description; the message names field, value and rule.
    TypeError, ValueError
        An argument has no meaning for Python's side.

    Notes
    -----
    Immutable; may be called from any number of threads at once. The GIL is released while planning and computing.
    """

    __slots__ = ()

    def __init__(
        self,
        *,
        parts: int,
        heads: int,
        dim_v: int,
        max_q: int,
        batch: int = 1,
        total_q: Optional[int] = None,
        dtype: object = "float32",
        out_dtype: object = None,
        activation: Activation = "softmax",
        gate_kind: GateKind = "sigmoid",
        flags: Iterable[Flag] = (),
        layout: Layout = "bshd",
        inputs: Inputs = (),
        outputs: Iterable[Literal["lse"]] = (),
        handle: Optional[Handle] = None,
    ) -> None:
        sizes = {"batch": batch, "heads_q": heads, "dim_v": dim_v, "max_q": max_q, "total_q": total_q}
        check_sizes({**sizes, "parts": parts})
        inputs = inputs if isinstance(inputs, (str, Mapping)) else tuple(inputs)
        packed = layout == "thd" or "cu_seqlens_q" in inputs
        geometry = Geometry(MERGE_AXES, layout_name(layout), packed_q=packed)
        binds = geometry.binds(inputs, INPUTS)
        if packed:
            binds.setdefault("cu_seqlens_q", (0, 0))
        codes = dtype_codes({"dtype": dtype, "out_dtype": out_dtype})
        owner = handle or default_handle()
        descriptor = _descriptor(parts, activation, gate_kind)
        self._plan(owner, descriptor, geometry, sizes, codes, binds, output_names(outputs, ("lse",)), flag_bits(flags))

    def _plan(
        self,
        handle: Handle,
        merge: _core.Merge,
        geometry: Geometry,
        sizes: dict[str, Optional[int]],
        dtypes: dict[str, int],
        binds: dict[str, tuple[int, int]],
        outputs: tuple[str, ...],
        flags: int,
    ) -> None:
        dtype = dtypes["dtype"]
        codes = {"q_dtype": dtype, "out_dtype": dtypes.get("out_dtype", 0)}
        problem = make_problem(sizes, codes, {**binds, "partial_out": (dtype, 0)}, outputs, flags)
        self._made(_core.Plan(handle._core, problem, merge), geometry, outputs, handle)

    def __call__(
        self,
        outs: Iterable[ArrayLike],
        lses: Optional[Iterable[ArrayLike]] = None,
        *,
        out: Any = None,
        lse: Any = None,
        stream: Any = None,
        **tensors: Unpack[_MergeInputs],
    ) -> Any:
        """Merge partial results within the plan's bounds.

        Parameters
        ----------
        outs, lses, out, lse, stream, **tensors
            As in `merge`; the dtypes and the optional inputs must be those of the plan.

        Returns
        -------
        array or tuple of arrays
            OUT, or (OUT, LSE) where the plan has `outputs=("lse",)`.

        Raises
        ------
        attn.Error
            A tensor does not fit the plan, or overlaps an output. Nothing has been written.
        TypeError, ValueError
            A tensor cannot be viewed, has the wrong number of axes, or a result is read-only.
        """
        arrays, scores = _parts(outs), list(() if lses is None else lses)
        where = where_of((*arrays, *scores, out, lse, *tensors.values()), self._device, stream)
        views = self._views(dict(tensors), INPUTS, where)
        computed = self._merge(arrays[0], _views(self._geometry, arrays, scores, where), views, out, lse, where)
        return (computed["out"], computed["lse"]) if self._outputs else computed["out"]

    def _merge(
        self,
        like: object,
        parts: list[tuple[int, int, _core.Tensor]],
        views: dict[str, _core.Tensor],
        out: Any,
        lse: Any,
        where: Where,
        sizes: Optional[Sizes] = None,
        ready: Mapping[str, _core.Tensor] = {},
    ) -> dict[str, Any]:
        results = {"out": out}
        if self._outputs or lse is not None:
            results["lse"] = lse
        extents = dict(zip(self._geometry.axes("partial_out"), parts[0][2].shape))
        return self._run(like, views, results, where, extents=extents, sizes=sizes, parts=parts, ready=ready)


def _descriptor(parts: int, activation: str, gate_kind: str) -> _core.Merge:
    merge = _core.Merge()
    merge.parts = size("parts", parts)
    merge.activation = choice("activation", activation, _core.ACTIVATIONS)
    merge.gate = choice("gate_kind", gate_kind, _core.GATES)
    return merge


def _parts(outs: Iterable[ArrayLike]) -> list[Any]:
    arrays = list(outs)
    if not arrays:
        raise ValueError("outs: must have at least one partial result")
    return arrays


def _views(
    geometry: Geometry, outs: Sequence[object], lses: Sequence[object], where: Where
) -> list[tuple[int, int, _core.Tensor]]:
    """The parts as arguments of an execute: the OUTs, then the LSEs."""
    parts = []
    for name, label, arrays in (("partial_out", "outs", outs), ("partial_lse", "lses", lses)):
        for index, array in enumerate(arrays):
            parts.append((_core.SLOTS[name], index, geometry.view_part(array, name, f"{label}[{index}]", where)))
    return parts


@overload
def merge(
    outs: Iterable[A],
    lses: Optional[Iterable[ArrayLike]] = ...,
    *,
    return_lse: Literal[False] = ...,
    out: Optional[A] = ...,
    **arguments: Unpack[_Arguments],
) -> A: ...
@overload
def merge(
    outs: Iterable[A],
    lses: Optional[Iterable[ArrayLike]] = ...,
    *,
    return_lse: Literal[True],
    out: Optional[A] = ...,
    **arguments: Unpack[_Arguments],
) -> tuple[A, A]: ...
def merge(
    outs: Iterable[Any],
    lses: Optional[Iterable[ArrayLike]] = None,
    *,
    activation: Activation = "softmax",
    gate_kind: GateKind = "sigmoid",
    flags: Iterable[Flag] = (),
    layout: Layout = "bshd",
    cu_seqlens_q: Optional[ArrayLike] = None,
    max_seqlen_q: Optional[int] = None,
    seqlens_q: Optional[ArrayLike] = None,
    sink_logits: Optional[ArrayLike] = None,
    gate: Optional[ArrayLike] = None,
    head_weight: Optional[ArrayLike] = None,
    return_lse: bool = False,
    out: Any = None,
    lse: Any = None,
    handle: Optional[Handle] = None,
    stream: Any = None,
) -> Any:
    """Merge results of attention over disjoint parts of the keys into the result over all of them.

    With softmax each part weighs `exp(its LSE - LSE of all)`; with sigmoid and ReLU parts add. Sink logits, gate and
    head weights belong here, not to the parts: they count once.

    Parameters
    ----------
    outs : iterable of array
        The results of the parts, 1 to 1024 of `[B, Tq, H, D]` of one dtype: float32, float16 or bfloat16. An array with
        one axis more, the first, serves too.
    lses : iterable of array, optional
        Softmax: their LSEs, `[B, H, Tq]` float32; -inf where a part has no key.
    activation : {"softmax", "sigmoid", "relu"}
        What the parts were computed with. (ReLU: with `activation_length` set, or the parts differ in theirs.)
    gate_kind : {"sigmoid", "linear", "silu"}
        What multiplies the result where `gate` is g: `sigmoid(g)`, `g`, `g * sigmoid(g)`.
    flags, layout
        As in `attention`.
    cu_seqlens_q : array, optional
        `[B + 1]` integers: sequence b owns rows `cu[b]` to `cu[b + 1]` of packed parts, `[total, H, D]` and
        `[H, total]`; with `layout="thd"`.
    max_seqlen_q : int, optional
        Longest sequence, where packed. Default: found from the lengths.
    seqlens_q : array, optional
        `[B]` integers: only the first rows of each sequence are merged.
    sink_logits : array, optional
        `[H]` float32: the logit of a key without value that joins the softmax's sum.
    gate : array, optional
        `[B, Tq, H, D]` float32, float16 or bfloat16. Any of its axes may have extent 1 and is then repeated.
    head_weight : array, optional
        `[B, Tq, H]` float32: multiplies the result.
    return_lse : bool
        Return `(out, lse)`.
    out : array, optional
        Where to write the result, in `layout`; its dtype may differ from that of the parts. It must not overlap
        another array.
    lse : array, optional
        Where to write the LSE.
    handle : Handle, optional
        Threads and device. Default: one handle of the process for the device of the first part.
    stream : int or stream, optional
        As in `attention`.

    Returns
    -------
    out : array
        `[B, Tq, H, D]` in `layout`: `out` if given, else new, of the library and dtype of the first part.
    lse : array
        Only if `return_lse`: `[B, H, Tq]` (packed: `[H, total]`) float32, the LSE over all parts, sink included.

    Raises
    ------
    attn.Error
        The library refuses the call; the message names field, value and rule. Nothing has been written.
    TypeError, ValueError
        An array cannot be viewed, has the wrong number of axes, or must be writable and is not; an option has no
        meaning.

    Notes
    -----
    May be called from any thread; the GIL is released. Plans are kept as those of `attention` are. The merge by LSE is
    that of split-KV decoding and ring attention (Milakov and Gimelshein 2018; Dao et al. 2023).

    Examples
    --------
    >>> import numpy as np, attn
    >>> q, k, v = np.random.rand(3, 1, 64, 8, 32).astype(np.float32)
    >>> halves = [attn.attention(q, k[:, s], v[:, s], return_lse=True) for s in (slice(0, 32), slice(32, 64))]
    >>> whole = attn.merge([out for out, _ in halves], [lse for _, lse in halves])
    >>> bool(np.allclose(whole, attn.attention(q, k, v), atol=1e-6))
    True
    """
    arrays, scores = _parts(outs), list(() if lses is None else lses)
    packed = cu_seqlens_q is not None
    geometry = Geometry(MERGE_AXES, layout_name(layout), packed_q=packed)
    if max_seqlen_q is not None and not packed:
        raise ValueError("max_seqlen_q: must be None where the parts are not packed; their shape says it")
    inputs = {
        "cu_seqlens_q": cu_seqlens_q,
        "seqlens_q": seqlens_q,
        "sink_logits": sink_logits,
        "gate": gate,
        "head_weight": head_weight,
    }
    where = where_of((*arrays, *scores, *inputs.values(), out, lse), handle._device if handle else None, stream)
    views = {name: geometry.view(array, name, where) for name, array in inputs.items() if array is not None}
    parts = _views(geometry, arrays, scores, where)
    first = parts[0][2]
    ready = {} if out is None else {"out": geometry.view(out, "out", where, writable=True)}
    if packed:
        lengths, total = views["cu_seqlens_q"], first.shape[0]
        batch = max((lengths.shape or (0,))[0] - 1, 0)
        longest = longest_of("max_seqlen_q", max_seqlen_q, lengths, total)
    else:
        batch, longest, total = first.shape[0], first.shape[1], 0
    sizes: dict[str, Optional[int]] = {
        "batch": max(batch, 1),
        "heads_q": first.shape[-2],
        "dim_v": first.shape[-1],
        "max_q": round_up(longest),
        "total_q": round_up(total) if packed else None,
    }
    if 0 in first.shape[-2:]:
        raise ValueError(f"outs[0] has shape {first.shape}: must have at least one head and one channel")
    extents = dict(zip(geometry.axes("partial_out"), first.shape))
    binds = {name: (view.dtype, geometry.repeated(view, name, extents) if name == "gate" else 0)
             for name, view in views.items()}  # fmt: skip
    outputs = ("lse",) if return_lse or lse is not None else ()
    dtypes = {"dtype": first.dtype, "out_dtype": ready["out"].dtype if ready else 0}
    descriptor = _descriptor(len(arrays), activation, gate_kind)
    bits, owner = flag_bits(flags), handle or default_handle(where[:2])

    def make() -> MergePlan:
        plan = MergePlan.__new__(MergePlan)
        plan._plan(owner, descriptor, geometry, sizes, dtypes, binds, outputs, bits)
        return plan

    options = (len(arrays), activation, gate_kind, layout, bits)
    key = ("merge", *options, *sizes.values(), *dtypes.values(), *binds.items(), outputs)
    plan: MergePlan = owner._plan(key, make)
    computed = plan._merge(arrays[0], parts, views, out, lse, where, (batch, longest, 0, total, 0), ready)
    return (computed["out"], computed["lse"]) if return_lse else computed["out"]

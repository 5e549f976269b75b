"""`attention` and `Plan`: options in Python's terms, turned into descriptors of the C ABI and executed."""

from __future__ import annotations

import json
import operator
from typing import Any, Iterable, Literal, Mapping, Optional, SupportsIndex, TypeVar, Union, overload

from . import _core
from ._arrays import DTYPE_NAMES, ArrayLike, SupportsDLPack, deliver, dtype_code, empty, tensor
from ._handle import Handle, default_handle

Alignment = Literal["top_left", "bottom_right", "by_position"]
Layout = Literal["bshd", "bhsd", "thd"]
Window = tuple[Optional[int], Optional[int]]
Optionals = dict[str, Optional[ArrayLike]]
A = TypeVar("A", bound=SupportsDLPack)

# The optional inputs, in the order of attention()'s arguments.
_OPTIONAL_INPUTS = (
    "cu_seqlens_q",
    "cu_seqlens_kv",
    "seqlens_q",
    "seqlens_kv",
    "block_table",
    "block_table_ptr",
    "positions_q",
    "positions_kv",
)
_AXES = {
    "bshd": "[batch, token, head, channel]",
    "bhsd": "[batch, head, token, channel]",
    "thd": "[token, head, channel]",
}


class _Options:
    """The options of one computation, checked as far as the C ABI cannot: hashable, and written into descriptors."""

    __slots__ = ("align", "causal", "key", "layout", "scale", "sink_tokens", "softcap", "window")

    def __init__(
        self,
        *,
        causal: Optional[str],
        align: Optional[str],
        window: Optional[Window],
        sink_tokens: int,
        scale: Optional[float],
        softcap: Optional[float],
        layout: str,
    ) -> None:
        self.causal = _alignment("causal", causal)
        self.align = _alignment("align", align)
        try:
            left, right = (None, None) if window is None else window
        except (TypeError, ValueError):
            raise TypeError(f"window = {window!r}: must be None or a pair (left, right)") from None
        self.window = (_integer("window[0]", left), _integer("window[1]", right))
        self.sink_tokens = _integer("sink_tokens", sink_tokens) or 0
        self.scale = _real("scale", scale)
        self.softcap = _real("softcap", softcap)
        if not isinstance(layout, str) or layout not in _AXES:
            raise ValueError(f"layout = {layout!r}: must be one of {', '.join(_AXES)}")
        self.layout = layout
        self.key = (self.causal, self.align, self.window, self.sink_tokens, self.scale, self.softcap, layout)

    def dense(self) -> _core.Dense:
        dense = _core.Dense()
        dense.causal = self.causal
        dense.align = self.align
        left, right = self.window
        if left is not None:
            dense.flags |= _core.WINDOW_LEFT
            dense.window_left = left
        if right is not None:
            dense.flags |= _core.WINDOW_RIGHT
            dense.window_right = right
        dense.sink_tokens = self.sink_tokens
        dense.softcap = self.softcap
        return dense


def _alignment(name: str, value: Optional[str]) -> int:
    if value is None:
        return 0
    if not isinstance(value, str) or value not in _core.ALIGNMENTS:
        raise ValueError(f"{name} = {value!r}: must be None or one of {', '.join(_core.ALIGNMENTS)}")
    return _core.ALIGNMENTS[value]


def _integer(name: str, value: Optional[SupportsIndex]) -> Optional[int]:
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} = {value!r}: must be an integer") from None
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{name} = {number}: must fit in 64 bits")
    return number


def _real(name: str, value: Optional[float]) -> float:
    """0 is the ABI's "default", so None becomes 0 and a 0 that was asked for is refused."""
    if value is None:
        return 0.0
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} = {value!r}: must be a number or None") from None
    if number == 0:
        raise ValueError(f"{name} = 0: must not be 0; None takes the default")
    return number


def _round_up(size: int) -> int:
    """The next power of two, so that calls of similar sizes share a plan; a bound must be at least 1."""
    return 1 << max(size - 1, 0).bit_length()


def _tokens(array: object, name: str, layout: str, *, packed: bool, pages: bool = False) -> _core.Tensor:
    """View Q, K, V or OUT with its axes in the order of the C ABI."""
    view = tensor(array, name, writable=name == "out")
    if packed:
        axes = _AXES["thd"]
    elif pages:
        axes = "[page, head, row, channel]" if layout == "bhsd" else "[page, row, head, channel]"
    else:
        axes = _AXES["bhsd" if layout == "bhsd" else "bshd"]
    wanted = 3 if packed else 4
    if view.ndim != wanted:
        raise ValueError(f"{name} has shape {view.shape}, must have {wanted} axes: {axes}")
    if layout == "bhsd":
        view.swap_axes(1, 2)
    return view


class Plan:
    """Dense attention prepared for given dtypes, head sizes, options and largest sizes.

    Call it like `attention`, without the options. Keyword arguments only.

    Parameters
    ----------
    heads_q, dim_qk, max_q : int
        Heads of Q, channels of Q and K, longest query sequence.
    heads_k, heads_v, dim_v, max_kv : int, optional
        Heads of K (default: of Q) and V (of K), channels of V (`dim_qk`), longest key sequence (`max_q`).
    batch : int
        Most sequences.
    total_q, total_kv : int, optional
        Most rows of a packed Q and K. Default: `batch` times the longest sequence.
    page_size : int, optional
        Rows of a page: K and V are pages, found through `block_table`.
    q_dtype : str or dtype
        "float32", "float16", "bfloat16", ..., a NumPy dtype or a torch.dtype.
    k_dtype, v_dtype, out_dtype : str or dtype, optional
        Default: that of Q, that of K, that of Q.
    causal, align, window, sink_tokens, scale, softcap, layout
        As in `attention`.
    inputs : iterable of str, or mapping of str to dtype
        Optional inputs that every call will bring, by the names that `attention` has for them, with their dtypes
        ("int32" unless given as "int64"). `layout="thd"` implies `cu_seqlens_q` and, unless K is paged,
        `cu_seqlens_kv`; `page_size` implies `block_table`; the alignment "by_position" both positions.
    lse : bool
        Calls also compute the LSE.
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
    Immutable; may be called from any number of threads at once. Every thread has a workspace of its own, which is
    kept for its next call. The GIL is released while planning and computing.
    """

    __slots__ = ("__weakref__", "_core", "_layout", "_lse", "_packed_kv", "_packed_q", "_pages", "_slots")

    def __init__(
        self,
        *,
        heads_q: int,
        dim_qk: int,
        max_q: int,
        heads_k: Optional[int] = None,
        heads_v: Optional[int] = None,
        dim_v: Optional[int] = None,
        max_kv: Optional[int] = None,
        batch: int = 1,
        total_q: Optional[int] = None,
        total_kv: Optional[int] = None,
        page_size: Optional[int] = None,
        q_dtype: object = "float32",
        k_dtype: object = None,
        v_dtype: object = None,
        out_dtype: object = None,
        causal: Optional[Alignment] = None,
        align: Optional[Alignment] = None,
        window: Optional[Window] = None,
        sink_tokens: int = 0,
        scale: Optional[float] = None,
        softcap: Optional[float] = None,
        layout: Layout = "bshd",
        inputs: Union[Iterable[str], Mapping[str, object]] = (),
        lse: bool = False,
        handle: Optional[Handle] = None,
    ) -> None:
        options = _Options(
            causal=causal,
            align=align,
            window=window,
            sink_tokens=sink_tokens,
            scale=scale,
            softcap=softcap,
            layout=layout,
        )
        sizes = {
            "batch": batch,
            "heads_q": heads_q,
            "heads_k": heads_k,
            "heads_v": heads_v,
            "dim_qk": dim_qk,
            "dim_v": dim_v,
            "max_q": max_q,
            "max_kv": max_kv,
            "total_q": total_q,
            "total_kv": total_kv,
            "page_size": page_size,
        }
        for name, size in sizes.items():
            if size is not None and _integer(name, size) == 0:
                raise ValueError(f"{name} = 0: must be at least 1")  # 0 is the ABI's "default"
        given = {"q_dtype": q_dtype, "k_dtype": k_dtype, "v_dtype": v_dtype, "out_dtype": out_dtype}
        dtypes = {name: dtype_code(dtype, name) for name, dtype in given.items() if dtype is not None}
        if isinstance(inputs, str):
            raise TypeError(f"inputs = {inputs!r}: must be a collection of names, not one name")
        pairs = inputs.items() if isinstance(inputs, Mapping) else ((name, "int32") for name in inputs)
        binds = {name: dtype_code(dtype, f"inputs[{name!r}]") for name, dtype in pairs}
        for name in binds:
            if name not in _OPTIONAL_INPUTS:
                raise ValueError(f"inputs: {name!r} is not one of {', '.join(_OPTIONAL_INPUTS)}")
        if layout == "thd":
            binds.setdefault("cu_seqlens_q", _core.DTYPES["int32"])
            if page_size is None:
                binds.setdefault("cu_seqlens_kv", _core.DTYPES["int32"])
        self._plan(handle or default_handle(), options, sizes, dtypes, binds, lse)

    def _plan(
        self,
        handle: Handle,
        options: _Options,
        sizes: Mapping[str, Optional[int]],
        dtypes: Mapping[str, int],
        binds: Mapping[str, int],
        lse: bool,
    ) -> None:
        problem = _core.Problem()
        for name, value in (*sizes.items(), *dtypes.items()):
            if value is not None:
                setattr(problem, name, value)
        problem.scale = options.scale
        for name, dtype in binds.items():
            problem.bind(_core.SLOTS[name], dtype)
        if lse:
            problem.bind(_core.SLOTS["lse"], 0)
        self._layout = options.layout
        self._packed_q = "cu_seqlens_q" in binds
        self._packed_kv = "cu_seqlens_kv" in binds
        if self._packed_q != (options.layout == "thd"):
            raise ValueError(f"layout = {options.layout!r}: must be 'thd' exactly where cu_seqlens_q is given")
        self._pages = sizes.get("page_size") is not None
        self._lse = lse
        self._core = _core.Plan(handle._core, problem, options.dense())
        self._slots = self._core.slots()

    @property
    def workspace_bytes(self) -> int:
        """Scratch memory, in bytes, that suffices for every call."""
        return self._core.workspace_bytes

    def describe(self) -> dict[str, Any]:
        """What was planned: kernel, FLOPs, bytes, workspace, tensors, and why other kernels were refused."""
        description: dict[str, Any] = json.loads(self._core.describe())
        return description

    def __call__(
        self,
        q: ArrayLike,
        k: ArrayLike,
        v: ArrayLike,
        *,
        cu_seqlens_q: Optional[ArrayLike] = None,
        cu_seqlens_kv: Optional[ArrayLike] = None,
        seqlens_q: Optional[ArrayLike] = None,
        seqlens_kv: Optional[ArrayLike] = None,
        block_table: Optional[ArrayLike] = None,
        block_table_ptr: Optional[ArrayLike] = None,
        positions_q: Optional[ArrayLike] = None,
        positions_kv: Optional[ArrayLike] = None,
        out: Optional[ArrayLike] = None,
        lse: Optional[ArrayLike] = None,
    ) -> Any:
        """Compute attention of tensors within the plan's bounds.

        Parameters
        ----------
        q, k, v, cu_seqlens_q, ..., out, lse
            As in `attention`; the dtypes and the optional inputs must be those of the plan.

        Returns
        -------
        array or tuple of arrays
            OUT, or (OUT, LSE) where the plan has `lse=True`.

        Raises
        ------
        attn.Error
            A tensor does not fit the plan, or overlaps an output. Nothing has been written.
        TypeError, ValueError
            A tensor cannot be viewed, has the wrong number of axes, or `out` or `lse` is read-only.
        """
        optional: Optionals = {
            "cu_seqlens_q": cu_seqlens_q,
            "cu_seqlens_kv": cu_seqlens_kv,
            "seqlens_q": seqlens_q,
            "seqlens_kv": seqlens_kv,
            "block_table": block_table,
            "block_table_ptr": block_table_ptr,
            "positions_q": positions_q,
            "positions_kv": positions_kv,
        }
        views = {name: tensor(array, name) for name, array in optional.items() if array is not None}
        views["q"] = _tokens(q, "q", self._layout, packed=self._packed_q)
        views["k"] = _tokens(k, "k", self._layout, packed=self._packed_kv, pages=self._pages)
        views["v"] = _tokens(v, "v", self._layout, packed=self._packed_kv, pages=self._pages)
        if out is not None:
            views["out"] = _tokens(out, "out", self._layout, packed=self._packed_q)
        if lse is not None:
            views["lse"] = tensor(lse, "lse", writable=True)
        out, lse = self._run(q, views, out, lse, None)
        return (out, lse) if self._lse else out

    def _run(
        self,
        like: object,
        views: dict[str, _core.Tensor],
        out: Any,
        lse: Any,
        sizes: Optional[tuple[int, int, int, int, int]],
    ) -> tuple[Any, Any]:
        """Execute, making the outputs that are missing. The library says which dtype, heads and channels they have."""
        q = views["q"].shape  # [batch, token, head, channel], or [token, head, channel]
        made_out = made_lse = None
        if out is None:
            dtype, bounds = self._slots[_core.SLOTS["out"]]
            shape = (*q[:-2], *bounds[-2:])
            if self._layout == "bhsd":
                shape = (shape[0], shape[2], shape[1], shape[3])
            made_out = empty(shape, dtype, like)
            views["out"] = _tokens(made_out, "out", self._layout, packed=self._packed_q)
        if lse is None and self._lse:
            dtype, bounds = self._slots[_core.SLOTS["lse"]]
            made_lse = empty((*q[:-3], bounds[-2], q[-3]), dtype, like)
            views["lse"] = tensor(made_lse, "lse", writable=True)
        self._core.execute([(_core.SLOTS[name], view) for name, view in views.items()], sizes)
        return (
            out if made_out is None else deliver(made_out, like),
            lse if made_lse is None else deliver(made_lse, like),
        )

    def __repr__(self) -> str:
        dtype, bounds = self._slots[_core.SLOTS["q"]]
        return f"<attn.Plan q: {DTYPE_NAMES[dtype]}{list(bounds)}, workspace: {self.workspace_bytes} bytes>"


@overload
def attention(
    q: A,
    k: ArrayLike,
    v: ArrayLike,
    *,
    causal: Optional[Alignment] = ...,
    align: Optional[Alignment] = ...,
    window: Optional[Window] = ...,
    sink_tokens: int = ...,
    scale: Optional[float] = ...,
    softcap: Optional[float] = ...,
    layout: Layout = ...,
    cu_seqlens_q: Optional[ArrayLike] = ...,
    cu_seqlens_kv: Optional[ArrayLike] = ...,
    max_seqlen_q: Optional[int] = ...,
    max_seqlen_kv: Optional[int] = ...,
    seqlens_q: Optional[ArrayLike] = ...,
    seqlens_kv: Optional[ArrayLike] = ...,
    block_table: Optional[ArrayLike] = ...,
    block_table_ptr: Optional[ArrayLike] = ...,
    positions_q: Optional[ArrayLike] = ...,
    positions_kv: Optional[ArrayLike] = ...,
    return_lse: Literal[False] = ...,
    out: Optional[A] = ...,
    lse: Optional[ArrayLike] = ...,
    handle: Optional[Handle] = ...,
) -> A: ...
@overload
def attention(
    q: A,
    k: ArrayLike,
    v: ArrayLike,
    *,
    causal: Optional[Alignment] = ...,
    align: Optional[Alignment] = ...,
    window: Optional[Window] = ...,
    sink_tokens: int = ...,
    scale: Optional[float] = ...,
    softcap: Optional[float] = ...,
    layout: Layout = ...,
    cu_seqlens_q: Optional[ArrayLike] = ...,
    cu_seqlens_kv: Optional[ArrayLike] = ...,
    max_seqlen_q: Optional[int] = ...,
    max_seqlen_kv: Optional[int] = ...,
    seqlens_q: Optional[ArrayLike] = ...,
    seqlens_kv: Optional[ArrayLike] = ...,
    block_table: Optional[ArrayLike] = ...,
    block_table_ptr: Optional[ArrayLike] = ...,
    positions_q: Optional[ArrayLike] = ...,
    positions_kv: Optional[ArrayLike] = ...,
    return_lse: Literal[True],
    out: Optional[A] = ...,
    lse: Optional[A] = ...,
    handle: Optional[Handle] = ...,
) -> tuple[A, A]: ...
def attention(
    q: Any,
    k: ArrayLike,
    v: ArrayLike,
    *,
    causal: Optional[Alignment] = None,
    align: Optional[Alignment] = None,
    window: Optional[Window] = None,
    sink_tokens: int = 0,
    scale: Optional[float] = None,
    softcap: Optional[float] = None,
    layout: Layout = "bshd",
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
    return_lse: bool = False,
    out: Any = None,
    lse: Any = None,
    handle: Optional[Handle] = None,
) -> Any:
    """Softmax attention: `softmax(scale * q @ k.T, masked) @ v` for every head of every sequence.

    Arrays may be anything with the buffer protocol or DLPack in host memory (NumPy, PyTorch, JAX, ...), with any
    strides; they are not copied. B sequences, Tq and Tk tokens, Hq, Hk, Hv heads, Ho = max(Hq, Hk, Hv), D channels.
    Head h of the result uses head `h * Hq // Ho` of Q, and K and V likewise.

    Parameters
    ----------
    q : array
        `[B, Tq, Hq, D]`; float32, float16 or bfloat16.
    k : array
        `[B, Tk, Hk, D]`, or pages of all sequences `[pages, rows, Hk, D]` where `block_table` is given.
    v : array
        `[B, Tk, Hv, Dv]`, or pages.
    causal : {"top_left", "bottom_right", "by_position"}, optional
        Query i sees the keys j up to its diagonal: `j <= i`; `j <= i + Tk - Tq` (decoding with a cache);
        `positions_kv[j] <= positions_q[i]`. Default: all keys.
    align : {"top_left", "bottom_right", "by_position"}, optional
        Which key is level with query i, for a window without `causal`.
    window : (left, right), optional
        Keys seen before and after the diagonal key; None is unlimited. The last 1024 keys: `(1023, 0)`.
    sink_tokens : int
        First keys of a sequence that are seen whatever the window.
    scale : float, optional
        Default: `1 / sqrt(D)`.
    softcap : float, optional
        Scores become `softcap * tanh(score / softcap)`.
    layout : {"bshd", "bhsd", "thd"}
        Order of the axes of `q`, `k`, `v` and the result; "bhsd" has heads before tokens (and before rows in pages),
        "thd" packs all sequences along one axis, `[total, H, D]`, and needs `cu_seqlens_q`.
    cu_seqlens_q, cu_seqlens_kv : array, optional
        `[B + 1]` integers: sequence b owns rows `cu[b]` to `cu[b + 1]` of the packed Q, of the packed K and V.
    max_seqlen_q, max_seqlen_kv : int, optional
        Longest sequence, where packed or paged. Default: found from the lengths.
    seqlens_q, seqlens_kv : array, optional
        `[B]` integers: only the first rows of each sequence are used.
    block_table : array, optional
        `[B, n]` integers: the pages of each sequence, in order.
    block_table_ptr : array, optional
        `[B + 1]` integers: `block_table` is flat, and sequence b owns a range of it.
    positions_q, positions_kv : array, optional
        `[B, Tq]` and `[B, Tk]` integers (packed: `[total]`), for the alignment "by_position".
    return_lse : bool
        Return `(out, lse)`.
    out : array, optional
        Where to write the result, in `layout`; its dtype may differ from Q's. It must not overlap another array.
    lse : array, optional
        Where to write the LSE.
    handle : Handle, optional
        Threads and device. Default: one handle of the process, on the CPU with all cores.

    Returns
    -------
    out : array
        `[B, Tq, Ho, Dv]` in `layout`: `out` if given, else new, of the library and dtype of `q`. A query that sees no
        key gives 0.
    lse : array
        Only if `return_lse`: `[B, Ho, Tq]` (packed: `[Ho, total]`) float32, the natural logarithm of the softmax's
        sum; -inf for a query that sees no key.

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
    May be called from any thread; the GIL is released while planning and computing. Plans are kept with the handle
    (the 64 last used, with sizes rounded up to a power of two), so repeated calls do not plan again.

    Examples
    --------
    >>> import numpy as np, attn
    >>> q = k = v = np.ones((1, 128, 8, 64), np.float32)
    >>> attn.attention(q, k, v, causal="top_left").shape
    (1, 128, 8, 64)
    """
    options = _Options(
        causal=causal,
        align=align,
        window=window,
        sink_tokens=sink_tokens,
        scale=scale,
        softcap=softcap,
        layout=layout,
    )
    packed_q, packed_kv, paged = cu_seqlens_q is not None, cu_seqlens_kv is not None, block_table is not None
    if packed_kv and paged:
        raise ValueError("cu_seqlens_kv and block_table: K and V are either packed or paged")
    if packed_q != (layout == "thd"):
        raise ValueError(f"layout = {layout!r}: must be 'thd' exactly where cu_seqlens_q is given")
    if max_seqlen_q is not None and not packed_q:
        raise ValueError("max_seqlen_q: must be None where q is not packed; its shape says it")
    if max_seqlen_kv is not None and not (packed_kv or paged):
        raise ValueError("max_seqlen_kv: must be None where k is neither packed nor paged; its shape says it")

    optional: Optionals = {
        "cu_seqlens_q": cu_seqlens_q,
        "cu_seqlens_kv": cu_seqlens_kv,
        "seqlens_q": seqlens_q,
        "seqlens_kv": seqlens_kv,
        "block_table": block_table,
        "block_table_ptr": block_table_ptr,
        "positions_q": positions_q,
        "positions_kv": positions_kv,
    }
    views = {name: tensor(array, name) for name, array in optional.items() if array is not None}
    binds = tuple((name, view.dtype) for name, view in views.items())
    q_view = views["q"] = _tokens(q, "q", layout, packed=packed_q)
    k_view = views["k"] = _tokens(k, "k", layout, packed=packed_kv, pages=paged)
    v_view = views["v"] = _tokens(v, "v", layout, packed=packed_kv, pages=paged)
    out_dtype = 0
    if out is not None:
        views["out"] = _tokens(out, "out", layout, packed=packed_q)
        out_dtype = views["out"].dtype
    if lse is not None:
        views["lse"] = tensor(lse, "lse", writable=True)
    with_lse = return_lse or lse is not None

    if packed_q:
        batch = max((views["cu_seqlens_q"].shape or (0,))[0] - 1, 0)
        total_q = q_view.shape[0]
        longest_q = _longest("max_seqlen_q", max_seqlen_q, views["cu_seqlens_q"], total_q)
    else:
        batch, longest_q, total_q = q_view.shape[0], q_view.shape[1], 0
    page_size, total_kv = None, 0
    if packed_kv:
        total_kv = k_view.shape[0]
        longest_kv = _longest("max_seqlen_kv", max_seqlen_kv, views["cu_seqlens_kv"], total_kv)
    elif paged:
        page_size = k_view.shape[1]
        if page_size == 0:
            raise ValueError(f"k has shape {k_view.shape}: its pages must have at least 1 row")
        pages = (views["block_table"].shape or (0,))[-1]
        if block_table_ptr is not None:
            pages = min(pages, views["block_table_ptr"].largest_step())
        longest_kv = pages * page_size if max_seqlen_kv is None else _size("max_seqlen_kv", max_seqlen_kv)
    else:
        longest_kv = k_view.shape[1]

    sizes = {
        "batch": max(batch, 1),
        "heads_q": q_view.shape[-2],
        "heads_k": k_view.shape[-2],
        "heads_v": v_view.shape[-2],
        "dim_qk": q_view.shape[-1],
        "dim_v": v_view.shape[-1],
        "max_q": _round_up(longest_q),
        "max_kv": _round_up(longest_kv),
        "total_q": _round_up(total_q) if packed_q else None,
        "total_kv": _round_up(total_kv) if packed_kv else None,
        "page_size": page_size,
    }
    for name in ("heads_q", "heads_k", "heads_v", "dim_qk", "dim_v"):
        if sizes[name] == 0:  # which the ABI would read as "default"
            raise ValueError(f"{name} = 0: q, k and v must have at least one head and one channel")
    dtypes = {"q_dtype": q_view.dtype, "k_dtype": k_view.dtype, "v_dtype": v_view.dtype, "out_dtype": out_dtype}
    handle = handle or default_handle()

    def make() -> Plan:
        plan = Plan.__new__(Plan)
        plan._plan(handle, options, sizes, dtypes, dict(binds), with_lse)
        return plan

    key = (options.key, tuple(sizes.values()), tuple(dtypes.values()), binds, with_lse)
    plan: Plan = handle._plan(key, make)
    out, lse = plan._run(q, views, out, lse, (batch, longest_q, longest_kv, total_q, total_kv))
    return (out, lse) if return_lse else out


def _longest(name: str, given: Optional[int], lengths: _core.Tensor, total: int) -> int:
    """The longest sequence: what the caller says, else what the cumulative lengths of `total` rows show."""
    return min(lengths.largest_step(), total) if given is None else _size(name, given)


def _size(name: str, value: int) -> int:
    number = _integer(name, value)
    if number is None or number < 0:
        raise ValueError(f"{name} = {number}: must be >= 0")
    return number

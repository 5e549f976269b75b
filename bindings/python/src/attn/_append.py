"""`append` and `AppendPlan`: new rows of K and V into their caches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Optional, TypedDict, TypeVar, overload

from . import _core
from ._arrays import ArrayLike, SupportsDLPack
from ._geometry import APPEND_AXES, Geometry
from ._handle import Handle, default_handle
from ._options import Flag, Inputs, Layout, Rope, at_least_one, flag_bits, integer, layout_name, round_up, size
from ._plan import BasePlan, Sizes, check_sizes, dtype_codes, longest_of, make_problem
from ._where import Where, where_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

A = TypeVar("A", bound=SupportsDLPack)

INPUTS = (
    "cu_seqlens_q",
    "seqlens_q",
    "seqlens_kv",
    "block_table",
    "block_table_ptr",
    "slot_mapping",
    "positions_q",
    "rope_cos",
    "rope_sin",
)
_CACHES = ("k_cache", "v_cache")
_ROWS = ("k", "v")


class _AppendInputs(TypedDict, total=False):
    cu_seqlens_q: Optional[ArrayLike]
    seqlens_q: Optional[ArrayLike]
    seqlens_kv: Optional[ArrayLike]
    block_table: Optional[ArrayLike]
    block_table_ptr: Optional[ArrayLike]
    slot_mapping: Optional[ArrayLike]
    positions_q: Optional[ArrayLike]
    rope_cos: Optional[ArrayLike]
    rope_sin: Optional[ArrayLike]


class _Arguments(_AppendInputs, total=False):
    rope: Optional[Rope]
    ring_rows: Optional[int]
    sink_tokens: int
    paged: Optional[bool]
    flags: Iterable[Flag]
    layout: Layout
    max_seqlen_q: Optional[int]
    handle: Optional[Handle]
    stream: Any


class AppendPlan(BasePlan):
    """An append prepared for given dtypes, heads, channels, options and largest sizes.

    Call it like `append`, without the options. Keyword arguments only.

    Parameters
    ----------
    heads_k, dim_qk, max_q, max_kv : int
        Heads and channels of K, most new rows of a sequence, most rows of its cache (with a ring, of the ring).
    heads_q, heads_v, dim_v : int, optional
        Heads of Q (default: of K) and V (of K), channels of V (`dim_qk`).
    batch : int
        Most sequences.
    total_q : int, optional
        Most new rows, where they are packed. Default: `batch * max_q`.
    page_size : int, optional
        Rows of a page: the caches are pages, found through `block_table` unless `slot_mapping` is among the inputs.
    k_dtype, v_dtype : str or dtype, optional
        Of the caches. Default of V: that of K.
    k_rows_dtype, v_rows_dtype : str or dtype, optional
        Of the new rows. Default: that of the cache.
    q_dtype, out_dtype : str or dtype, optional
        Of Q and of Q as it is rotated. Default: that of K, that of Q.
    rotates_q : bool
        Calls also bring Q, and return it rotated.
    writes_k, writes_v : bool
        Whether calls bring new rows and a cache of K, of V.
    rope, ring_rows, sink_tokens, flags, layout
        As in `append`.
    inputs : iterable of str, or mapping of str to dtype or Input
        Which of `seqlens_q`, `seqlens_kv`, `block_table_ptr`, `slot_mapping`, `positions_q` every call will bring.
        `layout="thd"` implies `cu_seqlens_q`; `page_size` implies `block_table`, unless there is a slot mapping;
        `Rope(source="table")` implies `rope_cos` and `rope_sin`.
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
    Immutable; may be called from any number of threads at once, on different caches. The GIL is released while planning
    and computing.
    """

    __slots__ = ("_present", "_rotates_q")

    def __init__(
        self,
        *,
        heads_k: int,
        dim_qk: int,
        max_q: int,
        max_kv: int,
        heads_q: Optional[int] = None,
        heads_v: Optional[int] = None,
        dim_v: Optional[int] = None,
        batch: int = 1,
        total_q: Optional[int] = None,
        page_size: Optional[int] = None,
        k_dtype: object = "float32",
        v_dtype: object = None,
        k_rows_dtype: object = None,
        v_rows_dtype: object = None,
        q_dtype: object = None,
        out_dtype: object = None,
        rotates_q: bool = False,
        writes_k: bool = True,
        writes_v: bool = True,
        rope: Optional[Rope] = None,
        ring_rows: Optional[int] = None,
        sink_tokens: int = 0,
        flags: Iterable[Flag] = (),
        layout: Layout = "bshd",
        inputs: Inputs = (),
        handle: Optional[Handle] = None,
    ) -> None:
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
            "page_size": page_size,
        }
        check_sizes(sizes)
        inputs = inputs if isinstance(inputs, (str, Mapping)) else tuple(inputs)
        packed = layout == "thd" or "cu_seqlens_q" in inputs
        geometry = Geometry(APPEND_AXES, layout_name(layout), packed_q=packed, pages=page_size is not None)
        binds = geometry.binds(inputs, INPUTS)
        if packed:
            binds.setdefault("cu_seqlens_q", (0, 0))
        dtypes = {"k_dtype": k_dtype, "v_dtype": v_dtype, "q_dtype": q_dtype or k_dtype, "out_dtype": out_dtype}
        rows = dtype_codes({"k_rows_dtype": k_rows_dtype, "v_rows_dtype": v_rows_dtype})
        present = tuple(name for name, wanted in (("k", writes_k), ("v", writes_v)) if wanted)
        for name in present:
            binds[name] = rows.get(f"{name}_rows_dtype", 0), 0
        self._plan(
            handle or default_handle(),
            _descriptor(rope, ring_rows, sink_tokens),
            geometry,
            sizes,
            dtype_codes(dtypes),
            binds,
            present,
            rotates_q=bool(rotates_q),
            flags=flag_bits(flags),
        )

    def _plan(
        self,
        handle: Handle,
        descriptor: _core.Append,
        geometry: Geometry,
        sizes: Mapping[str, Optional[int]],
        dtypes: Mapping[str, int],
        binds: Mapping[str, tuple[int, int]],
        present: tuple[str, ...],
        *,
        rotates_q: bool,
        flags: int,
    ) -> None:
        binds = {**binds, **{name: (0, _core.ABSENT) for name in _ROWS if name not in present}}
        if rotates_q:
            binds.update(q=(0, 0), out=(0, 0))
        self._present, self._rotates_q = present, rotates_q
        problem = make_problem(sizes, dtypes, binds, (), flags)
        self._made(_core.Plan(handle._core, problem, descriptor), geometry, (), handle)

    def __call__(
        self,
        k: Optional[ArrayLike] = None,
        v: Optional[ArrayLike] = None,
        k_cache: Any = None,
        v_cache: Any = None,
        *,
        q: Optional[ArrayLike] = None,
        out: Any = None,
        stream: Any = None,
        **tensors: Unpack[_AppendInputs],
    ) -> Any:
        """Write new rows within the plan's bounds.

        Parameters
        ----------
        k, v, k_cache, v_cache, q, out, stream, **tensors
            As in `append`; the dtypes and the optional inputs must be those of the plan.

        Returns
        -------
        array or None
            Q rotated, where the plan has `rotates_q=True`.

        Raises
        ------
        attn.Error
            A tensor does not fit the plan, or overlaps another. Nothing has been written.
        TypeError, ValueError
            A tensor cannot be viewed, has the wrong number of axes, or a cache is read-only.
        """
        where = where_of((q, k, v, k_cache, v_cache, out, *tensors.values()), self._device, stream)
        views = self._views({**tensors, "q": q, "k": k, "v": v}, (*INPUTS, "q", "k", "v"), where)
        like = next((array for array in (q, k, v) if array is not None), None)
        return self._append(like, views, {"k_cache": k_cache, "v_cache": v_cache}, out, where)

    def _append(
        self,
        like: object,
        views: dict[str, _core.Tensor],
        caches: Mapping[str, Any],
        out: Any,
        where: Where,
        sizes: Optional[Sizes] = None,
        ready: Mapping[str, _core.Tensor] = {},
    ) -> Any:
        results = {name: cache for name, cache in caches.items() if cache is not None}
        for name in self._present:
            if f"{name}_cache" not in results:
                raise ValueError(f"{name}_cache = None: must be an array, {name} being appended")
        if self._rotates_q and "q" not in views:
            raise ValueError("q = None: must be an array, the plan rotates it")
        if self._rotates_q or out is not None:
            results["out"] = out
        computed = self._run(like, views, results, where, sizes=sizes, ready=ready)
        return computed["out"] if self._rotates_q else None

    def __repr__(self) -> str:
        return f"<attn.AppendPlan of {', '.join(self._present)}, workspace: {self.workspace_bytes} bytes>"


def _descriptor(rope: Optional[Rope], ring_rows: Optional[int], sink_tokens: int) -> _core.Append:
    if rope is not None and not isinstance(rope, Rope):
        raise TypeError(f"rope = {rope!r}: must be None or an attn.Rope")
    descriptor = _core.Append()
    descriptor.ring_rows = at_least_one("ring_rows", ring_rows)
    descriptor.sink_tokens = integer("sink_tokens", sink_tokens) or 0
    if rope is not None:
        rope._write(descriptor)
    return descriptor


@overload
def append(
    k: Optional[ArrayLike],
    v: Optional[ArrayLike],
    k_cache: Any,
    v_cache: Any,
    *,
    q: None = ...,
    out: None = ...,
    **arguments: Unpack[_Arguments],
) -> None: ...
@overload
def append(
    k: Optional[ArrayLike],
    v: Optional[ArrayLike],
    k_cache: Any,
    v_cache: Any,
    *,
    q: A,
    out: Optional[A] = ...,
    **arguments: Unpack[_Arguments],
) -> A: ...
def append(
    k: Optional[ArrayLike],
    v: Optional[ArrayLike],
    k_cache: Any,
    v_cache: Any,
    *,
    rope: Optional[Rope] = None,
    ring_rows: Optional[int] = None,
    sink_tokens: int = 0,
    paged: Optional[bool] = None,
    flags: Iterable[Flag] = (),
    layout: Layout = "bshd",
    cu_seqlens_q: Optional[ArrayLike] = None,
    max_seqlen_q: Optional[int] = None,
    seqlens_q: Optional[ArrayLike] = None,
    seqlens_kv: Optional[ArrayLike] = None,
    block_table: Optional[ArrayLike] = None,
    block_table_ptr: Optional[ArrayLike] = None,
    slot_mapping: Optional[ArrayLike] = None,
    positions_q: Optional[ArrayLike] = None,
    rope_cos: Optional[ArrayLike] = None,
    rope_sin: Optional[ArrayLike] = None,
    q: Any = None,
    out: Any = None,
    handle: Optional[Handle] = None,
    stream: Any = None,
) -> Any:
    """Write new rows of K and V into caches, in place; optionally rotate K, and Q beside it.

    New row t of Tq of sequence b goes to row `seqlens_kv[b] - Tq + t` of its cache: lengths count the new rows, so that
    the same array serves the attention that follows. Rows that no new one goes to keep every bit.

    Parameters
    ----------
    k : array, optional
        `[B, Tq, Hk, D]` new rows; float32, float16 or bfloat16. None: K is not written.
    v : array, optional
        `[B, Tq, Hv, Dv]` new rows. None: V is not written.
    k_cache : array, optional
        `[B, rows, Hk, D]`, or pages of all sequences `[pages, rows, Hk, D]`; written. Its dtype may differ from that of
        `k`: conversions round to nearest even. None exactly where `k` is.
    v_cache : array, optional
        Likewise, of V.
    rope : Rope, optional
        Rotate K (and Q) at `positions_q`, else at the row of the cache before a ring wraps it.
    ring_rows : int, optional
        The cache is a ring: rows from `sink_tokens` on wrap around within this many.
    sink_tokens : int
        First rows of a ring that are never overwritten.
    paged : bool, optional
        Whether the caches are pages. Default: where `block_table` is given.
    flags, layout
        As in `attention`; `layout` is also that of the caches.
    cu_seqlens_q : array, optional
        `[B + 1]` integers: sequence b brings rows `cu[b]` to `cu[b + 1]` of packed K, V and Q, `[total, H, D]`; with
        `layout="thd"`. The caches stay as they are.
    max_seqlen_q : int, optional
        Most new rows of a sequence, where packed. Default: found from the lengths.
    seqlens_q : array, optional
        `[B]` integers: only the first new rows of each sequence count.
    seqlens_kv : array, optional
        `[B]` integers: lengths with the new rows. Default: the new rows are the first.
    block_table : array, optional
        `[B, n]` integers: the pages of each sequence, in order.
    block_table_ptr : array, optional
        `[B + 1]` integers: `block_table` is flat, and sequence b owns a range of it.
    slot_mapping : array, optional
        `[B, Tq]` int64 (packed: `[total]`): the row of each new token instead, in the cache of its sequence, or among
        all pages, `page * rows + row`; -1 skips it. RoPE then needs `positions_q`.
    positions_q : array, optional
        `[B, Tq]` integers (packed: `[total]`): where to rotate.
    rope_cos, rope_sin : array, optional
        `[positions, dim / 2]` float32, for `Rope(source="table")`.
    q : array, optional
        `[B, Tq, Hq, D]`: rotated too (or copied, without `rope`), into `out`.
    out : array, optional
        Where to write the rotated Q.
    handle : Handle, optional
        Threads and device. Default: one handle of the process for the device of `q`, else of `k` or `v`.
    stream : int or stream, optional
        As in `attention`.

    Returns
    -------
    array or None
        Q rotated, if `q` is given: `out`, or a new array of its library and dtype.

    Raises
    ------
    attn.Error
        The library refuses the call (sizes, dtypes, options, lengths, pages, overlap); the message names field, value
        and rule. Nothing has been written.
    TypeError, ValueError
        An array cannot be viewed, has the wrong number of axes, or must be writable and is not; an option has no
        meaning.

    Notes
    -----
    May be called from any thread, but not on one cache by two at once; the GIL is released. Plans are kept as those of
    `attention` are. Paged caches: Kwon et al., Efficient Memory Management for Large Language Model Serving with
    PagedAttention, 2023. Rings with sink tokens: Xiao et al., Efficient Streaming Language Models with Attention Sinks,
    2023.

    Examples
    --------
    >>> import numpy as np, attn
    >>> k_cache, v_cache = np.zeros((2, 1, 256, 4, 64), np.float32)
    >>> q, k, v = np.random.rand(3, 1, 1, 4, 64).astype(np.float32)
    >>> lengths = np.array([1], np.int32)
    >>> q = attn.append(k, v, k_cache, v_cache, q=q, rope=attn.Rope(), seqlens_kv=lengths)
    >>> attn.attention(q, k_cache, v_cache, seqlens_kv=lengths).shape
    (1, 1, 4, 64)
    """
    packed = cu_seqlens_q is not None
    pages = block_table is not None if paged is None else bool(paged)
    geometry = Geometry(APPEND_AXES, layout_name(layout), packed_q=packed, pages=pages)
    if max_seqlen_q is not None and not packed:
        raise ValueError("max_seqlen_q: must be None where the new rows are not packed; their shape says it")
    caches = {"k_cache": k_cache, "v_cache": v_cache}
    for name, rows in (("k", k), ("v", v)):
        if (rows is None) != (caches[f"{name}_cache"] is None):
            raise ValueError(f"{name} and {name}_cache: must be given together, or neither")
    if q is None and out is not None:
        raise ValueError("out: must be None where q is")
    arrays = {
        "cu_seqlens_q": cu_seqlens_q,
        "seqlens_q": seqlens_q,
        "seqlens_kv": seqlens_kv,
        "block_table": block_table,
        "block_table_ptr": block_table_ptr,
        "slot_mapping": slot_mapping,
        "positions_q": positions_q,
        "rope_cos": rope_cos,
        "rope_sin": rope_sin,
        "q": q,
        "k": k,
        "v": v,
    }
    written = {**caches, "out": out}
    every = (q, k, v, *arrays.values(), *written.values())
    where = where_of(every, handle._device if handle else None, stream)
    views = {name: geometry.view(array, name, where) for name, array in arrays.items() if array is not None}
    into = {
        name: geometry.view(array, name, where, writable=True) for name, array in written.items() if array is not None
    }
    present = tuple(name for name in _ROWS if name in views)
    if not present and q is None:
        raise ValueError("k, v and q: at least one of them must be given")
    first = views[(*present, "q")[0]]
    for name in (*present, "q"):
        if name in views and 0 in views[name].shape[-2:]:
            raise ValueError(f"{name} has shape {views[name].shape}: must have at least one head and one channel")

    if packed:
        lengths, total = views["cu_seqlens_q"], first.shape[0]
        batch = max((lengths.shape or (0,))[0] - 1, 0)
        longest = longest_of("max_seqlen_q", max_seqlen_q, lengths, total)
    else:
        batch, longest, total = first.shape[0], first.shape[1], 0
    page_size = None
    max_kv = 1 << 31  # no cache bounds the positions
    if present:
        cache = into[f"{present[0]}_cache"]
        max_kv = cache.shape[1]
        if pages:
            page_size = cache.shape[1]
            if page_size == 0:
                raise ValueError(f"{present[0]}_cache has shape {cache.shape}: its pages must have at least 1 row")
            columns = (views["block_table"].shape or (0,))[-1] if "block_table" in views else cache.shape[0]
            max_kv = columns * page_size
    heads = {name: view.shape[-2] for name, view in views.items() if name in ("q", "k", "v")}
    like_k = "k" if "k" in views else "q" if "q" in views else "v"
    sizes: dict[str, Optional[int]] = {
        "batch": max(batch, 1),
        "heads_q": heads.get("q"),
        "heads_k": heads[like_k],
        "heads_v": heads.get("v"),
        "dim_qk": views[like_k].shape[-1],
        "dim_v": views["v"].shape[-1] if "v" in views else None,
        "max_q": round_up(longest),
        "max_kv": max(max_kv, 1),
        "total_q": round_up(total) if packed else None,
        "page_size": page_size,
    }
    cache_dtypes = {name: into[f"{name}_cache"].dtype for name in present}
    q_dtype = views["q"].dtype if q is not None else cache_dtypes[present[0]]
    dtypes = {
        "q_dtype": q_dtype,
        "k_dtype": cache_dtypes.get("k", 0),
        "v_dtype": cache_dtypes.get("v", 0),
        "out_dtype": into["out"].dtype if "out" in into else 0,
    }
    binds = {name: (view.dtype, 0) for name, view in views.items()}
    bits, owner = flag_bits(flags), handle or default_handle(where[:2])
    descriptor = _descriptor(rope, ring_rows, sink_tokens)

    def make() -> AppendPlan:
        plan = AppendPlan.__new__(AppendPlan)
        plan._plan(owner, descriptor, geometry, sizes, dtypes, binds, present, rotates_q=q is not None, flags=bits)
        return plan

    key = ("append", rope, ring_rows, sink_tokens, layout, bits, *sizes.values(), *dtypes.values(), *binds.items())
    plan: AppendPlan = owner._plan(key, make)
    like = next(array for array in (q, k, v) if array is not None)
    return plan._append(like, views, caches, out, where, (batch, longest, 0, total, 0), into)

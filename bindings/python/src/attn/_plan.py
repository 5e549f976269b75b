"""`Plan`, dense attention prepared once, and what it shares with the other kinds of plans."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Optional, TypedDict, Union

from . import _core
from ._arrays import DTYPE_NAMES, ArrayLike, deliver, dtype_code, empty, tensor
from ._geometry import DENSE_AXES, Geometry
from ._handle import Handle, default_handle
from ._options import DenseOptions, Inputs, Options, flag_bits, integer, size
from ._where import CPU, Scratch, StatusTensor, Where, where_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

Output = Literal["lse", "row_max", "row_entropy", "column_mass"]
Sizes = tuple[int, int, int, int, int]

OUTPUTS = ("lse", "row_max", "row_entropy", "column_mass")
INPUTS = (
    "cu_seqlens_q",
    "cu_seqlens_kv",
    "seqlens_q",
    "seqlens_kv",
    "block_table",
    "block_table_ptr",
    "positions_q",
    "positions_kv",
    "ids_q",
    "ids_kv",
    "bias",
    "bias_table",
    "bias_lowrank_q",
    "bias_lowrank_k",
    "alibi_slopes",
    "sink_logits",
    "q_temperature",
    "v_temperature",
    "gate",
    "head_weight",
)


class DenseInputs(TypedDict, total=False):
    """The optional inputs of `attention` and `Plan`; see `attention`."""

    cu_seqlens_q: Optional[ArrayLike]
    cu_seqlens_kv: Optional[ArrayLike]
    seqlens_q: Optional[ArrayLike]
    seqlens_kv: Optional[ArrayLike]
    block_table: Optional[ArrayLike]
    block_table_ptr: Optional[ArrayLike]
    positions_q: Optional[ArrayLike]
    positions_kv: Optional[ArrayLike]
    ids_q: Union[ArrayLike, Mapping[int, ArrayLike], None]
    ids_kv: Union[ArrayLike, Mapping[int, ArrayLike], None]
    bias: Optional[ArrayLike]
    bias_table: Optional[ArrayLike]
    bias_lowrank_q: Optional[ArrayLike]
    bias_lowrank_k: Optional[ArrayLike]
    alibi_slopes: Optional[ArrayLike]
    sink_logits: Optional[ArrayLike]
    q_temperature: Optional[ArrayLike]
    v_temperature: Optional[ArrayLike]
    gate: Optional[ArrayLike]
    head_weight: Optional[ArrayLike]


class DenseOutputs(TypedDict, total=False):
    """Where to write the further results of `attention` and `Plan`; see `attention`."""

    lse: Any
    row_max: Any
    row_entropy: Any
    column_mass: Any


class _DenseTensors(DenseInputs, DenseOutputs, total=False):
    pass


def spread(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs by name, those of several pairs of ids apart: "ids_q" is of pair 0, "ids_q[3]" of pair 3."""
    apart: dict[str, Any] = {}
    for name, value in inputs.items():
        if name in ("ids_q", "ids_kv") and isinstance(value, Mapping):
            for pair, array in value.items():
                number = integer(f"a pair of {name}", pair)
                apart[f"{name}[{number}]" if number else name] = array
        else:
            apart[name] = value
    return apart


def place(name: str) -> tuple[int, int]:
    """Slot and index of an input that `spread` named."""
    slot, _, index = name.partition("[")
    return _core.SLOTS[slot], int(index[:-1] or 0)


def output_names(outputs: Iterable[str], known: Sequence[str] = OUTPUTS) -> tuple[str, ...]:
    """The names of further results, checked."""
    if isinstance(outputs, str):
        raise TypeError(f"outputs = {outputs!r}: must be a collection of names, not one name")
    names = tuple(outputs)
    for name in names:
        if name not in known:
            raise ValueError(f"outputs: {name!r} is not one of {', '.join(known)}")
    if len(set(names)) != len(names):
        raise ValueError(f"outputs = {names}: must name each at most once")
    return names


def make_problem(
    sizes: Mapping[str, Optional[int]],
    dtypes: Mapping[str, object],
    binds: Mapping[str, tuple[int, int]],
    outputs: Iterable[str],
    flags: int = 0,
) -> _core.Problem:
    """The descriptor common to all plans; sizes and dtypes that are None or 0 take the default."""
    problem = _core.Problem()
    for name, value in (*sizes.items(), *dtypes.items()):
        if value:
            setattr(problem, name, value)
    problem.flags = flags
    for name, (dtype, bind_flags) in binds.items():
        slot, index = place(name)
        problem.bind(slot, dtype, bind_flags, index)
    for name in outputs:
        problem.bind(_core.SLOTS[name], 0, 0)
    return problem


def longest_of(name: str, given: Optional[int], lengths: _core.Tensor, total: int) -> int:
    """The longest sequence: what the caller says, else what the cumulative lengths of `total` rows show."""
    if given is not None:
        return size(name, given)
    step = lengths.largest_step()
    if step < 0:
        raise ValueError(f"{name} = None: must be given where lengths are on a GPU; looking at them would wait for it")
    return min(step, total)


def check_sizes(sizes: Mapping[str, Optional[int]]) -> None:
    for name, value in sizes.items():
        if value is not None and integer(name, value) == 0:
            raise ValueError(f"{name} = 0: must be at least 1")  # 0 is the ABI's "default"


def dtype_codes(dtypes: Mapping[str, object]) -> dict[str, int]:
    return {name: dtype_code(dtype, name) for name, dtype in dtypes.items() if dtype is not None}


class BasePlan:
    """A plan of any kind, with the places of its tensors. Made by its subclasses."""

    __slots__ = ("__weakref__", "_device", "_geometry", "_native", "_outputs", "_slots")

    _native: _core.Plan
    _geometry: Geometry
    _outputs: tuple[str, ...]  # further results that a call returns, in this order

    def _made(self, plan: _core.Plan, geometry: Geometry, outputs: tuple[str, ...], handle: Handle) -> None:
        self._native, self._geometry, self._outputs = plan, geometry, outputs
        self._device = handle._device
        self._slots = plan.slots()

    @property
    def workspace_bytes(self) -> int:
        """Scratch memory, in bytes, that suffices for every call."""
        return self._native.workspace_bytes

    def describe(self) -> dict[str, Any]:
        """What was planned: kernel, FLOPs, bytes, workspace, tensors, and why other kernels were refused."""
        description: dict[str, Any] = json.loads(self._native.describe())
        return description

    def _views(self, arrays: Mapping[str, object], known: Sequence[str], where: Where) -> dict[str, _core.Tensor]:
        """View the inputs that are given."""
        for name in arrays:
            if name.partition("[")[0] not in known:
                raise TypeError(f"{name}: not an argument of {type(self).__name__}; must be one of {', '.join(known)}")
        return {name: self._geometry.view(array, name, where) for name, array in arrays.items() if array is not None}

    def _run(
        self,
        like: object,
        views: Mapping[str, _core.Tensor],
        results: Mapping[str, Any],
        where: Where,
        *,
        extents: Mapping[str, int] = {},
        sizes: Optional[Sizes] = None,
        parts: Sequence[tuple[int, int, _core.Tensor]] = (),
        ready: Mapping[str, _core.Tensor] = {},
    ) -> dict[str, Any]:
        """Execute, making the results that are None; returns all of them by name. `ready` has views of some others.

        The library says which dtype and which bounds they have; their tokens are as many as those of Q and K, unless
        `extents` says otherwise.
        """
        geometry = self._geometry
        found: dict[str, int] = {}
        for name in ("q", "k"):
            if name in views:
                found.update(zip(geometry.axes(name), views[name].shape))
        found.update(extents)
        arguments = [(*place(name), view) for name, view in views.items()]
        arguments.extend(parts)
        made = {}
        for name, result in results.items():
            if result is None:
                dtype, bounds = self._slots[_core.SLOTS[name]]
                axes = geometry.axes(name)
                shape = [bound if axis.isupper() else found.get(axis, bound) for axis, bound in zip(axes, bounds)]
                result = made[name] = empty(geometry.in_layout(name, shape), dtype, like, where)
            # A new array is ours to write, also where its library forbids it to others.
            view = ready[name] if name in ready else geometry.view(result, name, where, writable=name not in made)
            arguments.append((_core.SLOTS[name], 0, view))
        if where.device == CPU:
            self._native.execute(arguments, sizes)
        else:
            self._launch(arguments, sizes, like, where)
        return {name: deliver(made[name], like) if name in made else result for name, result in results.items()}

    def _launch(
        self, arguments: list[tuple[int, int, _core.Tensor]], sizes: Optional[Sizes], like: object, where: Where
    ) -> None:
        """Enqueue a call on a GPU; in checked mode wait for what it has to say."""
        size = self._native.workspace_for(sizes)
        workspace = Scratch(size, like, where)
        status = None
        if _core.SLOTS["status"] in self._slots:
            status = StatusTensor(where)
            arguments.append((_core.SLOTS["status"], 0, tensor(status, "status", where=where)))
        self._native.launch(arguments, where.stream, workspace.address, size)
        if status is not None:
            status.raise_fault()
        elif not where.ordered:
            _core.synchronize(where.device_id, where.stream)

    def __repr__(self) -> str:
        dtype, bounds = self._slots[_core.SLOTS["out"]]
        kind = type(self).__name__
        return f"<attn.{kind} out: {DTYPE_NAMES[dtype]}{list(bounds)}, workspace: {self.workspace_bytes} bytes>"


class Plan(BasePlan):
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
    bias_rank : int, optional
        Channels of `bias_lowrank_q` and `bias_lowrank_k`.
    q_dtype : str or dtype
        "float32", "float16", "bfloat16", ..., a NumPy dtype or a torch.dtype.
    k_dtype, v_dtype, out_dtype : str or dtype, optional
        Default: that of Q, that of K, that of Q.
    v_aliases_k : bool
        V is the first `dim_v` channels of K, and calls bring no V (absorbed MLA).
    inputs : iterable of str, or mapping of str to dtype or Input
        Optional inputs that every call will bring, by the names that `attention` has for them; `Input` says which
        dtype they have if not the default, and which of their axes are of extent 1 and repeated. `layout="thd"` implies
        `cu_seqlens_q` and, unless K is paged, `cu_seqlens_kv`; `page_size` implies `block_table`; the alignment
        "by_position" both positions; `bias_rank` both parts of the low-rank bias; `bias_lookup` implies `bias_table`,
        `mask` the ids that it reads: "ids_q" and "ids_kv" are those of pair 0, "ids_q[3]" of pair 3.
    outputs : iterable of {"lse", "row_max", "row_entropy", "column_mass"}
        What calls compute and return beside OUT.
    handle : Handle, optional
        Default: one handle of the process, on the CPU with all cores.
    **options
        `causal`, `align`, `window`, `sink_tokens`, `mask`, `scale`, `softcap`, `activation`, `activation_bias`,
        `activation_length`, `bias_stage`, `bias_lookup`, `gate_kind`, `precision`, `flags`, `layout`, as in
        `attention`.

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

    __slots__ = ("_aliased",)

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
        bias_rank: Optional[int] = None,
        q_dtype: object = "float32",
        k_dtype: object = None,
        v_dtype: object = None,
        out_dtype: object = None,
        v_aliases_k: bool = False,
        inputs: Inputs = (),
        outputs: Iterable[Output] = (),
        handle: Optional[Handle] = None,
        **options: Unpack[DenseOptions],
    ) -> None:
        for name in options:
            if name not in DenseOptions.__annotations__:
                raise TypeError(f"{name}: not an argument of Plan")
        checked = Options(**options)
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
        check_sizes({**sizes, "bias_rank": bias_rank})
        dtypes = {"q_dtype": q_dtype, "k_dtype": k_dtype, "v_dtype": v_dtype, "out_dtype": out_dtype}
        inputs = inputs if isinstance(inputs, (str, Mapping)) else tuple(inputs)
        packed_q = checked.layout == "thd" or "cu_seqlens_q" in inputs
        packed_kv = (checked.layout == "thd" and page_size is None) or "cu_seqlens_kv" in inputs
        geometry = Geometry(
            DENSE_AXES, checked.layout, packed_q=packed_q, packed_kv=packed_kv, pages=page_size is not None
        )
        binds = geometry.binds(inputs, INPUTS)
        for name, packed in (("cu_seqlens_q", packed_q), ("cu_seqlens_kv", packed_kv)):
            if packed:
                binds.setdefault(name, (0, 0))
        self._plan(
            handle or default_handle(),
            checked,
            geometry,
            sizes,
            dtype_codes(dtypes),
            binds,
            output_names(outputs),
            bias_rank=bias_rank or 0,
            aliased=bool(v_aliases_k),
        )

    def _plan(
        self,
        handle: Handle,
        options: Options,
        geometry: Geometry,
        sizes: Mapping[str, Optional[int]],
        dtypes: Mapping[str, int],
        binds: Mapping[str, tuple[int, int]],
        outputs: tuple[str, ...],
        *,
        bias_rank: int,
        aliased: bool,
    ) -> None:
        problem = make_problem(sizes, dtypes, binds, outputs, options.flags | (_core.V_ALIASES_K if aliased else 0))
        problem.scale = options.scale
        problem.precision = options.precision
        dense = options.dense()
        dense.bias_rank = bias_rank
        self._aliased = aliased
        self._made(_core.Plan(handle._core, problem, dense), geometry, outputs, handle)

    def __call__(
        self,
        q: ArrayLike,
        k: ArrayLike,
        v: Optional[ArrayLike] = None,
        *,
        out: Any = None,
        stream: Any = None,
        **tensors: Unpack[_DenseTensors],
    ) -> Any:
        """Compute attention of tensors within the plan's bounds.

        Parameters
        ----------
        q, k, v, out, stream, **tensors
            As in `attention`; the dtypes and the optional inputs must be those of the plan. `v` is left out where it
            aliases K.

        Returns
        -------
        array or tuple of arrays
            OUT, or a tuple of OUT and the plan's `outputs` in the order that it was given.

        Raises
        ------
        attn.Error
            A tensor does not fit the plan, or overlaps an output. Nothing has been written.
        TypeError, ValueError
            A tensor cannot be viewed, has the wrong number of axes, or a result is read-only.
        """
        given: dict[str, Any] = {name: array for name, array in spread(tensors).items() if array is not None}
        where = where_of((q, k, v, out, *given.values()), self._device, stream)
        results = {"out": out, **{name: given.pop(name, None) for name in self._outputs}}
        results.update({name: given.pop(name) for name in OUTPUTS if name in given})  # which the library will refuse
        views = self._views({**given, "q": q, "k": k}, (*INPUTS, "q", "k"), where)
        if v is not None or not self._aliased:
            views["v"] = self._geometry.view(v, "v", where)
        computed = self._run(q, views, results, where)
        if not self._outputs:
            return computed["out"]
        return (computed["out"], *(computed[name] for name in self._outputs))

    def __repr__(self) -> str:
        dtype, bounds = self._slots[_core.SLOTS["q"]]
        return f"<attn.Plan q: {DTYPE_NAMES[dtype]}{list(bounds)}, workspace: {self.workspace_bytes} bytes>"

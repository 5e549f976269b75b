"""`linear_attention`: linear and recurrent attention, from one descriptor. Experimental."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Optional

from . import _core
from ._arrays import ArrayLike, deliver, dtype_code, empty, tensor
from ._handle import Handle, default_handle
from ._options import Flag, choice, flag_bits, integer, not_zero, real, round_up

DecayForm = Literal["log", "softplus", "sigmoid", "log_sigmoid"]
Update = Literal["add", "delta", "gated_delta", "dplr"]
FeatureMap = Literal["identity", "elu1", "relu", "silu", "softmax", "taylor2", "hedgehog"]
StateLayout = Literal["kv", "vk"]

# The inputs that come with tokens or heads, by name; those of a call follow from the update and the forms.
_TOKENS = ("decay", "beta", "erase", "write", "dplr_b", "dplr_c")
_HEADS = ("bonus", "a_log", "dt_bias")
_INTEGERS = ("cu_seqlens_q", "cu_seqlens_kv", "seqlens_q", "seqlens_kv", "state_index")


class LinearMethod:
    """The options of `linear_attention` that make a method, and its states outside of calls.

    Parameters
    ----------
    decay : {None, "head", "token", "channel"}
        What the decay is constant over.
    decay_form : {"log", "softplus", "sigmoid", "log_sigmoid"}
        How the input `decay` x becomes the log decay: `x`, `-exp(a_log) softplus(x + dt_bias)`,
        `lower_bound sigmoid(exp(a_log) (x + dt_bias))`, `decay_scale log(sigmoid(x))`.
    update : {"add", "delta", "gated_delta", "dplr"}
        What a key writes, see `attn_update` of the C header.
    read_before : bool
        A query reads the state before its own key, which counts through `bonus` (RWKV-6).
    feature_map : {"identity", "elu1", "relu", "silu", "softmax", "taylor2", "hedgehog"}
        Applied to the rows of Q and K.
    qk_l2norm, normaliser, bidirectional, recurrent : bool
        Unit rows of Q and K; division by the sum of weights; every query reads all keys; token by token in double
        precision, the reference.
    scale : float, optional
        Of the outputs. Default: `1 / sqrt(dim_qk)`.
    chunk : int, optional
        Tokens of a chunk. Default: chosen.
    decay_lower_bound, decay_scale, normaliser_eps : float, optional
        See the C header.
    state_layout : {"kv", "vk"}
        Order of the last two axes of states.
    state_dtype : str or dtype, optional
        Default: float32.
    """

    __slots__ = ("_dtype", "_fields", "_key", "_scale")

    def __init__(
        self,
        *,
        decay: Optional[Literal["head", "token", "channel"]] = None,
        decay_form: DecayForm = "log",
        update: Update = "add",
        read_before: bool = False,
        feature_map: FeatureMap = "identity",
        qk_l2norm: bool = False,
        normaliser: bool = False,
        bidirectional: bool = False,
        recurrent: bool = False,
        scale: Optional[float] = None,
        chunk: Optional[int] = None,
        decay_lower_bound: Optional[float] = None,
        decay_scale: Optional[float] = None,
        normaliser_eps: float = 0.0,
        state_layout: StateLayout = "kv",
        state_dtype: object = None,
    ) -> None:
        flags = 0
        for name, wanted in (("qk_l2norm", qk_l2norm), ("normaliser", normaliser), ("bidirectional", bidirectional),
                             ("recurrent", recurrent)):  # fmt: skip
            flags |= _core.LINEAR_FLAGS[name] if wanted else 0
        self._scale = not_zero("scale", scale)
        self._dtype = _core.DTYPES["float32"] if state_dtype is None else dtype_code(state_dtype, "state_dtype")
        self._fields: dict[str, Any] = {
            "flags": flags,
            "decay": choice("decay", decay, _core.DECAYS, optional=True),
            "decay_form": choice("decay_form", decay_form, _core.DECAY_FORMS),
            "update": choice("update", update, _core.UPDATES),
            "read": int(bool(read_before)),
            "feature_map": choice("feature_map", feature_map, _core.FEATURE_MAPS),
            "chunk": integer("chunk", chunk) or 0,
            "decay_lower_bound": not_zero("decay_lower_bound", decay_lower_bound),
            "decay_scale": not_zero("decay_scale", decay_scale),
            "normaliser_eps": real("normaliser_eps", normaliser_eps),
            "state_layout": choice("state_layout", state_layout, _core.STATE_LAYOUTS),
        }
        self._key = (*self._fields.values(), self._scale, self._dtype)

    def _descriptor(self, states: bool, per_token: bool = False) -> _core.Linear:
        linear = _core.Linear()
        for name, value in self._fields.items():
            if value and (states or name != "state_layout"):
                setattr(linear, name, value)
        if states:
            linear.state_dtype = self._dtype
        linear.state_keep = int(per_token)
        return linear

    def _has(self, flag: str) -> bool:
        return bool(self._fields["flags"] & _core.LINEAR_FLAGS[flag])

    def _features(self, dim: int) -> int:
        if self._fields["feature_map"] == _core.FEATURE_MAPS["taylor2"]:
            return dim * (dim + 3) // 2 + 1
        return 2 * dim if self._fields["feature_map"] == _core.FEATURE_MAPS["hedgehog"] else dim

    def state_shape(self, heads_v: int, dim_qk: int, dim_v: int, states: int = 1) -> tuple[int, int, int, int]:
        """The shape of states of so many sequences."""
        rows, columns = self._features(dim_qk), dim_v + self._has("normaliser")
        if self._fields["state_layout"] == _core.STATE_LAYOUTS["vk"]:
            rows, columns = columns, rows
        return states, heads_v, rows, columns

    def new_state(self, heads_v: int, dim_qk: int, dim_v: int, states: int = 1, like: object = None) -> Any:
        """States of sequences without tokens: zeros."""
        state = empty(self.state_shape(heads_v, dim_qk, dim_v, states), self._dtype, like)
        state[...] = 0
        return state

    def _stored(self, state: object, dim_qk: int, writable: bool) -> tuple[_core.Problem, _core.Tensor]:
        """A problem of the sizes of states; rows and columns of its view say those of K and V."""
        view = tensor(state, "state", writable=writable)
        if view.ndim != 4:
            raise ValueError(f"state has shape {view.shape}, must have 4 axes")
        columns = view.shape[3 if self._fields["state_layout"] == _core.STATE_LAYOUTS["kv"] else 2]
        problem = _core.Problem()
        problem.q_dtype = _core.DTYPES["float32"]
        problem.heads_q = view.shape[1]
        problem.dim_qk, problem.dim_v = dim_qk, columns - self._has("normaliser")
        problem.max_q = 1
        problem.bind(_core.SLOTS["state_in"], 0, 0)
        return problem, view

    def save(self, state: ArrayLike, dim_qk: int, tokens: int = 0) -> bytes:
        """States in the portable form, with a checksum.

        Parameters
        ----------
        state : array
            Of `state_shape`.
        dim_qk : int
            Channels of Q and K.
        tokens : int
            A number to find again: the tokens that the states have seen.
        """
        problem, view = self._stored(state, dim_qk, False)
        return _core.save_states(problem, self._descriptor(True), view, tokens)

    def load(self, saved: bytes, state: Any, dim_qk: int) -> int:
        """Load into `state`, converted to its layout and dtype. Returns `tokens` as saved.

        Raises
        ------
        attn.Error
            The bytes are no saved state, have changed, or are of another method or size.
        """
        problem, view = self._stored(state, dim_qk, True)
        return _core.load_states(problem, self._descriptor(True), saved, view)


def linear_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    method: LinearMethod,
    *,
    decay: Optional[ArrayLike] = None,
    beta: Optional[ArrayLike] = None,
    erase: Optional[ArrayLike] = None,
    write: Optional[ArrayLike] = None,
    dplr_b: Optional[ArrayLike] = None,
    dplr_c: Optional[ArrayLike] = None,
    bonus: Optional[ArrayLike] = None,
    a_log: Optional[ArrayLike] = None,
    dt_bias: Optional[ArrayLike] = None,
    feature_q: Optional[ArrayLike] = None,
    feature_k: Optional[ArrayLike] = None,
    state: Any = None,
    state_out: Any = None,
    state_index: Optional[ArrayLike] = None,
    return_state: bool = False,
    per_token: bool = False,
    cu_seqlens_q: Optional[ArrayLike] = None,
    cu_seqlens_kv: Optional[ArrayLike] = None,
    seqlens_q: Optional[ArrayLike] = None,
    seqlens_kv: Optional[ArrayLike] = None,
    flags: Iterable[Flag] = (),
    out: Any = None,
    handle: Optional[Handle] = None,
) -> Any:
    """Linear attention: `S_t = update(decay_t S_{t-1}, k_t, v_t)`, `o_t = scale S_t^T q_t`. Experimental.

    Parameters
    ----------
    q, k, v : array
        `[B, T, Hq, C]`, `[B, T, Hk, C]`, `[B, T, Hv, D]`: float32, float16 or bfloat16. There is a state for each head
        of V; Hk divides Hv, Hq may be more or fewer. Bidirectional: K and V may have tokens of their own.
    method : LinearMethod
        Which recurrence; `attn.recipes` has those of the literature.
    decay : array, optional
        `[Hv]`, `[B, T, Hv]` or `[B, T, Hv, F]` by the method's decay, F features of K (C without a feature map).
    beta, erase, write, dplr_b, dplr_c : array, optional
        `[B, T, Hv]`, `[B, T, Hv, F]`, `[B, T, Hv, D]`, and twice `[B, T, Hv, F]`, where the update takes them.
    bonus, a_log, dt_bias : array, optional
        `[Hv, F]`, `[Hv]`, and `[Hv]` or `[Hv, F]`.
    feature_q, feature_k : array, optional
        `[Hq, C, C + 1]` and `[Hk, C, C + 1]`: W of a Hedgehog map with b as its last column.
    state : array, optional
        `[B, Hv, F, D]`, the state before the first token, D + 1 with a normaliser. Default: zero.
    state_out : array, optional
        Where to write the state after the last token; `state` itself updates it in place.
    state_index : array, optional
        `[B]`: which of the states of a pool are those of each sequence.
    return_state : bool
        Return `(out, state_out)`.
    per_token : bool
        `state_out` gets the state after each token, `[B, T, Hv, F, D]`.
    cu_seqlens_q, cu_seqlens_kv : array, optional
        Boundaries of packed sequences: tensors have no batch axis. Keys of their own only where bidirectional.
    seqlens_q, seqlens_kv : array, optional
        Only so many first tokens of each sequence are used.
    flags : iterable of str
        "checked" refuses gates and keys that let a state grow without bound.
    out : array, optional
        Where to write the result.
    handle : Handle, optional
        Default: one handle of the process, on the CPU with all cores.

    Returns
    -------
    array or tuple of arrays
        `[B, T, max(Hq, Hv), D]`, and the state where it is asked for.

    Raises
    ------
    attn.Error
        The library refuses the call; nothing has been written.
    TypeError, ValueError
        An array cannot be viewed, or has the wrong number of axes.
    """
    given: dict[str, object] = {
        "q": q, "k": k, "v": v, "decay": decay, "beta": beta, "erase": erase, "write": write, "dplr_b": dplr_b,
        "dplr_c": dplr_c, "bonus": bonus, "a_log": a_log, "dt_bias": dt_bias, "state_index": state_index,
        "cu_seqlens_q": cu_seqlens_q, "cu_seqlens_kv": cu_seqlens_kv, "seqlens_q": seqlens_q,
        "seqlens_kv": seqlens_kv,
    }  # fmt: skip
    views = {name: tensor(array, name) for name, array in given.items() if array is not None}
    packed = cu_seqlens_q is not None
    packed_kv = cu_seqlens_kv is not None or (packed and not method._has("bidirectional"))
    for name, axes in (("q", 3 if packed else 4), ("k", 3 if packed_kv else 4), ("v", 3 if packed_kv else 4)):
        if views[name].ndim != axes:
            raise ValueError(f"{name} has shape {views[name].shape}, must have {axes} axes")
    heads_v, dim_v, dim_qk = views["v"].shape[-2], views["v"].shape[-1], views["q"].shape[-1]
    rows = views["q"].shape[0] if packed else views["q"].shape[1]
    batch = max(views["cu_seqlens_q"].shape[0] - 1, 0) if packed else views["q"].shape[0]
    sizes: dict[str, Optional[int]] = {
        "batch": max(batch, 1),
        "heads_q": views["q"].shape[-2],
        "heads_k": views["k"].shape[-2],
        "heads_v": heads_v,
        "dim_qk": dim_qk,
        "dim_v": dim_v,
        "max_q": round_up(rows),
        "total_q": round_up(rows) if packed else None,
    }
    if method._has("bidirectional"):
        keys = views["k"].shape[0] if packed_kv else views["k"].shape[1]
        sizes.update(max_kv=round_up(keys), total_kv=round_up(keys) if cu_seqlens_kv is not None else None)
    for name in ("heads_q", "heads_k", "heads_v", "dim_qk", "dim_v"):
        if sizes[name] == 0:
            raise ValueError(f"{name} = 0: q, k and v must have at least one head and one channel")
    wants_state = return_state or state_out is not None or per_token
    binds = _binds(views, batch, rows, heads_v, packed)
    if state is not None:
        views["state_in"] = tensor(state, "state", writable=state_out is state)
        binds["state_in"] = (0, 0)
    if wants_state:
        binds["state_out"] = (0, 0)
    dtypes = {"q_dtype": views["q"].dtype, "k_dtype": views["k"].dtype, "v_dtype": views["v"].dtype}
    dtypes["out_dtype"] = 0 if out is None else tensor(out, "out").dtype
    bits = flag_bits(flags)
    owner = handle or default_handle()

    def make() -> _core.Plan:
        problem = _core.Problem()
        for name, value in (*sizes.items(), *dtypes.items()):
            if value:
                setattr(problem, name, value)
        problem.flags = bits
        problem.scale = method._scale
        for name, (dtype, bind_flags) in binds.items():
            problem.bind(_core.SLOTS[name], dtype, bind_flags)
        descriptor = method._descriptor("state_in" in binds or wants_state, per_token)
        return _core.Plan(owner._core, problem, descriptor)

    key = ("linear", method._key, per_token, bits, *sizes.items(), *dtypes.items(), *binds.items())
    plan: _core.Plan = owner._plan(key, make)
    arguments = [(_core.SLOTS[name], 0, view) for name, view in views.items()]
    for index, weights in enumerate((feature_q, feature_k)):
        if weights is not None:
            arguments.append((_core.SLOTS["feature"], index, tensor(weights, ("feature_q", "feature_k")[index])))
    made = out
    if made is None:
        heads = max(views["q"].shape[-2], heads_v)
        made = empty((*views["q"].shape[:-2], heads, dim_v), views["q"].dtype, q)
    arguments.append((_core.SLOTS["out"], 0, tensor(made, "out", writable=True)))
    after = state_out
    if wants_state:
        if after is None:
            shape = method.state_shape(heads_v, dim_qk, dim_v, batch)
            if per_token:
                after = empty((*views["q"].shape[:-2], *shape[1:]), method._dtype, q)
            else:
                after = empty(tuple(views["state_in"].shape) if state is not None else shape, method._dtype, q)
        arguments.append((_core.SLOTS["state_out"], 0, tensor(after, "state_out", writable=True)))
    plan.execute(arguments)
    result = deliver(made, q) if out is None else out
    if not return_state:
        return result
    return result, (deliver(after, q) if state_out is None else after)


def _binds(
    views: Mapping[str, _core.Tensor], batch: int, rows: int, heads_v: int, packed: bool
) -> dict[str, tuple[int, int]]:
    """`{name: (dtype, flags)}` of the optional inputs; axes of extent 1 that stand for more are repeated."""
    binds: dict[str, tuple[int, int]] = {}
    for name, view in views.items():
        if name in _INTEGERS:
            binds[name] = (view.dtype, 0)
        elif name in _HEADS:
            binds[name] = (view.dtype, _core.BROADCAST_AXIS0 if view.shape[:1] == (1,) and heads_v != 1 else 0)
        elif name in _TOKENS:
            wanted = (heads_v,) if view.ndim == 1 else (rows, heads_v) if packed else (batch, rows, heads_v)
            flags = 0
            for axis, (extent, full) in enumerate(zip(view.shape, wanted)):
                if extent == 1 and full != 1:
                    flags |= _core.BROADCAST_AXIS0 << axis
            binds[name] = (view.dtype, flags)
    return binds

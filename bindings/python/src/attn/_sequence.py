"""`causal_conv` and `gated_scan`: what linear layers have beside their recurrence. Experimental."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Optional, Union

from . import _core
from ._arrays import ArrayLike, deliver, dtype_code, empty, tensor
from ._handle import Handle, default_handle
from ._options import Flag, choice, flag_bits, round_up

_TOKENS = ("residual", "decay", "write")


class _Call:
    """X, its lengths and its states, which both kinds of plans have."""

    def __init__(
        self,
        x: ArrayLike,
        given: dict[str, object],
        *,
        state: Any,
        state_out: Any,
        return_state: bool,
        state_dtype: object,
        flags: Iterable[Flag],
        out: Any,
        handle: Optional[Handle],
    ) -> None:
        self.views = {name: tensor(array, name) for name, array in given.items() if array is not None}
        self.views["x"] = tensor(x, "x")
        packed = "cu_seqlens_q" in self.views
        axes = 3 if packed else 4
        shape = tuple(self.views["x"].shape)
        if len(shape) != axes:
            raise ValueError(f"x has shape {shape}, must have {axes} axes")
        if 0 in shape[-2:]:
            raise ValueError(f"x has shape {shape}, must have at least one head and one channel")
        self.batch = max(self.views["cu_seqlens_q"].shape[0] - 1, 0) if packed else shape[0]
        self.shape, self.heads, self.channels = shape, shape[-2], shape[-1]
        self.wants_state = return_state or state_out is not None
        self.return_state, self.state, self.state_out, self.out, self.x = return_state, state, state_out, out, x
        self.owner = handle or default_handle()
        self.bits = flag_bits(flags)
        self.state_dtype = None if state_dtype is None else dtype_code(state_dtype, "state_dtype")
        if state is not None:
            self.views["state_in"] = tensor(state, "state", writable=state_out is state)
            self.state_dtype = self.views["state_in"].dtype
        rows = shape[0] if packed else shape[1]
        self.sizes = {
            "batch": max(self.batch, 1), "heads_q": self.heads, "dim_qk": self.channels, "max_q": round_up(rows),
            "total_q": round_up(rows) if packed else 0, "q_dtype": self.views["x"].dtype,
            "out_dtype": 0 if out is None else tensor(out, "out").dtype,
        }  # fmt: skip
        self.binds = {name: (view.dtype, 0) for name, view in self.views.items() if name != "x"}
        if self.wants_state:
            self.binds["state_out"] = (0, 0)
        if "state_in" in self.binds:
            self.binds["state_in"] = (0, 0)
        for name in _TOKENS:
            if name in self.views:
                bits = 0
                for axis, (extent, full) in enumerate(zip(self.views[name].shape, shape)):
                    if extent == 1 and full != 1:
                        bits |= _core.BROADCAST_AXIS0 << axis
                self.binds[name] = (self.views[name].dtype, bits)

    def run(
        self, descriptor: Union[_core.Conv, _core.Scan], key: tuple[object, ...], state_rows: tuple[int, ...],
        state_default: int,
    ) -> Any:  # fmt: skip
        if self.wants_state or self.state is not None:
            dtype = self.state_dtype or state_default
            descriptor.state_dtype = dtype

        def make() -> _core.Plan:
            problem = _core.Problem()
            for name, value in self.sizes.items():
                if value:
                    setattr(problem, name, value)
            problem.flags = self.bits
            for name, (code, bind_flags) in self.binds.items():
                problem.bind(_core.SLOTS[name], code, bind_flags)
            return _core.Plan(self.owner._core, problem, descriptor)

        full_key = (*key, self.bits, descriptor.state_dtype, *self.sizes.items(), *self.binds.items())
        plan: _core.Plan = self.owner._plan(full_key, make)
        arguments = [(_core.SLOTS[name], 0, view) for name, view in self.views.items()]
        made = empty(self.shape, self.views["x"].dtype, self.x) if self.out is None else self.out
        arguments.append((_core.SLOTS["out"], 0, tensor(made, "out", writable=True)))
        after = self.state_out
        if self.wants_state:
            if after is None:
                shape = (self.batch, *state_rows, self.heads, self.channels)
                if self.state is not None:
                    shape = tuple(self.views["state_in"].shape)
                after = empty(shape, descriptor.state_dtype, self.x)
            arguments.append((_core.SLOTS["state_out"], 0, tensor(after, "state_out", writable=True)))
        plan.execute(arguments)
        result = deliver(made, self.x) if self.out is None else made
        if not self.return_state:
            return result
        return result, (deliver(after, self.x) if self.state_out is None else after)


def causal_conv(
    x: ArrayLike,
    weight: ArrayLike,
    bias: Optional[ArrayLike] = None,
    *,
    activation: Optional[Literal["silu"]] = None,
    residual: Optional[ArrayLike] = None,
    state: Any = None,
    state_out: Any = None,
    state_index: Optional[ArrayLike] = None,
    return_state: bool = False,
    state_dtype: object = None,
    cu_seqlens_q: Optional[ArrayLike] = None,
    seqlens_q: Optional[ArrayLike] = None,
    flags: Iterable[Flag] = (),
    out: Any = None,
    handle: Optional[Handle] = None,
) -> Any:
    """Causal depthwise convolution: `act(bias + sum_i weight[..., i] x[t - width + 1 + i]) + residual`. Experimental.

    Parameters
    ----------
    x : array
        `[B, T, H, C]`: float32, float16 or bfloat16.
    weight : array
        `[H, C, width]`, width 1 to 8, the tap of the token itself last.
    bias : array, optional
        `[H, C]`.
    activation : {None, "silu"}
        Of the sum.
    residual : array, optional
        As x: added after the activation.
    state : array, optional
        `[B, width - 1, H, C]`: the tokens before the first, the oldest first. Default: zeros.
    state_out : array, optional
        Where to write the last width - 1 tokens; `state` itself updates it in place.
    state_index : array, optional
        `[B]`: which of the states of a pool are those of each sequence.
    return_state : bool
        Return `(out, state_out)`.
    state_dtype : str or dtype, optional
        Of a new state. Default: that of x.
    cu_seqlens_q : array, optional
        Boundaries of packed sequences: x has no batch axis.
    seqlens_q : array, optional
        Only so many first tokens of each sequence are used.
    flags : iterable of str
        "checked" refuses a state that two sequences write.
    out : array, optional
        Where to write the result.
    handle : Handle, optional
        Default: one handle of the process, on the CPU with all cores.

    Returns
    -------
    array or tuple of arrays
        As x, and the state where it is asked for.
    """
    given: dict[str, object] = {
        "conv_weight": weight, "conv_bias": bias, "residual": residual, "state_index": state_index,
        "cu_seqlens_q": cu_seqlens_q, "seqlens_q": seqlens_q,
    }  # fmt: skip
    call = _Call(x, given, state=state, state_out=state_out, return_state=return_state, state_dtype=state_dtype,
                 flags=flags, out=out, handle=handle)  # fmt: skip
    if call.views["conv_weight"].ndim != 3:
        raise ValueError(f"weight has shape {tuple(call.views['conv_weight'].shape)}, must have 3 axes")
    descriptor = _core.Conv()
    descriptor.width = call.views["conv_weight"].shape[2]
    descriptor.activation = choice("activation", activation, _core.CONV_ACTIVATIONS, optional=True)
    key = ("conv", descriptor.width, descriptor.activation)
    return call.run(descriptor, key, (descriptor.width - 1,), call.views["x"].dtype)


def gated_scan(
    x: ArrayLike,
    decay: ArrayLike,
    *,
    write: Optional[ArrayLike] = None,
    form: Literal["log", "factor"] = "log",
    lerp: bool = False,
    state: Any = None,
    state_out: Any = None,
    state_index: Optional[ArrayLike] = None,
    return_state: bool = False,
    state_dtype: object = None,
    cu_seqlens_q: Optional[ArrayLike] = None,
    seqlens_q: Optional[ArrayLike] = None,
    flags: Iterable[Flag] = (),
    out: Any = None,
    handle: Optional[Handle] = None,
) -> Any:
    """Vector gated scan: `h[t] = a[t] h[t - 1] + write[t] x[t]` by channel, all h. Experimental.

    Parameters
    ----------
    x : array
        `[B, T, H, C]`: float32, float16 or bfloat16.
    decay : array
        `[B, T, H, C]`: log a, or with form "factor" a. An axis of extent 1 stands for all.
    write : array, optional
        `[B, T, H, C]`. Default: 1.
    form : {"log", "factor"}
        What `decay` is.
    lerp : bool
        x is weighed by `1 - a` instead (HGRN, RAT, minGRU).
    state : array, optional
        `[B, H, C]`, h before the first token. Default: zeros.
    state_dtype : str or dtype, optional
        Of a new state. Default: float32.
    state_out, state_index, return_state, cu_seqlens_q, seqlens_q, out, handle
        As in `causal_conv`.
    flags : iterable of str
        "checked" refuses decays that are none, and a state that two sequences write.

    Returns
    -------
    array or tuple of arrays
        As x, and the state where it is asked for.
    """
    given: dict[str, object] = {
        "decay": decay, "write": write, "state_index": state_index, "cu_seqlens_q": cu_seqlens_q,
        "seqlens_q": seqlens_q,
    }  # fmt: skip
    call = _Call(x, given, state=state, state_out=state_out, return_state=return_state, state_dtype=state_dtype,
                 flags=flags, out=out, handle=handle)  # fmt: skip
    descriptor = _core.Scan()
    descriptor.form = choice("form", form, _core.SCAN_FORMS)
    descriptor.flags = _core.SCAN_FLAGS["lerp"] if lerp else 0
    return call.run(descriptor, ("scan", descriptor.form, descriptor.flags), (), _core.DTYPES["float32"])

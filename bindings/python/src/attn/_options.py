"""Options in Python's terms: checked as far as the C ABI cannot, hashable, and written into descriptors."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Optional, SupportsIndex, TypedDict, Union

from . import _core

if TYPE_CHECKING:
    from .mask import Mask

Alignment = Literal["top_left", "bottom_right", "by_position"]
Activation = Literal["softmax", "sigmoid", "relu"]
BiasStage = Literal["post_softcap", "pre_softcap"]
GateKind = Literal["sigmoid", "linear", "silu"]
Precision = Literal["full", "tf32"]
Flag = Literal["allow_nondeterministic", "batch_invariant", "strict_nonfinite", "checked"]
Layout = Literal["bshd", "bhsd", "thd"]
Window = tuple[Optional[int], Optional[int]]

_LAYOUTS = ("bshd", "bhsd", "thd")


def integer(name: str, value: Optional[SupportsIndex]) -> Optional[int]:
    """`value` as an integer of 64 bits. Raises TypeError or ValueError naming it."""
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} = {value!r}: must be an integer") from None
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{name} = {number}: must fit in 64 bits")
    return number


def at_least_one(name: str, value: Optional[SupportsIndex]) -> int:
    """0 is the ABI's "default", so None becomes 0 and a 0 that was asked for is refused."""
    number = integer(name, value)
    if number == 0:
        raise ValueError(f"{name} = 0: must be at least 1; None takes the default")
    return number or 0


def size(name: str, value: int) -> int:
    """A number of rows that a call brings: it may be 0."""
    number = integer(name, value)
    if number is None or number < 0:
        raise ValueError(f"{name} = {number}: must be >= 0")
    return number


def round_up(extent: int) -> int:
    """The next power of two, so that calls of similar sizes share a plan; a bound must be at least 1."""
    return 1 << max(extent - 1, 0).bit_length()


def real(name: str, value: Optional[float]) -> float:
    """`value` as a float, None as 0."""
    try:
        return 0.0 if value is None else float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} = {value!r}: must be a number or None") from None


def not_zero(name: str, value: Optional[float]) -> float:
    """Likewise, where 0 is the ABI's "default" and so refused if it was asked for."""
    number = real(name, value)
    if number == 0 and value is not None:
        raise ValueError(f"{name} = 0: must not be 0; None takes the default")
    return number


def choice(name: str, value: object, values: Mapping[str, int], *, optional: bool = False) -> int:
    """The library's number of a named value; 0 for None where that is allowed."""
    if value is None and optional:
        return 0
    if not isinstance(value, str) or value not in values:
        raise ValueError(f"{name} = {value!r}: must be {'None or ' if optional else ''}one of {', '.join(values)}")
    return values[value]


def layout_name(value: object) -> str:
    if not isinstance(value, str) or value not in _LAYOUTS:
        raise ValueError(f"layout = {value!r}: must be one of {', '.join(_LAYOUTS)}")
    return value


def flag_bits(names: Iterable[str]) -> int:
    """The bits of attn_problem.flags."""
    if isinstance(names, str):
        raise TypeError(f"flags = {names!r}: must be a collection of names, not one name")
    bits = 0
    for name in names:
        bits |= choice("flags", name, _core.FLAGS)
    return bits


@dataclass(frozen=True)
class BiasLookup:
    """Which entry of `bias_table` a query and a key look up; distance = key minus the key level with the query.

    Parameters
    ----------
    kind : {"distance", "bucket", "grid"}
        "distance": entry `clip(distance, -max_distance, max_distance) + max_distance` of `2 * max_distance + 1`.
        "bucket": T5, one of `buckets` entries: exact for near keys, then logarithmic up to `max_distance`.
        "grid": Swin, tokens are the points of a grid in row-major order, an entry for each relative position:
        `prod(2 * n - 1 for n in grid)`.
    bidirectional : bool
        "bucket": half of the buckets are for keys behind the diagonal; else those share bucket 0.
    buckets : int, optional
        "bucket": how many. Default: 32.
    max_distance : int, optional
        "distance", "bucket". Default: 128.
    grid : sequence of int
        "grid": one to four extents.

    Notes
    -----
    "bucket": Raffel et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, 2020.
    "grid": Liu et al., Swin Transformer, 2021.
    """

    kind: Literal["distance", "bucket", "grid"] = "distance"
    bidirectional: bool = False
    buckets: Optional[int] = None
    max_distance: Optional[int] = None
    grid: Sequence[int] = ()

    def __post_init__(self) -> None:
        choice("kind", self.kind, _core.TABLE_KINDS)
        at_least_one("buckets", self.buckets)
        at_least_one("max_distance", self.max_distance)
        grid = tuple(at_least_one("grid", extent) for extent in self.grid)
        if len(grid) > 4:
            raise ValueError(f"grid = {grid}: must have at most 4 extents")
        object.__setattr__(self, "grid", grid)

    def _write(self, dense: _core.Dense) -> None:
        grid = (*self.grid, 0, 0, 0, 0)[:4]
        kind = _core.TABLE_KINDS[self.kind]
        dense.set_bias_table(kind, bool(self.bidirectional), self.buckets or 0, self.max_distance or 0, grid)


@dataclass(frozen=True)
class Rope:
    """Rotary embedding: pairs of channels turned by an angle that grows with the position.

    Parameters
    ----------
    layout : {"half", "interleaved"}
        Which channels are a pair: `c` and `c + dim / 2` (GPT-NeoX, Llama in Hugging Face), or `2c` and `2c + 1`
        (GPT-J).
    source : {"base", "table"}
        Pair c turns by `position * base ** (-2 * c / dim)`, or as `rope_cos` and `rope_sin` say.
    dim : int, optional
        How many channels are rotated, even. Default: all.
    first : int
        The first of them.
    base : float, optional
        Default: 10000.

    Notes
    -----
    Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021.
    """

    layout: Literal["half", "interleaved"] = "half"
    source: Literal["base", "table"] = "base"
    dim: Optional[int] = None
    first: int = 0
    base: Optional[float] = None

    def __post_init__(self) -> None:
        choice("layout", self.layout, _core.ROPE_LAYOUTS)
        choice("source", self.source, _core.ROPE_SOURCES)
        at_least_one("dim", self.dim)
        integer("first", self.first)
        not_zero("base", self.base)

    def _write(self, append: _core.Append) -> None:
        layout, source = _core.ROPE_LAYOUTS[self.layout], _core.ROPE_SOURCES[self.source]
        append.set_rope(layout, source, self.dim or 0, self.first, self.base or 0.0)


@dataclass(frozen=True)
class Input:
    """An optional input of a plan: how it differs from the default.

    Parameters
    ----------
    dtype : str or dtype, optional
        Default: int32 for lengths, tables of pages, positions and ids; Q's for `bias`, `bias_lowrank_q`,
        `bias_lowrank_k` and `gate`; else float32.
    broadcast : sequence of int
        Axes, from 0, that have extent 1 and are repeated.
    """

    dtype: object = None
    broadcast: Sequence[int] = ()


Inputs = Union[Iterable[str], Mapping[str, object]]


class DenseOptions(TypedDict, total=False):
    """What `attention` and `Plan` take as options; see `attention`."""

    causal: Optional[Alignment]
    align: Optional[Alignment]
    window: Optional[Window]
    sink_tokens: int
    mask: Optional[Mask]
    scale: Optional[float]
    softcap: Optional[float]
    activation: Activation
    activation_bias: float
    activation_length: Optional[int]
    bias_stage: BiasStage
    bias_lookup: Optional[BiasLookup]
    gate_kind: GateKind
    precision: Precision
    flags: Iterable[Flag]
    layout: Layout


class Options:
    """The options of dense attention."""

    __slots__ = ("fields", "flags", "key", "layout", "lookup", "mask", "precision", "scale")

    def __init__(
        self,
        *,
        causal: Optional[str] = None,
        align: Optional[str] = None,
        window: Optional[Window] = None,
        sink_tokens: int = 0,
        mask: Optional[Mask] = None,
        scale: Optional[float] = None,
        softcap: Optional[float] = None,
        activation: str = "softmax",
        activation_bias: float = 0.0,
        activation_length: Optional[int] = None,
        bias_stage: str = "post_softcap",
        bias_lookup: Optional[BiasLookup] = None,
        gate_kind: str = "sigmoid",
        precision: str = "full",
        flags: Iterable[str] = (),
        layout: str = "bshd",
    ) -> None:
        try:
            left, right = (None, None) if window is None else window
        except (TypeError, ValueError):
            raise TypeError(f"window = {window!r}: must be None or a pair (left, right)") from None
        left, right = integer("window[0]", left), integer("window[1]", right)
        if bias_lookup is not None and not isinstance(bias_lookup, BiasLookup):
            raise TypeError(f"bias_lookup = {bias_lookup!r}: must be None or an attn.BiasLookup")
        if mask is not None and not hasattr(mask, "_terms"):
            raise TypeError(f"mask = {mask!r}: must be None or made of attn.mask")
        self.layout = layout_name(layout)
        self.lookup = bias_lookup
        self.mask = mask
        self.scale = not_zero("scale", scale)
        self.flags = flag_bits(flags)
        self.precision = choice("precision", precision, _core.PRECISIONS)
        # The fields of attn_dense, by name.
        self.fields: dict[str, Union[int, float]] = {
            "causal": choice("causal", causal, _core.ALIGNMENTS, optional=True),
            "align": choice("align", align, _core.ALIGNMENTS, optional=True),
            "flags": (_core.WINDOW_LEFT if left is not None else 0) | (_core.WINDOW_RIGHT if right is not None else 0),
            "window_left": left or 0,
            "window_right": right or 0,
            "sink_tokens": integer("sink_tokens", sink_tokens) or 0,
            "softcap": not_zero("softcap", softcap),
            "activation": choice("activation", activation, _core.ACTIVATIONS),
            "activation_bias": real("activation_bias", activation_bias),
            "activation_length": at_least_one("activation_length", activation_length),
            "bias_stage": choice("bias_stage", bias_stage, _core.BIAS_STAGES),
            "gate": choice("gate_kind", gate_kind, _core.GATES),
        }
        self.key = (self.layout, self.lookup, self.mask, self.scale, self.flags, self.precision, *self.fields.values())

    def dense(self) -> _core.Dense:
        dense = _core.Dense()
        for name, value in self.fields.items():
            if value:
                setattr(dense, name, value)
        if self.lookup is not None:
            self.lookup._write(dense)
        if self.mask is not None:
            self.mask._write(dense)
        return dense

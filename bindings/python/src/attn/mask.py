"""Masks as expressions: sets of (head, query, key) joined by `&`, `|` and `~`.

>>> import attn
>>> attn.mask.id_eq() & (attn.mask.causal("top_left") | attn.mask.prefix(4))
(id_eq() & (causal(align='top_left') | prefix(4)))

A parameter is an integer; None, no limit; `growing(start, step)`, which grows with the keys of a sequence; or a list of
those, and of real numbers, which are rounded down: one for each head of the result, or of K.

`align` says which key is level with a query, "top_left", "bottom_right" or "by_position"; None: as the call says by
`causal` or `align`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Optional, SupportsIndex, Union

from . import _core
from ._options import choice, integer, real

Align = Literal["top_left", "bottom_right", "by_position"]


@dataclass(frozen=True)
class Growing:
    """`start + step * Tk`, rounded down, Tk being the keys of a sequence. Made by `growing`."""

    start: float
    step: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", real("start", self.start))
        object.__setattr__(self, "step", real("step", self.step))

    def __repr__(self) -> str:
        return f"growing({self.start:g}, {self.step:g})"


Number = Union[int, float, Growing, None]
Parameter = Union[Number, Sequence[Number]]

# (op, flags, axis, table, p, f) and (rows, columns, values, slopes)
_Term = tuple[int, int, int, int, tuple[int, ...], float]
_Table = tuple[int, int, tuple[float, ...], tuple[float, ...]]


class Mask:
    """A set of (head, query, key). Made by the functions of `attn.mask`; immutable, compares by value."""

    __slots__ = ("_tables", "_terms", "_text")

    _terms: tuple[_Term, ...]
    _tables: tuple[_Table, ...]
    _text: str

    def __init__(self) -> None:
        raise TypeError("Mask: made by the functions of attn.mask, as attn.mask.causal()")

    @classmethod
    def _make(cls, terms: tuple[_Term, ...], tables: tuple[_Table, ...], text: str) -> Mask:
        mask = object.__new__(cls)
        mask._terms, mask._tables, mask._text = terms, tables, text
        return mask

    def _join(self, other: Mask, op: int, sign: str) -> Mask:
        shift = len(self._tables)
        shifted = tuple(
            (code, flags, axis, table + shift if table else 0, p, f) for code, flags, axis, table, p, f in other._terms
        )
        terms = (*self._terms, *shifted, (op, 0, 0, 0, (), 0.0))
        return Mask._make(terms, self._tables + other._tables, f"({self._text} {sign} {other._text})")

    def __and__(self, other: Mask) -> Mask:
        return self._join(other, _core.MASK_OPS["and"], "&") if isinstance(other, Mask) else NotImplemented

    def __or__(self, other: Mask) -> Mask:
        return self._join(other, _core.MASK_OPS["or"], "|") if isinstance(other, Mask) else NotImplemented

    def __invert__(self) -> Mask:
        return Mask._make((*self._terms, (_core.MASK_OPS["not"], 0, 0, 0, (), 0.0)), self._tables, f"~{self._text}")

    def __bool__(self) -> bool:
        raise TypeError("a mask is neither true nor false; join masks by &, | and ~, not by and, or and not")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and (self._terms, self._tables) == (other._terms, other._tables)

    def __hash__(self) -> int:
        return hash((self._terms, self._tables))

    def __repr__(self) -> str:
        return self._text

    def _write(self, dense: _core.Dense) -> None:
        dense.set_mask(self._terms, self._tables)


def _column(name: str, value: Parameter) -> tuple[Number, ...]:
    if not isinstance(value, Sequence):
        return (value,)
    if len(value) == 0:
        raise ValueError(f"{name} = {value!r}: must have a value for each head")
    return tuple(value)


def _real(name: str, value: Number) -> tuple[float, float]:
    """A value and its slope."""
    if isinstance(value, Growing):
        return value.start, value.step
    return (float("inf") if value is None else real(name, value)), 0.0


def _plain(name: str, value: Number) -> int:
    if value is None:
        return _core.UNBOUNDED
    if not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} = {value!r}: must be an integer, None, growing() or a sequence by head")
    return integer(name, value) or 0


def _atom(
    name: str, parameters: Sequence[tuple[str, Parameter]] = (), *, align: Optional[Align] = None, pair: int = 0
) -> Mask:
    flags = choice("align", align, _core.ALIGNMENTS, optional=True)
    axis = integer("pair", pair) or 0
    if not 0 <= axis < 2**32:
        raise ValueError(f"pair = {pair}: must be 0 .. {2**32 - 1}")
    shown = [repr(value) for _, value in parameters]
    shown += [f"align={align!r}"] if align else []
    shown += [f"pair={axis}"] if axis else []
    text = f"{name}({', '.join(shown)})"
    columns = [(label, _column(label, value)) for label, value in parameters]

    def make(p: tuple[int, ...], f: float = 0.0, tables: tuple[_Table, ...] = ()) -> Mask:
        return Mask._make(((_core.MASK_OPS[name], flags, axis, len(tables), p, f),), tables, text)

    # What no head and no length changes are plain integers, from the last parameter on.
    varied = [len(column) > 1 or isinstance(column[0], Growing) for _, column in columns]
    count = max((i + 1 for i, varies in enumerate(varied) if varies), default=0)
    rest = tuple(_plain(label, column[0]) for label, column in columns[count:])
    if count == 0:
        return make(rest)
    label, column = columns[0]
    first = column[0]
    if count == 1 and len(column) == 1 and isinstance(first, Growing) and first.start.is_integer():
        return make((int(first.start), *rest), first.step)
    rows = max(len(column) for _, column in columns[:count])
    for label, column in columns[:count]:
        if len(column) not in (1, rows):
            raise ValueError(f"{label} has {len(column)} values: must be one for each head, as another has {rows}")
    pairs = [
        _real(label, column[row if len(column) > 1 else 0]) for row in range(rows) for label, column in columns[:count]
    ]
    values, slopes = tuple(value for value, _ in pairs), tuple(slope for _, slope in pairs)
    table = (rows, count, values, slopes if any(slopes) else ())
    return make((0,) * count + rest, 0.0, (table,))


def growing(start: float, step: float) -> Growing:
    """A parameter that grows: `start + step * Tk`, rounded down, Tk being the keys of a sequence."""
    return Growing(start, step)


def causal(align: Optional[Align] = None) -> Mask:
    """Keys up to the one that is level with the query."""
    return _atom("causal", align=align)


def band(left: Parameter, right: Parameter, align: Optional[Align] = None) -> Mask:
    """Keys from `left` before to `right` after the one that is level with the query; either may be negative."""
    return _atom("band", (("left", left), ("right", right)), align=align)


def prefix(keys: Parameter) -> Mask:
    """The first keys of a sequence."""
    return _atom("prefix", (("keys", keys),))


def first_rows(rows: Parameter) -> Mask:
    """The first queries of a sequence."""
    return _atom("first_rows", (("rows", rows),))


def last_rows(rows: Parameter) -> Mask:
    """The last queries of a sequence."""
    return _atom("last_rows", (("rows", rows),))


def vertical(period: Parameter, phase: Parameter = 0, unit: Parameter = 1) -> Mask:
    """Keys j with `(j // unit + phase) % period == 0`."""
    return _atom("vertical", (("period", period), ("phase", phase), ("unit", unit)))


def pow2(unit: Parameter = 1, align: Optional[Align] = None) -> Mask:
    """Keys 0, 1, 2, 4, 8, ... units before the one that is level with the query."""
    return _atom("pow2", (("unit", unit),), align=align)


def id_eq(pair: int = 0) -> Mask:
    """Keys of the query's id, by `ids_q` and `ids_kv`: documents, segments."""
    return _atom("id_eq", pair=pair)


def id_ge(pair: int = 0) -> Mask:
    """Keys of the query's id or a smaller one: causal between blocks."""
    return _atom("id_ge", pair=pair)


def id_gt(pair: int = 0) -> Mask:
    """Keys of an id smaller than the query's."""
    return _atom("id_gt", pair=pair)


def id_q(value: Parameter, pair: int = 0) -> Mask:
    """Queries of an id."""
    return _atom("id_q", (("value", value),), pair=pair)


def id_kv(value: Parameter, pair: int = 0) -> Mask:
    """Keys of an id."""
    return _atom("id_kv", (("value", value),), pair=pair)


def heads(first: int, end: int) -> Mask:
    """Heads of the result, from `first` to before `end`."""
    return _atom("heads", (("first", first), ("end", end)))


def heads_in(members: Sequence[bool]) -> Mask:
    """Heads of the result: whether each is in the set."""
    table: _Table = (len(members), 1, tuple(float(bool(member)) for member in members), ())
    text = f"heads_in({[bool(member) for member in members]!r})"
    return Mask._make(((_core.MASK_OPS["heads"], 0, 0, 1, (), 0.0),), (table,), text)

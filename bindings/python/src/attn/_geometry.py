"""Where the axes of a plan's tensors are: in the C ABI, and in the caller's layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import _core
from ._arrays import dtype_code, tensor
from ._options import Input, Inputs
from ._where import HOST, Where

# The axes of the tensors, in the order of the C ABI, of batches that are neither packed nor paged. Capitals are fixed
# by the plan. b batch, i query, j key, c row of a cache; heads: Q of Q, K of K, V of V, H of the result;
# C channels of Q and K, D of V, R of the low-rank bias; E entries of the bias table. Packed rows are t (of queries) and
# u (of keys), pages p with r rows.
DENSE_AXES = {
    "q": "biQC",
    "k": "bjKC",
    "v": "bjVD",
    "out": "biHD",
    "lse": "bHi",
    "row_max": "bHi",
    "row_entropy": "bHi",
    "column_mass": "bHj",
    "bias": "bHij",
    "bias_table": "EH",
    "bias_lowrank_q": "biHR",
    "bias_lowrank_k": "bjHR",
    "alibi_slopes": "H",
    "sink_logits": "H",
    "q_temperature": "biQ",
    "v_temperature": "bjV",
    "gate": "biHD",
    "head_weight": "biH",
}
MERGE_AXES = {name: DENSE_AXES[name] for name in ("out", "lse", "sink_logits", "gate", "head_weight")}
MERGE_AXES.update(partial_out="biHD", partial_lse="bHi")
APPEND_AXES = {"q": "biQC", "k": "biKC", "v": "biVD", "out": "biQC", "k_cache": "bcKC", "v_cache": "bcVD"}

_WORDS = {"b": "batch", "i": "token", "j": "token", "t": "token", "u": "token", "c": "row", "p": "page", "r": "row"}
_WORDS.update(dict.fromkeys("QKVH", "head"), **dict.fromkeys("CDR", "channel"), E="entry")
_SCORE_WORDS = {**_WORDS, "i": "query", "t": "query", "j": "key", "u": "key"}


class Geometry:
    """The axes of the tensors of one plan. `tables` of axes are those above."""

    __slots__ = ("_axes", "layout", "packed_kv", "packed_q", "pages")

    def __init__(
        self,
        axes: Mapping[str, str],
        layout: str,
        *,
        packed_q: bool = False,
        packed_kv: bool = False,
        pages: bool = False,
    ) -> None:
        if packed_q != (layout == "thd"):
            raise ValueError(f"layout = {layout!r}: must be 'thd' exactly where cu_seqlens_q is given")
        self._axes, self.layout = axes, layout
        self.packed_q, self.packed_kv, self.pages = packed_q, packed_kv, pages

    def axes(self, name: str) -> str:
        """The axes of a tensor in the order of the C ABI; "" for those that are vectors or tables of integers."""
        axes = self._axes.get(name, "")
        if "i" in axes:
            return axes.replace("b", "").replace("i", "t") if self.packed_q else axes
        if self.packed_kv:
            return axes.replace("bHj", "Hu").replace("bj", "u")
        return axes.replace("bj", "pr").replace("bc", "pr") if self.pages else axes

    def swapped(self, name: str) -> bool:
        """Whether the caller has heads before tokens where the C ABI has them after."""
        axes = self.axes(name)
        return self.layout == "bhsd" and len(axes) > 2 and axes[1] in "ijcr"

    def in_layout(self, name: str, items: Sequence[int]) -> tuple[int, ...]:
        """Something for each axis, from the order of the C ABI to that of the caller, or back."""
        return (items[0], items[2], items[1], *items[3:]) if self.swapped(name) else tuple(items)

    def view(self, array: object, name: str, where: Where = HOST, *, writable: bool = False) -> _core.Tensor:
        """View an array of the caller's, with its axes in the order of the C ABI."""
        return self._arranged(tensor(array, name, writable=writable, where=where), name, name)

    def view_part(self, array: object, name: str, label: str, where: Where = HOST) -> _core.Tensor:
        """Likewise, one of several arrays of the same role."""
        return self._arranged(tensor(array, label, where=where), name, label)

    def _arranged(self, view: _core.Tensor, name: str, label: str) -> _core.Tensor:
        axes = self.axes(name)
        if axes and view.ndim != len(axes):
            score = axes[0] == "H" or axes[:2] == "bH"
            words = [(_SCORE_WORDS if score else _WORDS)[letter] for letter in axes]
            text = f"[{', '.join(words[axis] for axis in self.in_layout(name, range(len(axes))))}]"
            count = f"{len(axes)} {'axis' if len(axes) == 1 else 'axes'}"
            raise ValueError(f"{label} has shape {view.shape}, must have {count}: {text}")
        if self.swapped(name):
            view.swap_axes(1, 2)
        return view

    def repeated(self, view: _core.Tensor, name: str, extents: Mapping[str, int]) -> int:
        """Flags of the axes of extent 1 that stand for more, by the extents of the other tensors."""
        flags = 0
        for axis, (extent, letter) in enumerate(zip(view.shape, self.axes(name))):
            if extent == 1 and extents.get(letter, 1) != 1:
                flags |= _core.BROADCAST_AXIS0 << axis
        return flags

    def binds(self, inputs: Inputs, names: Sequence[str]) -> dict[str, tuple[int, int]]:
        """`{name: (dtype, flags)}` of what a plan's argument `inputs` lists; dtype 0 is the default."""
        if isinstance(inputs, str):
            raise TypeError(f"inputs = {inputs!r}: must be a collection of names, not one name")
        pairs = inputs.items() if isinstance(inputs, Mapping) else ((name, None) for name in inputs)
        binds = {}
        for name, value in pairs:
            if name.partition("[")[0] not in names:
                raise ValueError(f"inputs: {name!r} is not one of {', '.join(names)}")
            given = value if isinstance(value, Input) else Input(value)
            label = f"inputs[{name!r}]"
            dtype = 0 if given.dtype is None else dtype_code(given.dtype, label)
            axes, flags = self.axes(name), 0
            for axis in given.broadcast:
                if not 0 <= axis < len(axes):
                    raise ValueError(f"{label}: broadcast axis {axis}: it has axes 0 to {len(axes) - 1} to repeat")
                flags |= _core.BROADCAST_AXIS0 << self.in_layout(name, range(len(axes)))[axis]
            binds[name] = dtype, flags
        return binds

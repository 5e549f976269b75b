"""Arrays of other libraries: viewing them for the library, and making results of the caller's kind."""

from __future__ import annotations

import sys
from typing import Any, Protocol, Union

import numpy as np

from . import _core
from ._where import CPU, HOST, Where, empty_on_cuda, exporting


class SupportsDLPack(Protocol):
    """Anything that exports DLPack: arrays of NumPy, PyTorch, JAX and others."""

    def __dlpack__(self) -> Any: ...


# memoryview stands for the other objects with the buffer protocol, which Python cannot name before 3.12.
ArrayLike = Union[SupportsDLPack, memoryview]

DTYPE_NAMES = {value: name for name, value in _core.DTYPES.items()}


def dtype_code(dtype: object, name: str) -> int:
    """The library's number of a dtype given as a name, a NumPy dtype or type, or a torch.dtype."""
    text = dtype if isinstance(dtype, str) else str(getattr(dtype, "name", getattr(dtype, "__name__", dtype)))
    code = _core.DTYPES.get(text.rpartition(".")[2])
    if code is None:
        raise ValueError(f"{name} = {dtype!r}: must be one of {', '.join(_core.DTYPES)}")
    return code


def tensor(array: object, name: str, *, writable: bool = False, where: Where = HOST) -> _core.Tensor:
    """View an array, without copying. Raises TypeError or ValueError naming `name` if it cannot be viewed."""
    if isinstance(array, np.ndarray) and array.dtype.name == "bfloat16" and where.device == CPU:
        # NumPy does not know the type (it comes from ml_dtypes) and would not export it.
        return _core.Tensor(array.view(np.uint16), name, writable, _core.DTYPES["bfloat16"])
    with exporting(array, where):
        view = _core.Tensor(array, name, writable, 0, where.device, where.device_id, where.stream)
    if view.dtype not in DTYPE_NAMES:
        code, bits, lanes = view.dtype & 0xFF, view.dtype >> 8 & 0xFF, view.dtype >> 16
        raise TypeError(f"{name} has elements of DLPack type ({code}, {bits}, {lanes}), which libattn has no type for")
    return view


def empty(shape: tuple[int, ...], dtype: int, like: object, where: Where = HOST) -> Any:
    """A new array. On a GPU of the library of `like`; on the host PyTorch's or NumPy's, see `deliver`."""
    name = DTYPE_NAMES[dtype]
    if where.device != CPU:
        return empty_on_cuda(shape, name, like, where)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(like, torch.Tensor):
        return torch.empty(shape, dtype=getattr(torch, name))
    if name == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise TypeError("a bfloat16 result of this kind needs the package ml_dtypes; else pass out=") from None
        return np.empty(shape, ml_dtypes.bfloat16)
    return np.empty(shape, name)


def deliver(result: Any, like: object) -> Any:
    """What `empty` made, as an array of the library that `like` belongs to (NumPy's if that has no such function)."""
    if not isinstance(result, np.ndarray) or isinstance(like, np.ndarray) or not hasattr(like, "__array_namespace__"):
        return result
    namespace = like.__array_namespace__()
    if result.dtype.name == "bfloat16":  # NumPy cannot export it
        return namespace.asarray(result)
    return namespace.from_dlpack(result)

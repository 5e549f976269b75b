"""Where a call computes: on the host, or on a CUDA device and one of its streams.

Frameworks are never imported here: an array of a framework means that it is loaded.
"""

from __future__ import annotations

import contextlib
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Optional

import numpy as np

from . import _core

CPU, CUDA = _core.DEVICES["cpu"], _core.DEVICES["cuda"]


class Where(NamedTuple):
    """A device, and on a GPU the stream of a call."""

    device: int = CPU
    device_id: int = 0
    stream: int = 0  # a CUstream; 0: the default stream
    # Whether what owns the arrays frees their memory in the order of streams: else a call waits for its work.
    ordered: bool = True


HOST = Where()


def module_of(name: str, array: object, kind: str) -> Any:
    """The loaded framework `name`, if `array` is of its class `kind`; else None."""
    module = sys.modules.get(name)
    return module if module is not None and isinstance(array, getattr(module, kind, ())) else None


def torch_of(array: object) -> Any:
    return module_of("torch", array, "Tensor")


def cupy_of(array: object) -> Any:
    return module_of("cupy", array, "ndarray")


def jax_of(array: object) -> Any:
    return module_of("jax", array, "Array")


def device_of(array: object) -> tuple[int, int]:
    """The device that the memory of an array is on: `CUDA` with its ordinal, or the host."""
    if isinstance(array, np.ndarray):
        return CPU, 0
    if hasattr(array, "__dlpack_device__"):
        kind, number = array.__dlpack_device__()
        return (CUDA, int(number)) if int(kind) == CUDA else (CPU, 0)
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        return CPU, 0
    address = interface["data"][0]
    return CUDA, _core.device_of(address) if address else 0


def stream_number(stream: object) -> int:
    """A stream as the driver's number: given so, or as an object of a framework. 0 is the default stream."""
    number = stream
    if hasattr(stream, "__cuda_stream__"):  # CUDA Python
        _, number = stream.__cuda_stream__()
    else:
        for name in ("cuda_stream", "ptr"):  # PyTorch, CuPy
            number = getattr(stream, name, number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"stream = {stream!r}: must be None, a CUstream as an integer, or a stream of a framework")
    if not 0 <= number < 2**64:
        raise ValueError(f"stream = {number}: must be the number of a CUstream; 0 or 1: the default stream")
    return 0 if number == 1 else number


def current_stream(array: object, device_id: int) -> int:
    """The stream that the framework of an array would use; the default stream of those that do not tell."""
    if torch := torch_of(array):
        return stream_number(torch.cuda.current_stream(device_id))
    if cupy := cupy_of(array):
        with cupy.cuda.Device(device_id):
            return stream_number(cupy.cuda.get_current_stream())
    if not hasattr(array, "__dlpack__"):
        stream = getattr(array, "__cuda_array_interface__", {}).get("stream")
        return 0 if stream is None else stream_number(stream)
    return 0


def where_of(arrays: Iterable[object], device: Optional[tuple[int, int]] = None, stream: object = None) -> Where:
    """Where a call on `arrays` computes: on `device`, that of its handle, else on that of the first array."""
    given = [array for array in arrays if array is not None]
    if device is None:
        device = device_of(given[0]) if given else (CPU, 0)
    if device[0] != CUDA:
        if stream is not None:
            raise ValueError(f"stream = {stream!r}: must be None on the CPU")
        return HOST
    number = current_stream(given[0] if given else None, device[1]) if stream is None else stream_number(stream)
    ordered = all(torch_of(array) or cupy_of(array) for array in given)
    where = Where(*device, number, ordered)
    if stream is not None:
        for array in given:
            _record_use(array, where)
    return where


def _torch_stream(torch: Any, where: Where) -> Any:
    """The stream of a call, as PyTorch's object; ExternalStream(0) would be a new stream, not the default one."""
    if where.stream == 0:
        return torch.cuda.default_stream(where.device_id)
    return torch.cuda.ExternalStream(where.stream, device=where.device_id)


def exporting(array: Any, where: Where) -> contextlib.AbstractContextManager[Any]:
    """What `array.__dlpack__` must run under: PyTorch exports, and orders streams, of its current device only."""
    torch = torch_of(array) if where.device == CUDA else None
    if torch is None:
        return contextlib.nullcontext()
    kind, number = device_of(array)
    if kind != CUDA or number == torch.cuda.current_device():
        return contextlib.nullcontext()
    guard: contextlib.AbstractContextManager[Any] = torch.cuda.device(number)
    return guard


def _record_use(array: Any, where: Where) -> None:
    """Tells PyTorch's allocator of a stream that is not its current one: it reuses the memory only after that."""
    torch = torch_of(array)
    if torch is None or device_of(array) != where[:2]:
        return
    if current_stream(array, where.device_id) != where.stream:
        array.record_stream(_torch_stream(torch, where))


@contextlib.contextmanager
def _allocating(framework: Any, where: Where) -> Iterator[None]:
    """Lets PyTorch or CuPy allocate on the device and for the stream of a call."""
    if hasattr(framework, "Tensor"):
        stream = framework.cuda.current_stream(where.device_id)
        if stream_number(stream) == where.stream:
            yield
            return
        with framework.cuda.stream(_torch_stream(framework, where)):
            yield
        return
    with framework.cuda.Device(where.device_id):
        stream = framework.cuda.get_current_stream()
        if stream_number(stream) == where.stream:
            yield
            return
        with framework.cuda.ExternalStream(where.stream, where.device_id):
            yield


def empty_on_cuda(shape: tuple[int, ...], name: str, like: object, where: Where) -> Any:
    """A new array of a dtype, of the library that `like` belongs to."""
    if torch := torch_of(like):
        with _allocating(torch, where):
            return torch.empty(shape, dtype=getattr(torch, name), device=f"cuda:{where.device_id}")
    if cupy := cupy_of(like):
        dtype: Any = name
        if name == "bfloat16":
            import ml_dtypes

            dtype = ml_dtypes.bfloat16
        with _allocating(cupy, where):
            return cupy.empty(shape, dtype)
    if jax := jax_of(like):
        (device,) = like.devices()  # type: ignore[attr-defined]
        return jax.numpy.empty(shape, dtype=name, device=device)
    if hasattr(like, "__array_namespace__") and hasattr(like, "device"):
        namespace = like.__array_namespace__()
        return namespace.empty(shape, dtype=getattr(namespace, name), device=like.device)
    kind = f"{type(like).__module__}.{type(like).__name__}"
    raise TypeError(f"a '{kind}' on a GPU: results cannot be made of that kind: pass out=, and the others")


class Scratch:
    """Device memory of one call: freed, when this is, in the order of the stream."""

    __slots__ = ("_owner", "address")

    def __init__(self, size: int, like: object, where: Where) -> None:
        self._owner: Any = None
        self.address = 0
        if size == 0:
            return
        if torch := torch_of(like):
            with _allocating(torch, where):
                self._owner = torch.empty(size, dtype=torch.uint8, device=f"cuda:{where.device_id}")
            self.address = self._owner.data_ptr()
        elif cupy := cupy_of(like):
            with _allocating(cupy, where):
                self._owner = cupy.empty(size, "uint8")
            self.address = self._owner.data.ptr
        else:
            self._owner = _core.Scratch(size, where.device_id, where.stream)
            self.address = self._owner.address


class StatusTensor:
    """Where checked mode reports on a GPU: four int32 in device memory, read when asked."""

    __slots__ = ("_memory", "_where")

    def __init__(self, where: Where) -> None:
        self._where = where
        self._memory = _core.Scratch(16, where.device_id, where.stream)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": (4,), "typestr": "<i4", "data": (self._memory.address, False), "version": 3, "stream": None}

    def raise_fault(self) -> None:
        """Wait for the call, and raise attn.Error if it found something wrong."""
        report = _core.read(self._memory.address, 16, self._where.device_id, self._where.stream)
        status, slot, position, value = struct.unpack("=4i", report)
        if status == 0:
            return
        name = next((name for name, code in _core.SLOTS.items() if code == slot), str(slot))
        _core.raise_error(status, f"{name}: element {position} (row-major) = {value}: breaks a rule of its contents")

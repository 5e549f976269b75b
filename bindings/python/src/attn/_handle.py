"""Devices and handles."""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Callable, Hashable, Optional

from . import _core


@dataclass(frozen=True)
class Device:
    """A device that the library can see.

    Attributes
    ----------
    kind : str
        "cpu", "cuda" or "hip".
    id : int
        Ordinal among the devices of its kind.
    name : str
        Marketing name.
    arch : str
        E.g. "x86-64 avx2 fma" or "sm_90a".
    compute_units : int
        Usable cores, SMs or CUs.
    memory_bytes : int
        Total memory.
    bytes_per_second : int
        Nominal memory bandwidth, 0 if unknown.
    driver_version : int
        As the driver counts; 0 for the CPU.
    """

    kind: str
    id: int
    name: str
    arch: str
    compute_units: int
    memory_bytes: int
    bytes_per_second: int
    driver_version: int


def devices() -> list[Device]:
    """List the devices that the library can see, the CPU first.

    Looks for GPU drivers, and loads those it finds (importing `attn` and computing on the CPU never do). A kind
    without a driver has no devices; that is not an error.

    Raises
    ------
    attn.Error
        A driver is there but failed.
    """
    return [Device(kind=kind, **entry) for kind, code in _core.DEVICES.items() for entry in _devices(code)]


def _devices(code: int) -> list[dict[str, Any]]:
    return _core.devices(code)


class Handle:
    """A device with its threads and its cache of plans.

    Parameters
    ----------
    threads : int, optional
        CPU threads to compute with. Default: the cores that the process may use.
    device : str
        Where to compute: "cpu", "cuda", "hip", or with an ordinal, "cuda:1".
    device_id : int, optional
        Ordinal of the device, where `device` does not say it. Default: 0.

    Raises
    ------
    attn.Error
        No such device, or `threads` is negative.

    Notes
    -----
    May be used from any number of threads at once. Plans stay valid after their handle is gone.
    """

    __slots__ = ("__weakref__", "_core", "_device", "_lock", "_plans")

    _CACHED_PLANS = 64

    def __init__(
        self, threads: Optional[int] = None, *, device: str = "cpu", device_id: Optional[int] = None
    ) -> None:
        self._device = _parse_device(device, device_id)
        workers = 0  # the ABI's "all cores"
        if threads is not None:
            try:
                workers = operator.index(threads)
            except TypeError:
                raise TypeError(f"threads = {threads!r}: must be an integer or None") from None
            if workers == 0 or workers >= 2**31:
                raise ValueError(f"threads = {workers}: must be at least 1 (None: all cores) and less than 2**31")
        self._core = _core.Handle(workers, *self._device)
        self._lock = threading.Lock()
        self._plans: OrderedDict[Hashable, Any] = OrderedDict()

    @property
    def device(self) -> str:
        """Where the handle computes: "cpu", "cuda:0"."""
        kind = next(name for name, code in _core.DEVICES.items() if code == self._device[0])
        return kind if kind == "cpu" else f"{kind}:{self._device[1]}"

    def _plan(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The plan cached under `key`, made if need be; the least recently used is dropped."""
        with self._lock:
            plan = self._plans.get(key)
            if plan is not None:
                self._plans.move_to_end(key)
                return plan
        plan = make()  # not under the lock: planning may take time; two threads may make the same plan once
        with self._lock:
            plan = self._plans.setdefault(key, plan)
            self._plans.move_to_end(key)
            while len(self._plans) > self._CACHED_PLANS:
                self._plans.popitem(last=False)
        return plan


def _parse_device(device: str, device_id: Optional[int]) -> tuple[int, int]:
    """Code and ordinal of a device that is named "cuda", or "cuda:1"."""
    if not isinstance(device, str):
        raise TypeError(f"device = {device!r}: must be a name, such as 'cuda:0'")
    kind, colon, number = device.partition(":")
    if kind not in _core.DEVICES:
        raise ValueError(f"device = {device!r}: must be one of {', '.join(_core.DEVICES)}, or 'cuda:1'")
    if colon:
        if not (number.isascii() and number.isdigit()):
            raise ValueError(f"device = {device!r}: its ordinal must be a number, 0 or more")
        if device_id is not None and device_id != int(number):
            raise ValueError(f"device_id = {device_id}: must be None where device = {device!r} says it")
        device_id = int(number)
    return _core.DEVICES[kind], device_id or 0


_defaults: dict[tuple[int, int], Handle] = {}
_defaults_lock = threading.Lock()


def default_handle(device: tuple[int, int] = (_core.DEVICES["cpu"], 0)) -> Handle:
    """The handle of calls that give none, made on first use: the CPU with all cores, or a GPU."""
    handle = _defaults.get(device)
    if handle is None:
        with _defaults_lock:
            handle = _defaults.get(device)
            if handle is None:
                kind = next(name for name, code in _core.DEVICES.items() if code == device[0])
                handle = _defaults[device] = Handle(device=kind, device_id=device[1])
    return handle

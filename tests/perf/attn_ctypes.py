"""libattn through ctypes: the structs of include/attn/attn.h and the calls that the performance scripts need.

`check_layout()` compares the structs with the offsets that the header asserts; attn_ctypes_test.py does so in the tests.
"""

from __future__ import annotations

import ctypes
import re
from ctypes import POINTER, Structure, byref, c_char, c_double, c_int32, c_int64, c_size_t, c_uint16, c_uint32
from ctypes import c_uint64, c_void_p
from pathlib import Path
from typing import Any, Sequence

OK = 0
ERROR_NO_DEVICE = -4

DTYPES = {
    "float16": 0x011002,
    "bfloat16": 0x011004,
    "float32": 0x012002,
    "int32": 0x012000,
    "int64": 0x014000,
}
DEVICE_CPU, DEVICE_CUDA = 1, 2
TOP_LEFT, BOTTOM_RIGHT = 1, 2
WINDOW_LEFT, WINDOW_RIGHT = 1, 2
SLOTS = {
    "Q": 0x01,
    "K": 0x02,
    "V": 0x03,
    "OUT": 0x04,
    "LSE": 0x05,
    "CU_SEQLENS_Q": 0x10,
    "CU_SEQLENS_KV": 0x11,
    "SEQLENS_Q": 0x12,
    "SEQLENS_KV": 0x13,
    "BLOCK_TABLE": 0x14,
    "ALIBI_SLOPES": 0x24,
    "SINK_LOGITS": 0x25,
}
NO_COMPILE, NO_DISK_CACHE = 1, 2


class Tensor(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("byte_offset", c_size_t),
        ("device", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("dtype", c_uint32),
        ("shape", c_int64 * 8),
        ("strides", c_int64 * 8),
    ]


class Arg(Structure):
    _fields_ = [("slot", c_int32), ("index", c_uint32), ("tensor", POINTER(Tensor))]


class Bind(Structure):
    _fields_ = [
        ("slot", c_int32),
        ("index", c_uint32),
        ("dtype", c_uint32),
        ("flags", c_uint32),
        ("block", c_int32 * 8),
        ("reserved", c_uint32 * 4),
    ]


class Term(Structure):
    _fields_ = [
        ("op", c_uint16),
        ("flags", c_uint16),
        ("axis", c_uint32),
        ("table", c_uint32),
        ("reserved", c_uint32),
        ("p", c_int64 * 5),
        ("f", c_double),
    ]


class Options(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("next", c_void_p),
        ("flags", c_uint64),
        ("device", c_int32),
        ("device_id", c_int32),
        ("max_workers", c_int32),
        ("log_level", c_int32),
        ("parallel_for", c_void_p),
        ("parallel_ctx", c_void_p),
        ("device_alloc", c_void_p),
        ("device_free", c_void_p),
        ("alloc_ctx", c_void_p),
        ("log", c_void_p),
        ("log_ctx", c_void_p),
        ("cache_dir", c_void_p),
        ("kernel_path", c_void_p),
        ("compiler_path", c_void_p),
    ]


class DeviceProperties(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("next", c_void_p),
        ("device", c_int32),
        ("device_id", c_int32),
        ("compute_units", c_int32),
        ("driver_version", c_int32),
        ("memory_bytes", c_uint64),
        ("bytes_per_second", c_uint64),
        ("name", c_char * 128),
        ("arch", c_char * 64),
    ]


class Problem(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("next", c_void_p),
        ("binds", POINTER(Bind)),
        ("bind_count", c_size_t),
        ("flags", c_uint64),
        ("direction", c_int32),
        ("precision", c_int32),
        ("q_dtype", c_uint32),
        ("k_dtype", c_uint32),
        ("v_dtype", c_uint32),
        ("out_dtype", c_uint32),
        ("batch", c_int64),
        ("heads_q", c_int64),
        ("heads_k", c_int64),
        ("heads_v", c_int64),
        ("dim_qk", c_int64),
        ("dim_v", c_int64),
        ("max_q", c_int64),
        ("max_kv", c_int64),
        ("total_q", c_int64),
        ("total_kv", c_int64),
        ("page_size", c_int64),
        ("scale", c_double),
    ]


class Dense(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("next", c_void_p),
        ("problem", POINTER(Problem)),
        ("mask", c_void_p),
        ("rope", c_void_p),
        ("bias_table", c_void_p),
        ("flags", c_uint64),
        ("causal", c_int32),
        ("align", c_int32),
        ("window_left", c_int64),
        ("window_right", c_int64),
        ("sink_tokens", c_int64),
        ("softcap", c_double),
        ("activation", c_int32),
        ("bias_stage", c_int32),
        ("gate", c_int32),
        ("reserved", c_int32),
        ("activation_bias", c_double),
        ("activation_length", c_int64),
        ("bias_rank", c_int64),
    ]


STRUCTS: dict[str, type[Structure]] = {
    "attn_tensor": Tensor,
    "attn_arg": Arg,
    "attn_bind": Bind,
    "attn_term": Term,
    "attn_options": Options,
    "attn_device_properties": DeviceProperties,
    "attn_problem": Problem,
    "attn_dense": Dense,
}


def check_layout(header: Path) -> list[str]:
    """What differs from the offsets and sizes that the header asserts for 64-bit pointers."""
    text = header.read_text()
    wrong = []
    seen: set[tuple[str, str]] = set()
    for name, field, offset in re.findall(r"ATTN_AT\((\w+), (\w+), (\d+), \d+\)", text):
        if name not in STRUCTS:
            continue
        seen.add((name, field))
        if not hasattr(STRUCTS[name], field):
            wrong.append(f"{name}.{field} is missing")
        elif getattr(STRUCTS[name], field).offset != int(offset):
            wrong.append(f"{name}.{field} is at {getattr(STRUCTS[name], field).offset}, not {offset}")
    for name, size in re.findall(r"ATTN_IS\((\w+), (\d+), \d+\)", text):
        if name in STRUCTS and ctypes.sizeof(STRUCTS[name]) != int(size):
            wrong.append(f"{name} has {ctypes.sizeof(STRUCTS[name])} bytes, not {size}")
    for name, struct in STRUCTS.items():
        for field in struct._fields_:
            if (name, field[0]) not in seen:
                wrong.append(f"{name}.{field[0]} is not in the header")
    return wrong


class Error(RuntimeError):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Library:
    """The shared library; `path` may be a name that the dynamic loader searches for."""

    def __init__(self, path: str) -> None:
        self._c = ctypes.CDLL(path)
        c = self._c
        c.attn_version.restype = c_uint32
        c.attn_last_error.restype = ctypes.c_char_p
        c.attn_create.argtypes = [POINTER(Options), POINTER(c_void_p)]
        c.attn_destroy.argtypes = [c_void_p]
        c.attn_destroy.restype = None
        c.attn_device_info.argtypes = [c_int32, c_int32, POINTER(DeviceProperties)]
        c.attn_plan_dense.argtypes = [c_void_p, POINTER(Dense), POINTER(c_void_p)]
        c.attn_plan_workspace.argtypes = [c_void_p, POINTER(c_size_t), POINTER(c_size_t)]
        c.attn_plan_describe.argtypes = [c_void_p, c_void_p, c_size_t, POINTER(c_size_t)]
        c.attn_plan_destroy.argtypes = [c_void_p]
        c.attn_plan_destroy.restype = None
        c.attn_execute.argtypes = [c_void_p, POINTER(Arg), c_size_t, c_void_p, c_size_t, c_void_p]

    def version(self) -> str:
        v = self._c.attn_version()
        return f"{v >> 16}.{v >> 8 & 255}.{v & 255}"

    def check(self, status: int) -> None:
        if status != OK:
            raise Error(status, self._c.attn_last_error().decode())

    def device(self, device: int, device_id: int) -> DeviceProperties:
        properties = DeviceProperties(size=ctypes.sizeof(DeviceProperties))
        self.check(self._c.attn_device_info(device, device_id, byref(properties)))
        return properties

    @property
    def c(self) -> Any:
        return self._c


class Handle:
    def __init__(self, library: Library, device: int, device_id: int = 0, flags: int = 0) -> None:
        self.library = library
        self.pointer = c_void_p()
        options = Options(size=ctypes.sizeof(Options), device=device, device_id=device_id, flags=flags)
        library.check(library.c.attn_create(byref(options), byref(self.pointer)))

    def __del__(self) -> None:
        if getattr(self, "pointer", None):
            self.library.c.attn_destroy(self.pointer)


class DensePlan:
    """A plan of dense attention. `problem` and `dense` set fields by name; `binds` are names of slots."""

    def __init__(
        self, handle: Handle, problem: dict[str, Any], dense: dict[str, Any], binds: Sequence[str] = ()
    ) -> None:
        self.library = handle.library
        self.pointer = c_void_p()
        list_of_binds = (Bind * max(len(binds), 1))()
        for bind, name in zip(list_of_binds, binds):
            bind.slot = SLOTS[name]
        p = Problem(size=ctypes.sizeof(Problem), bind_count=len(binds), **problem)
        if binds:
            p.binds = ctypes.cast(list_of_binds, POINTER(Bind))
        d = Dense(size=ctypes.sizeof(Dense), problem=ctypes.pointer(p), **dense)
        self.library.check(self.library.c.attn_plan_dense(handle.pointer, byref(d), byref(self.pointer)))
        bytes_needed, alignment = c_size_t(), c_size_t()
        self.library.check(
            self.library.c.attn_plan_workspace(self.pointer, byref(bytes_needed), byref(alignment))
        )
        self.workspace_bytes, self.workspace_alignment = bytes_needed.value, alignment.value

    def describe(self) -> str:
        needed = c_size_t()
        self.library.check(self.library.c.attn_plan_describe(self.pointer, None, 0, byref(needed)))
        buffer = ctypes.create_string_buffer(needed.value)
        self.library.check(self.library.c.attn_plan_describe(self.pointer, buffer, needed.value, None))
        return buffer.value.decode()

    def __del__(self) -> None:
        if getattr(self, "pointer", None):
            self.library.c.attn_plan_destroy(self.pointer)


class Call:
    """The arguments of one execute, made once and used many times. Views: (slot, address, dtype, shape, strides)."""

    def __init__(
        self, plan: DensePlan, views: Sequence[tuple[str, int, str, Sequence[int], Sequence[int]]], workspace: int
    ) -> None:
        self.plan = plan
        self.workspace = workspace
        self._tensors = (Tensor * len(views))()
        self._args = (Arg * len(views))()
        for tensor, arg, (slot, address, dtype, shape, strides) in zip(self._tensors, self._args, views):
            tensor.data, tensor.dtype, tensor.ndim = address, DTYPES[dtype], len(shape)
            tensor.shape[: len(shape)] = list(shape)
            tensor.strides[: len(shape)] = list(strides)
            arg.slot, arg.tensor = SLOTS[slot], ctypes.pointer(tensor)

    def __call__(self, stream: int = 0) -> None:
        plan = self.plan
        status = plan.library.c.attn_execute(
            plan.pointer, self._args, len(self._args), self.workspace, plan.workspace_bytes, stream
        )
        if status != OK:
            plan.library.check(status)

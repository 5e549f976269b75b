"""DLPack producers made with ctypes alone, so that the protocol is tested without a framework that speaks it."""

import ctypes

import numpy as np

CODES = {"i": 0, "u": 1, "f": 2}
BFLOAT16 = (4, 16)


class DLDevice(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


class DLDataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", DLDevice),
        ("ndim", ctypes.c_int32),
        ("dtype", DLDataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    _fields_ = [("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", Deleter)]


class ManagedVersioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
capsule_name = ctypes.pythonapi.PyCapsule_GetName
capsule_name.restype = ctypes.c_char_p
capsule_name.argtypes = [ctypes.py_object]

READ_ONLY, COPIED = 1, 2


class Producer:
    """Exports the memory of a NumPy array by DLPack, and nothing else.

    `versioned` exports a DLPack 1.x capsule (and takes `max_version`), else an older one (and does not).
    `dtype` replaces the (code, bits) of the array's own. `compact` leaves the strides NULL.
    `deleted` counts calls of the deleter, `capsules` keeps the capsules that were handed out, and `streams` what they
    were asked for with: None for memory of the host.
    """

    def __init__(self, array, *, versioned=True, dtype=None, flags=0, compact=False, offset=0, device=(1, 0), major=1):
        self.array, self.versioned, self.flags, self.major, self.device = array, versioned, flags, major, device
        self.dtype = dtype or (CODES[array.dtype.kind], array.itemsize * 8)
        self.deleted, self.capsules, self.streams, self._exports = 0, [], [], []
        self._compact, self._offset = compact, offset
        if versioned and type(self) is Producer:
            self.__class__ = _VersionedProducer

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, *, stream=None):
        return self._export(stream)

    def _export(self, stream=None):
        if self.device[0] != 13:  # managed memory is used from either side
            assert (stream is None) == (self.device[0] != 2), "only memory of a GPU has a stream"
        self.streams.append(stream)
        array, n = self.array, self.array.ndim
        shape = (ctypes.c_int64 * n)(*array.shape)
        strides = (ctypes.c_int64 * n)(*(s // array.itemsize for s in array.strides))
        tensor = DLTensor(
            array.ctypes.data - self._offset,
            DLDevice(*self.device),
            n,
            DLDataType(*self.dtype, 1),
            shape,
            None if self._compact else strides,
            self._offset,
        )

        def delete(_):
            self.deleted += 1

        deleter = Deleter(delete)
        if self.versioned:
            managed = ManagedVersioned(self.major, 0, None, deleter, self.flags, tensor)
        else:
            managed = Managed(tensor, None, deleter)
        name = b"dltensor_versioned" if self.versioned else b"dltensor"
        self._exports.append((managed, shape, strides, deleter, name))
        capsule = new_capsule(ctypes.addressof(managed), name, None)
        self.capsules.append(capsule)
        return capsule

    def names(self):
        return [capsule_name(capsule) for capsule in self.capsules]


class _VersionedProducer(Producer):
    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        assert max_version[0] >= 1
        return self._export(stream)


def to_bfloat16(array):
    """The bits of the nearest bfloat16 values, ties to even, as uint16."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits):
    return (np.ascontiguousarray(bits).astype(np.uint32) << 16).view(np.float32)

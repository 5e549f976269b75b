"""CUDA arrays without a GPU: what producers are asked for, where results come from, and the order of streams.

The frameworks here are pretended, and so are plans: their calls are written down. tests/gpu/test_torch_cuda.py has real
ones.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from producers import BFLOAT16, Producer

import attn
from attn import _core, _handle, _where

CUDA = _core.DEVICES["cuda"]
SHAPE = (2, 5, 4, 8)
KEPT = []  # deleters of exports that may outlive their arrays, where a test fails


class Cuda(Producer):
    """A CUDA array with memory of the host."""

    def __init__(self, array, device_id=0, **options):
        super().__init__(array, device=(CUDA, device_id), **options)
        self.shape = array.shape
        KEPT.append(self._exports)

    def __dlpack__(self, *, stream=None, max_version=None):
        return self._export(stream)


def cuda_array(shape=SHAPE, dtype=np.float32, **options):
    return Cuda(np.zeros(shape, dtype), **options)


class FakePlan:
    """Stands for _core.Plan: notes launches, and knows the results of attention and merge."""

    workspace_bytes = 4096
    launches = []
    status = False

    def __init__(self, handle, problem, descriptor):
        self.handle = handle
        outs = [max(problem.batch, 1), problem.max_q, problem.heads_q, problem.dim_v or problem.dim_qk]
        dtype = problem.out_dtype or problem.q_dtype
        slots = _core.SLOTS
        self.dtypes = {slots["out"]: (dtype, outs), slots["q"]: (problem.q_dtype, outs)}
        self.dtypes[slots["lse"]] = (_core.DTYPES["float32"], [outs[0], outs[2], outs[1]])
        if self.status and problem.flags & _core.FLAGS["checked"]:
            self.dtypes[slots["status"]] = (_core.DTYPES["int32"], [4])

    def slots(self):
        return self.dtypes

    def workspace_for(self, sizes):
        return 512

    def launch(self, tensors, stream, workspace, size):
        names = {code: name for name, code in _core.SLOTS.items()}
        self.launches.append({
            "dtypes": {names[slot]: view.dtype for slot, _, view in tensors},  # views must not outlive their arrays
            "stream": stream, "workspace": workspace, "bytes": size, "handle": self.handle,
        })  # fmt: skip


class FakeHandle:
    def __init__(self, threads, device, device_id):
        assert threads == 0
        self.device = device, device_id


@pytest.fixture
def launches(monkeypatch):
    monkeypatch.setattr(_core, "Plan", FakePlan)
    monkeypatch.setattr(_core, "Handle", FakeHandle)
    monkeypatch.setattr(_handle, "_defaults", {})
    monkeypatch.setattr(FakePlan, "launches", [])
    return FakePlan.launches


class Stream:
    def __init__(self, number):
        self.cuda_stream = number


def pretended_torch(current=77):
    """A module that has what is used of PyTorch; `log` says what it was asked."""
    torch = types.ModuleType("torch")
    torch.log = []

    class Tensor(Cuda):
        def data_ptr(self):
            return self.array.ctypes.data

        def record_stream(self, stream):
            torch.log.append(f"record {stream.cuda_stream}")

        def __dlpack__(self, *, stream=None, max_version=None):
            if self.device[1] != state.device:
                raise BufferError("Can't export tensors on a different CUDA device index")
            return self._export(stream)

    def external(number, device):
        assert number != 0, "PyTorch makes a new stream of 0"
        return Stream(number)

    @contextlib.contextmanager
    def on_device(number):
        before, state.device = state.device, number
        yield
        state.device = before

    def empty(shape, *, dtype, device):
        torch.log.append(f"empty {dtype.name} on {device} for {state.stream}")
        shape = shape if isinstance(shape, tuple) else (shape,)
        return Tensor(np.zeros(shape, dtype), int(device.partition(":")[2]))

    @contextlib.contextmanager
    def use(stream):
        before, state.stream = state.stream, stream.cuda_stream
        yield
        state.stream = before

    state = types.SimpleNamespace(stream=current, device=0)
    torch.Tensor, torch.empty = Tensor, empty
    torch.float32, torch.float16, torch.uint8 = map(np.dtype, ("float32", "float16", "uint8"))
    torch.cuda = types.SimpleNamespace(
        current_stream=lambda device_id: Stream(state.stream),
        current_device=lambda: state.device,
        default_stream=lambda device_id: Stream(0),
        device=on_device,
        ExternalStream=external,
        stream=use,
    )
    return torch


@pytest.fixture
def torch(monkeypatch):
    module = pretended_torch()
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


@pytest.fixture
def waits(monkeypatch):
    """Streams that were waited for; and scratch memory of the host."""
    log = []
    monkeypatch.setattr(_core, "synchronize", lambda device_id, stream: log.append((device_id, stream)))

    class Scratch:
        def __init__(self, size, device_id, stream):
            self.memory = np.zeros(size, np.uint8)
            self.address = self.memory.ctypes.data
            log.append((size, device_id, stream))

    monkeypatch.setattr(_core, "Scratch", Scratch)
    return log


def test_torch_current_stream(launches, torch, waits):
    q, k, v = (torch.Tensor(np.zeros(SHAPE, np.float32), 1) for _ in range(3))
    out, lse = attn.attention(q, k, v, return_lse=True)
    assert isinstance(out, torch.Tensor) and out.shape == SHAPE and out.device == (CUDA, 1)
    assert isinstance(lse, torch.Tensor) and lse.shape == (2, 4, 5)
    (launch,) = launches
    assert launch["stream"] == 77 and launch["bytes"] == 512 and launch["workspace"] != 0
    assert launch["handle"].device == (CUDA, 1)
    for array in (q, k, v, out, lse):
        assert array.streams == [77] and array.deleted == 1
    assert torch.log == ["empty float32 on cuda:1 for 77"] * 2 + ["empty uint8 on cuda:1 for 77"]
    assert not waits  # PyTorch frees in the order of its streams
    attn.attention(q, k, v)
    assert launches[1]["handle"] is launch["handle"]


@pytest.mark.parametrize("stream", [5, Stream(5)])
def test_torch_other_stream(launches, torch, stream):
    q, k, v = (torch.Tensor(np.zeros(SHAPE, np.float32)) for _ in range(3))
    attn.attention(q, k, v, stream=stream)
    assert q.streams == k.streams == v.streams == [5] and launches[0]["stream"] == 5
    made = ["empty float32 on cuda:0 for 5", "empty uint8 on cuda:0 for 5"]
    assert torch.log == ["record 5"] * 3 + made  # its allocator keeps the inputs until stream 5 has passed


def test_default_stream_has_the_number_that_dlpack_wants(launches, torch):
    for stream in (0, 1):
        q, k, v = (torch.Tensor(np.zeros(SHAPE, np.float32)) for _ in range(3))
        out = torch.Tensor(np.zeros(SHAPE, np.float16))
        assert attn.attention(q, k, v, out=out, stream=stream) is out
        assert q.streams == k.streams == v.streams == out.streams == [1]
        assert launches[-1]["stream"] == 0
        assert torch.log == ["record 0"] * 4 + ["empty uint8 on cuda:0 for 0"]
        torch.log.clear()


def test_cupy(launches, monkeypatch, waits):
    cupy = types.ModuleType("cupy")

    class Array(Cuda):
        @property
        def data(self):
            return types.SimpleNamespace(ptr=self.array.ctypes.data)

    cupy.ndarray, cupy.empty = Array, lambda shape, dtype: Array(np.zeros(shape, dtype))
    current = types.SimpleNamespace(ptr=9)
    cupy.cuda = types.SimpleNamespace(
        Device=lambda number: contextlib.nullcontext(), get_current_stream=lambda: current, ExternalStream=None
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    parts = [Array(np.zeros(SHAPE, np.float32)) for _ in range(2)]
    scores = [Array(np.zeros((2, 4, 5), np.float32)) for _ in range(2)]
    out = attn.merge(parts, scores)
    assert isinstance(out, Array) and launches[0]["stream"] == 9 and parts[0].streams == scores[1].streams == [9]
    assert not waits


def test_jax_waits(launches, monkeypatch, waits):
    jax = types.ModuleType("jax")

    class Array(Cuda):
        def devices(self):
            return {"the device"}

    def empty(shape, dtype, device):
        assert device == "the device"
        return Array(np.zeros(shape, dtype), flags=1)  # read-only, as JAX's arrays are

    jax.Array, jax.numpy = Array, types.SimpleNamespace(empty=empty)
    monkeypatch.setitem(sys.modules, "jax", jax)
    q, k, v = (Array(np.zeros(SHAPE, np.float32)) for _ in range(3))
    out = attn.attention(q, k, v)
    assert isinstance(out, Array) and q.streams == out.streams == [1]
    assert waits == [(512, 0, 0), (0, 0)]  # scratch memory, then the end of the call
    with pytest.raises(ValueError, match="out is read-only"):
        attn.attention(q, k, v, out=empty(SHAPE, np.float32, "the device"))


def test_array_namespace(launches, waits):
    class Array(Cuda):
        def __array_namespace__(self):
            return types.SimpleNamespace(
                empty=lambda shape, dtype, device: Array(np.zeros(shape, dtype)), float16=np.float16
            )

    q, k, v = (Array(np.zeros(SHAPE, np.float16)) for _ in range(3))
    assert isinstance(attn.attention(q, k, v), Array)
    with pytest.raises(TypeError, match="pass out="):
        attn.attention(*(cuda_array() for _ in range(3)))
    out = cuda_array()
    assert attn.attention(*(cuda_array() for _ in range(3)), out=out) is out


def test_append(launches, torch):
    k, v = (torch.Tensor(np.zeros((2, 1, 4, 8), np.float16)) for _ in range(2))
    caches = [torch.Tensor(np.zeros((2, 16, 4, 8), np.float16)) for _ in range(2)]
    lengths = torch.Tensor(np.ones(2, np.int32))
    assert attn.append(k, v, *caches, seqlens_kv=lengths) is None
    assert set(launches[0]["dtypes"]) == {"k", "v", "k_cache", "v_cache", "seqlens_kv"}
    plan = attn.AppendPlan(
        heads_k=4, dim_qk=8, max_q=1, max_kv=16, batch=2, k_dtype="float16", handle=attn.Handle(device="cuda:0")
    )
    plan(k, v, *caches, stream=4)
    assert launches[1]["stream"] == 4 and k.streams == [77, 4]


def test_lengths_on_a_gpu_are_not_looked_at(launches, torch):
    q, k, v = (torch.Tensor(np.zeros((9, 4, 8), np.float32)) for _ in range(3))
    cu = torch.Tensor(np.array([0, 4, 9], np.int32))
    out = torch.Tensor(np.zeros((9, 4, 8), np.float32))
    packed = {"layout": "thd", "cu_seqlens_q": cu, "cu_seqlens_kv": cu, "out": out}
    with pytest.raises(ValueError, match="max_seqlen_q = None: must be given where lengths are on a GPU"):
        attn.attention(q, k, v, **packed)
    with pytest.raises(ValueError, match="max_seqlen_kv = None"):
        attn.attention(q, k, v, max_seqlen_q=5, **packed)
    attn.attention(q, k, v, max_seqlen_q=5, max_seqlen_kv=5, **packed)
    assert len(launches) == 1


@pytest.mark.parametrize("kind", ["numpy", "dlpack", "another device"])
def test_arrays_elsewhere(launches, torch, kind):
    q = torch.Tensor(np.zeros(SHAPE, np.float32))
    k = np.zeros(SHAPE, np.float32)
    if kind != "numpy":
        k = Producer(k) if kind == "dlpack" else Cuda(k, 1)
    if kind == "numpy" and not hasattr(k, "__dlpack__"):
        pytest.skip("NumPy before 1.22 has no DLPack")
    text = "k: its memory is on (the host|CUDA device 1), must be on CUDA device 0"
    with pytest.raises(attn.Error, match=text) as caught:
        attn.attention(q, k, q)
    assert caught.value.status_name == "ATTN_ERROR_INVALID" and not launches


def test_pinned_and_managed_memory(launches, torch, waits):
    q = torch.Tensor(np.zeros(SHAPE, np.float32))
    for device, stream in (((3, 0), None), ((13, 0), 77)):
        k = Producer(np.zeros(SHAPE, np.float32), device=device)
        attn.attention(q, k, q, out=torch.Tensor(np.zeros(SHAPE, np.float32)), stream=77)
        assert k.streams == [stream]
    assert len(launches) == 2 and waits == [(0, 77)] * 2  # for those who lent k


def test_objects_that_are_no_arrays(launches, torch):
    q = torch.Tensor(np.zeros(SHAPE, np.float32))
    with pytest.raises(TypeError, match="k must support DLPack or __cuda_array_interface__, not be a 'list'"):
        attn.attention(q, [1.0], q)


def test_bfloat16(launches, torch):
    arrays = [torch.Tensor(np.zeros(SHAPE, np.uint16), dtype=BFLOAT16) for _ in range(4)]
    attn.attention(*arrays[:3], out=arrays[3])
    assert launches[0]["dtypes"]["q"] == _core.DTYPES["bfloat16"]


def test_streams():
    assert _where.stream_number(0) == _where.stream_number(1) == 0
    assert _where.stream_number(2) == 2 and _where.stream_number(1 << 40) == 1 << 40
    protocol = type("S", (), {"__cuda_stream__": lambda self: (0, 33)})()
    assert _where.stream_number(protocol) == 33
    assert _where.stream_number(types.SimpleNamespace(ptr=8)) == 8
    for wrong in (True, "5", 1.5):
        with pytest.raises(TypeError, match="stream = "):
            _where.stream_number(wrong)
    for wrong in (-1, 1 << 64):
        with pytest.raises(ValueError, match="stream = "):
            _where.stream_number(wrong)
    x = np.ones((1, 2, 1, 4), np.float32)
    with pytest.raises(ValueError, match="stream = 5: must be None on the CPU"):
        attn.attention(x, x, x, stream=5)


def test_handles():
    assert attn.Handle().device == "cpu"
    for device in ("cuda:x", "cuda:", "cuda:-1"):
        with pytest.raises(ValueError, match="ordinal"):
            attn.Handle(device=device)
    with pytest.raises(ValueError, match="must be one of cpu, cuda"):
        attn.Handle(device="tpu")
    with pytest.raises(ValueError, match="device_id = 2: must be None"):
        attn.Handle(device="cuda:1", device_id=2)
    with pytest.raises(TypeError, match="device = 0"):
        attn.Handle(device=0)
    with pytest.raises(attn.Error, match="device_id = 1"):
        attn.Handle(device="cpu:1")


def run(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_cpu_needs_no_driver():
    code = (
        "import numpy as np, attn; x = np.ones((1, 2, 1, 4), 'f4');"
        "attn.attention(x, x, x); attn.append(x, x, x + 1, x + 2);"
        "attn.merge([x, x], [x[..., 0].swapaxes(1, 2)] * 2);"
        "assert 'libcuda' not in open('/proc/self/maps').read()"
    )
    run(code)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler to make a driver")
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    source = Path(__file__).parent / "fake_driver.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


PRELUDE = """
import ctypes, os, types, numpy as np, attn
from attn import _core
fake = ctypes.CDLL(os.environ["ATTN_CUDA_DRIVER"])
fake.fake_log.restype = ctypes.c_char_p
class Array:
    def __init__(self, x, **more):
        self.x, self.more = x, more
    @property
    def __cuda_array_interface__(self):
        x = self.x
        return dict(shape=x.shape, typestr=x.dtype.str, data=(x.ctypes.data, False), version=3, **self.more)
def view(array, stream=5, writable=False):
    return _core.Tensor(array, "x", writable, 0, 2, 0, stream)
log = lambda: fake.fake_log().decode()
x = np.zeros((3, 4), "f4")
"""


def test_cuda_array_interface(driver):
    code = PRELUDE + """
t = view(Array(x))
assert t.shape == (3, 4) and t.strides == (4, 1) and t.dtype == _core.DTYPES["float32"] and not t.readonly
assert log() == ""
t = view(Array(x[:, ::2], strides=x[:, ::2].strides, stream=None))
assert t.shape == (3, 2) and t.strides == (4, 2) and log() == ""
view(Array(x, stream=5)), view(Array(x, stream=1), 0)
assert log() == ""
view(Array(x, stream=9))
assert log() == "create 2;record 7 on 9;5 waits for 7;destroy 7;" and fake.fake_depth() == 0
for dtype in ("i4", "i8", "u1", "f2", "f8", "?"):
    assert view(Array(x.astype(dtype))).dtype == _core.DTYPES[np.dtype(dtype).name]
def refuse(array, error, text, **options):
    try:
        view(array, **options)
    except error as caught:
        assert text in str(caught), caught
    else:
        raise AssertionError(text)
refuse(Array(x.astype(">f4")), TypeError, "elements of type '>f4'")
refuse(Array(x.astype("c8")), TypeError, "elements of type '<c8'")
refuse(Array(x, strides=(16, 2)), ValueError, "stride of 2 bytes along axis 1")
refuse(Array(x, mask=x), TypeError, "mask")
refuse(Array(x, stream=0), ValueError, "x: stream = 0")
refuse(Array(np.zeros((1,) * 9)), ValueError, "9 axes")
ctypes.CDLL(None).setenv(b"FAKE_ORDINAL", b"3", 1)
refuse(Array(x), attn.Error, "its memory is on CUDA device 3, must be on CUDA device 0")
print("done")
"""
    assert run(code, ATTN_CUDA_DRIVER=driver).endswith("done\n")


def test_driver_calls(driver):
    code = PRELUDE + """
scratch = _core.Scratch(48, 0, 6)
ctypes.memset(scratch.address, 65, 48)
assert _core.read(scratch.address, 4, 0, 6) == b"AAAA"
del scratch
_core.synchronize(0, 8)
assert log() == "alloc 48 on 6;copy 4 on 6;synchronize 6;free on 6;synchronize 8;"
fake.fake_fail(2)
try:
    _core.synchronize(0, 8)
except attn.Error as error:
    assert str(error) == "cuStreamSynchronize: CUDA_ERROR_PRETENDED: pretended"
    assert error.status_name == "ATTN_ERROR_RUNTIME"
else:
    raise AssertionError("no error")
assert fake.fake_depth() == 0
print("done")
"""
    assert run(code, ATTN_CUDA_DRIVER=driver).endswith("done\n")


def test_checked_mode_raises(driver):
    code = PRELUDE + """
import sys
sys.path.insert(0, os.environ["TESTS"])
from test_cuda import FakePlan, FakeHandle, cuda_array
_core.Plan, _core.Handle, FakePlan.status = FakePlan, FakeHandle, True
report, made = (0, 0, 0, 0), []
def launch(self, tensors, stream, workspace, size):
    views = {slot: view for slot, _, view in tensors}
    assert views[_core.SLOTS["status"]].shape == (4,)
    ctypes.memmove(made[-1]._memory.address, (ctypes.c_int32 * 4)(*report), 16)
FakePlan.launch = launch
class Status(attn._where.StatusTensor):
    def __init__(self, where):
        super().__init__(where)
        made.append(self)
attn._plan.StatusTensor = Status
call = lambda: attn.attention(*(cuda_array() for _ in range(3)), out=cuda_array(), flags=["checked"])
call()
report = (-10, _core.SLOTS["seqlens_kv"], 3, 99)
try:
    call()
except attn.Error as error:
    assert str(error).startswith("seqlens_kv: element 3 (row-major) = 99"), error
    assert error.status_name == "ATTN_ERROR_DATA"
else:
    raise AssertionError("no error")
print("done")
"""
    assert run(code, ATTN_CUDA_DRIVER=driver, TESTS=str(Path(__file__).parent)).endswith("done\n")


def test_no_driver():
    code = "\n".join(line for line in PRELUDE.split("\n") if not line.startswith("fake")) + """
for call in (lambda: view(Array(x)), lambda: attn.Handle(device="cuda")):
    try:
        call()
    except attn.Error as error:
        assert error.status_name == "ATTN_ERROR_NO_DEVICE" and "no CUDA driver" in str(error), error
    else:
        raise AssertionError("no error")
print("done")
"""
    assert run(code, ATTN_CUDA_DRIVER="/nowhere/libcuda.so.1").endswith("done\n")

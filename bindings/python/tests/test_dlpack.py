"""The DLPack protocol: both kinds of capsules, their lifetime, what they may claim, and real producers."""

import gc
import subprocess
import sys

import numpy as np
import pytest

import attn
from helpers import assert_close, tensors
from producers import BFLOAT16, COPIED, READ_ONLY, Producer, from_bfloat16, to_bfloat16
from reference import attend_batch

SHAPES = (1, 5, 2, 8), (1, 7, 2, 8), (1, 7, 2, 8)
USED = {True: b"used_dltensor_versioned", False: b"used_dltensor"}
both_kinds = pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "legacy"])


@both_kinds
def test_values_and_lifetime(versioned):
    arrays = tensors(*SHAPES)
    producers = [Producer(x, versioned=versioned) for x in arrays]
    target = Producer(np.empty(SHAPES[0], np.float32), versioned=versioned)
    assert attn.attention(*producers, out=target) is target
    assert_close(target.array, attend_batch(*arrays)[0])
    gc.collect()
    for producer in (*producers, target):
        assert producer.deleted == 1
        assert producer.names() == [USED[versioned]]


@both_kinds
def test_new_result_is_numpy(versioned):
    arrays = tensors(*SHAPES)
    out = attn.attention(*(Producer(x, versioned=versioned) for x in arrays))
    assert type(out) is np.ndarray
    assert_close(out, attend_batch(*arrays)[0])


@both_kinds
def test_strides_and_offset(versioned):
    arrays = tensors(*SHAPES)
    q = Producer(arrays[0][:, ::-1], versioned=versioned)
    k = Producer(arrays[1], versioned=versioned, compact=True)
    v = Producer(arrays[2][:, ::-1, ::-1, ::-1], versioned=versioned, offset=64)
    assert_close(attn.attention(q, k, v), attend_batch(*(p.array for p in (q, k, v)))[0])


@both_kinds
def test_bfloat16(versioned):
    bits = [to_bfloat16(x) for x in tensors(*SHAPES)]
    producers = [Producer(x, versioned=versioned, dtype=BFLOAT16) for x in bits]
    target = Producer(np.empty(SHAPES[0], np.uint16), versioned=versioned, dtype=BFLOAT16)
    attn.attention(*producers, out=target)
    assert_close(from_bfloat16(target.array), attend_batch(*map(from_bfloat16, bits))[0], "bfloat16")


@both_kinds
def test_deleted_once_on_failure(versioned):
    q, k, v = (Producer(x, versioned=versioned) for x in tensors((1, 5, 2, 8), (1, 7, 2, 9), (1, 7, 2, 8)))
    with pytest.raises(attn.Error, match=r"K\.shape\[3\]"):
        attn.attention(q, k, v)
    with pytest.raises(ValueError, match="q has shape"):
        attn.attention(Producer(np.ones(3, np.float32), versioned=versioned), k, v)
    gc.collect()
    assert q.deleted == 1 and k.deleted == 1 and v.deleted == 1


@both_kinds
def test_every_loan_is_returned(versioned):
    """All inputs and results of each operation, whether it succeeds or not."""

    def lend(*shape, dtype=np.float32):
        producers.append(Producer(np.ones(shape, dtype), versioned=versioned))
        return producers[-1]

    producers = []
    for wrong in (0, 1):  # the second time something does not fit
        try:
            attn.attention(
                lend(1, 5, 2, 8), lend(1, 7, 2, 8), lend(1, 7, 2, 8), bias=lend(1, 2, 5, 7), gate=lend(1, 5, 2, 1),
                sink_logits=lend(2 + wrong), seqlens_kv=lend(1, dtype=np.int32), outputs=("lse",), lse=lend(1, 2, 5),
            )  # fmt: skip
            assert not wrong
        except attn.Error as error:
            assert wrong and "SINK_LOGITS" in str(error)
        try:
            outs, lses = [lend(1, 5, 2, 8), lend(1, 5 + wrong, 2, 8)], [lend(1, 2, 5), lend(1, 2, 5)]
            attn.merge(outs, lses, out=lend(1, 5, 2, 8), head_weight=lend(1, 5, 2))
            assert not wrong
        except attn.Error as error:
            assert wrong and "PARTIAL_OUT[1]" in str(error)
        try:
            caches = lend(1, 9, 2, 8), lend(1, 9, 2, 8)
            attn.append(lend(1, 2, 2, 8), lend(1, 2 + wrong, 2, 8), *caches, q=lend(1, 2, 4, 8), out=lend(1, 2, 4, 8))
            assert not wrong
        except attn.Error as error:
            assert wrong and "V.shape[1] = 3" in str(error)
    gc.collect()
    assert len(producers) == 2 * (8 + 6 + 6)
    for producer in producers:
        assert producer.deleted == len(producer.capsules) == 1
        assert producer.names() == [USED[versioned]]


def test_memory_does_not_grow():
    """Thousands of calls with new arrays leave nothing behind."""
    resource = pytest.importorskip("resource", reason="the system has no resource usage")

    def work(count):
        for _ in range(count):
            x = np.ones((1, 64, 2, 64), np.float32)
            out, lse = attn.attention(x, x, x, bias=np.ones((1, 1, 64, 64), np.float32), return_lse=True)
            attn.append(x, x, out, x.copy())
            attn.merge([out, x], [lse, lse])

    work(200)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work(2000)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB; one array of each call would be 64 MiB
    assert grown < 16 << 10


def test_many_axes():
    producer = Producer(np.ones((1,) * 9, np.float32))
    with pytest.raises(ValueError, match="q has 9 axes"):
        attn.attention(producer, producer, producer)
    assert producer.deleted == 1


@pytest.mark.parametrize("flag", [READ_ONLY, COPIED])
def test_read_only_flags(flag):
    arrays = tensors(*SHAPES)
    q, k, v = (Producer(x, flags=flag) for x in arrays)
    assert_close(attn.attention(q, k, v), attend_batch(*arrays)[0])
    target = Producer(np.zeros(SHAPES[0], np.float32), flags=flag)
    with pytest.raises(ValueError, match="out is read-only"):
        attn.attention(*arrays, out=target)
    assert target.deleted == 1 and not target.array.any()


def test_newer_major_version():
    producer = Producer(np.ones(SHAPES[0], np.float32), major=2)
    with pytest.raises(TypeError, match=r"q has DLPack version 2\.0"):
        attn.attention(producer, producer, producer)
    assert producer.deleted == 1


@both_kinds
def test_used_capsule(versioned):
    class Again:
        def __init__(self):
            self.producer = Producer(np.ones(SHAPES[0], np.float32), versioned=versioned)
            self.capsule = self.producer._export()

        def __dlpack__(self):
            return self.capsule

    again = Again()
    with pytest.raises(TypeError, match="k.*no unused DLPack capsule"):
        attn.attention(again, again, again)
    assert again.producer.deleted == 1


@both_kinds
@pytest.mark.parametrize("device,text", [((2, 1), "CUDA device 1"), ((10, 0), "ROCm device 0"), ((8, 0), "type 8")])
def test_other_devices(versioned, device, text):
    q, k, v = tensors(*SHAPES)
    producer = Producer(k, versioned=versioned, device=device)
    with pytest.raises(attn.Error, match=f"k: its memory is on .*{text}") as caught:
        attn.attention(q, producer, v)
    assert caught.value.status_name == "ATTN_ERROR_INVALID"
    assert not producer.capsules  # not even exported


@pytest.mark.parametrize("device", [(3, 0), (11, 0), (13, 0)])
def test_host_accessible_devices(device):
    arrays = tensors(*SHAPES)
    producers = [Producer(x, device=device) for x in arrays]
    assert_close(attn.attention(*producers), attend_batch(*arrays)[0])


def test_unserved_dtype():
    q, k, v = (Producer(x.astype(np.float64)) for x in tensors(*SHAPES))
    with pytest.raises(attn.Error, match="float64"):
        attn.attention(q, k, v)


def test_producer_errors_pass_through():
    class Refuses:
        def __dlpack__(self, **_):
            raise BufferError("not today")

    q, k, v = tensors(*SHAPES)
    with pytest.raises(BufferError, match="not today"):
        attn.attention(q, k, Refuses())


def test_numpy_through_dlpack():
    class Wrapped:
        def __init__(self, array):
            self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__

    if not hasattr(np.ndarray, "__dlpack__"):
        pytest.skip("NumPy before 1.22 has no DLPack")
    arrays = tensors(*SHAPES)
    assert_close(attn.attention(*map(Wrapped, arrays)), attend_batch(*arrays)[0])


def test_namespace_result():
    class Array(Producer):
        def __array_namespace__(self):
            class Namespace:
                @staticmethod
                def from_dlpack(array):
                    return "converted", np.from_dlpack(array)

            return Namespace

    arrays = tensors(*SHAPES)
    q = Producer(arrays[0], versioned=False)
    q.__class__ = Array
    kind, out = attn.attention(q, *arrays[1:])
    assert kind == "converted"
    assert_close(out, attend_batch(*arrays)[0])


def test_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is optional; the ctypes producers cover the protocol")
    q, k, v = (torch.from_numpy(x) for x in tensors(*SHAPES))
    out, lse = attn.attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), return_lse=True)
    assert out.dtype == torch.bfloat16 and lse.dtype == torch.float32
    expected = attend_batch(*(x.bfloat16().float().numpy() for x in (q, k, v)))[0]
    assert_close(out.float().numpy(), expected, "bfloat16")
    with pytest.raises((BufferError, RuntimeError), match="gradient"):  # PyTorch before 2.0: RuntimeError
        attn.attention(q.clone().requires_grad_(), k, v)


def test_torch_append_and_merge():
    torch = pytest.importorskip("torch", reason="PyTorch is optional; the ctypes producers cover the protocol")
    q, k, v = (torch.from_numpy(x).bfloat16() for x in tensors(*SHAPES))
    k_cache, v_cache = torch.zeros(2, 1, 16, 2, 8, dtype=torch.bfloat16)
    rotated = attn.append(k, v, k_cache, v_cache, q=k, rope=attn.Rope(), seqlens_kv=torch.tensor([9]))
    assert torch.equal(v_cache[:, 2:9], v) and torch.equal(k_cache[:, 2:9], rotated) and not k_cache[:, 9:].any()
    parts = [attn.attention(q, k[:, s], v[:, s], return_lse=True) for s in (slice(0, 3), slice(3, 7))]
    out = torch.empty_like(q)
    address = out.data_ptr()
    assert attn.merge([x for x, _ in parts], [x for _, x in parts], out=out) is out and out.data_ptr() == address
    np.testing.assert_allclose(out.float().numpy(), attn.attention(q, k, v).float().numpy(), rtol=0.02, atol=0.02)


def test_jax():
    jax = pytest.importorskip("jax", reason="JAX is optional; the ctypes producers cover the protocol")
    q, k, v = (jax.numpy.asarray(x) for x in tensors(*SHAPES))
    out, lse = attn.attention(q, k, v, return_lse=True)
    assert isinstance(out, jax.Array) and isinstance(lse, jax.Array)
    assert_close(np.asarray(out), attend_batch(*map(np.asarray, (q, k, v)))[0])
    merged = attn.merge([out, out], [lse, lse])
    assert isinstance(merged, jax.Array)
    np.testing.assert_allclose(np.asarray(merged), np.asarray(out), rtol=1e-6)
    with pytest.raises(ValueError, match="k_cache is .*read-only"):
        attn.append(q, q, out, out)


def test_torch_is_not_imported():
    code = "import sys, numpy as np, attn; x = np.ones((1, 2, 1, 4), 'f4'); attn.attention(x, x, x);" \
           "assert not {'torch', 'jax', 'ml_dtypes'} & set(sys.modules)"  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True)

"""Plan, Handle, devices(), and what may go on at the same time."""

import os
import threading
import time

import numpy as np
import pytest

import attn
from attn import _handle
from helpers import assert_close, assert_lse_close, tensors
from reference import attend, attend_batch


def in_threads(count, work):
    """Runs work(index) in threads that start together; raises what one of them raised."""
    barrier, failures = threading.Barrier(count), []

    def body(index):
        try:
            barrier.wait()
            work(index)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=body, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_plan_within_bounds():
    sizes = {"batch": 4, "heads_q": 4, "heads_k": 2, "dim_qk": 8, "dim_v": 6, "max_q": 16, "max_kv": 32}
    plan = attn.Plan(**sizes, causal="bottom_right", outputs=("lse",))
    for b, tq, tk in [(4, 16, 32), (1, 1, 32), (2, 5, 9), (0, 3, 3), (3, 0, 1)]:
        q, k, v = tensors((b, tq, 4, 8), (b, tk, 2, 8), (b, tk, 2, 6))
        out, lse = plan(q, k, v)
        assert out.shape == (b, tq, 4, 6) and lse.shape == (b, 4, tq)
        if out.size:
            expected, expected_lse = attend_batch(q, k, v, causal="bottom_right")
            assert_close(out, expected)
            assert_lse_close(lse, expected_lse)
    with pytest.raises(attn.Error, match=r"Q\.shape\[1\] = 17.*16"):
        plan(*tensors((1, 17, 4, 8), (1, 3, 2, 8), (1, 3, 2, 6)))


def test_plan_packed():
    dtypes = {"q_dtype": np.float16, "out_dtype": "float32"}
    plan = attn.Plan(layout="thd", batch=3, heads_q=2, dim_qk=8, max_q=9, total_q=20, **dtypes)
    lengths = [4, 9, 1]
    q, k, v = tensors(*[(sum(lengths), 2, 8)] * 3, dtype=np.float16)
    cu = np.cumsum([0, *lengths], dtype=np.int32)
    out = plan(q, k, v, cu_seqlens_q=cu, cu_seqlens_kv=cu)
    assert out.dtype == np.float32
    for begin, end in zip(cu, cu[1:]):
        assert_close(out[begin:end], attend(q[begin:end], k[begin:end], v[begin:end])[0])


def test_plan_paged():
    plan = attn.Plan(batch=2, heads_q=2, dim_qk=8, max_q=1, max_kv=16, page_size=4, inputs={"seqlens_kv": "int64"})
    q, k, v = tensors((2, 1, 2, 8), (6, 4, 2, 8), (6, 4, 2, 8))
    table, lengths = np.array([[5, 0], [2, 3]], np.int32), np.array([7, 3], np.int64)
    out = plan(q, k, v, block_table=table, seqlens_kv=lengths)
    for b in range(2):
        keys, values = (x[table[b]].reshape(-1, 2, 8)[: lengths[b]] for x in (k, v))
        assert_close(out[b], attend(q[b], keys, values)[0])


def test_plan_errors():
    with pytest.raises(ValueError, match="max_q = 0"):
        attn.Plan(heads_q=1, dim_qk=8, max_q=0)
    with pytest.raises(attn.Error, match="max_q = -1"):
        attn.Plan(heads_q=1, dim_qk=8, max_q=-1)
    with pytest.raises(TypeError, match="heads_q = 1.5"):
        attn.Plan(heads_q=1.5, dim_qk=8, max_q=1)
    with pytest.raises(ValueError, match="q_dtype = 'float31'"):
        attn.Plan(heads_q=1, dim_qk=8, max_q=1, q_dtype="float31")
    with pytest.raises(ValueError, match="inputs: 'mask'"):
        attn.Plan(heads_q=1, dim_qk=8, max_q=1, inputs=["mask"])
    with pytest.raises(TypeError, match="collection of names"):
        attn.Plan(heads_q=1, dim_qk=8, max_q=1, inputs="seqlens_q")
    with pytest.raises(attn.Error, match="heads_k = 2"):
        attn.Plan(heads_q=3, heads_k=2, dim_qk=8, max_q=1)
    plan = attn.Plan(heads_q=1, dim_qk=8, max_q=4)
    x = np.ones((1, 4, 1, 8), np.float32)
    with pytest.raises(attn.Error, match="SEQLENS_KV"):
        plan(x, x, x, seqlens_kv=np.ones(1, np.int32))
    with pytest.raises(attn.Error, match="LSE"):
        plan(x, x, x, lse=np.ones((1, 1, 4), np.float32))


def test_describe():
    plan = attn.Plan(heads_q=2, dim_qk=8, max_q=4, causal="top_left")
    description = plan.describe()
    assert isinstance(description, dict) and description
    assert isinstance(plan.workspace_bytes, int) and plan.workspace_bytes >= 0
    assert "float32[1, 4, 2, 8]" in repr(plan)


def test_plan_outlives_handle():
    handle = attn.Handle(threads=2)
    plan = attn.Plan(heads_q=2, dim_qk=8, max_q=4, handle=handle)
    del handle
    q, k, v = tensors(*[(1, 4, 2, 8)] * 3)
    assert_close(plan(q, k, v), attend_batch(q, k, v)[0])


@pytest.mark.parametrize("threads", [1, 2, 5, None])
def test_handle_threads(threads):
    q, k, v = tensors((2, 70, 4, 16), (2, 90, 2, 16), (2, 90, 2, 16))
    out = attn.attention(q, k, v, causal="bottom_right", handle=attn.Handle(threads=threads))
    assert_close(out, attend_batch(q, k, v, causal="bottom_right")[0])


def test_handle_errors():
    with pytest.raises(ValueError, match="threads = 0"):
        attn.Handle(threads=0)
    with pytest.raises(attn.Error) as caught:
        attn.Handle(threads=-1)
    assert caught.value.status_name == "ATTN_ERROR_INVALID"
    with pytest.raises(TypeError, match="threads = 1.5"):
        attn.Handle(threads=1.5)
    with pytest.raises(ValueError, match="threads = 4294967296"):
        attn.Handle(threads=2**32)
    with pytest.raises(ValueError, match="device = 'tpu'"):
        attn.Handle(device="tpu")
    with pytest.raises(attn.Error):
        attn.Handle(device="cpu", device_id=7)


def test_devices():
    devices = attn.devices()
    cpu = devices[0]
    assert isinstance(cpu, attn.Device) and cpu.kind == "cpu" and cpu.id == 0
    assert cpu.compute_units >= 1 and cpu.memory_bytes > 0 and cpu.name and cpu.arch


def test_version():
    assert [int(part) for part in attn.__version__.split(".")]


def test_cache_is_shared_and_bounded():
    handle = attn.Handle(threads=1)
    for tokens in (5, 6, 7, 8):  # all within the same power of two
        x = np.ones((1, tokens, 1, 8), np.float32)
        attn.attention(x, x, x, handle=handle)
    assert len(handle._plans) == 1
    for options in ({"gate_kind": "silu"}, {"gate_kind": "linear"}):
        attn.attention(x, x, x, gate=x, **options, handle=handle)
        attn.attention(x, x, x, gate=x[..., :1], **options, handle=handle)
    assert len(handle._plans) == 5
    handle._plans.clear()
    for _ in range(2):
        attn.merge([x, x], np.ones((2, 1, 1, 8), np.float32), handle=handle)
        attn.append(x, x, *np.zeros((2, 1, 8, 1, 8), np.float32), handle=handle)
    assert len(handle._plans) == 2
    handle._plans.clear()
    x = np.ones((1, 5, 1, 8), np.float32)
    attn.attention(x, x, x, handle=handle)
    x = np.ones((1, 9, 1, 8), np.float32)
    attn.attention(x, x, x, handle=handle)
    assert len(handle._plans) == 2
    for heads in range(1, _handle.Handle._CACHED_PLANS + 10):
        x = np.ones((1, 1, heads, 1), np.float32)
        attn.attention(x, x, x, handle=handle)
    assert len(handle._plans) == _handle.Handle._CACHED_PLANS
    for options in ({"scale": 0.5}, {"scale": 0.25}, {"causal": "top_left"}, {"softcap": 1.0}):
        x = tensors((1, 4, 1, 8))[0]
        assert_close(attn.attention(x, x, x, handle=handle, **options), attend_batch(x, x, x, **options)[0])


def test_one_plan_in_many_threads():
    plan = attn.Plan(batch=2, heads_q=4, heads_k=2, dim_qk=16, max_q=64, max_kv=64, causal="bottom_right")
    cases = [tensors((2, 3 + 7 * i, 4, 16), (2, 60 - i, 2, 16), (2, 60 - i, 2, 16), seed=i) for i in range(4)]
    expected = [attend_batch(*case, causal="bottom_right")[0] for case in cases]

    def work(index):
        for _ in range(25):
            assert_close(plan(*cases[index]), expected[index])

    in_threads(4, work)


def test_merge_and_append_in_many_threads():
    handle = attn.Handle(threads=1)
    plan = attn.MergePlan(parts=3, heads=2, dim_v=8, max_q=40, handle=handle)

    def work(index):
        outs, lses = tensors((3, 1, 20 + index, 2, 8), (3, 1, 2, 20 + index), seed=index)
        expected = attn.merge(outs, lses, handle=attn.Handle(threads=1))
        rows = tensors((1, 5, 2, 8), seed=index)[0]
        for turn in range(25):
            np.testing.assert_array_equal(plan(outs, lses), expected)
            np.testing.assert_array_equal(attn.merge(outs, lses, handle=handle), expected)
            k_cache, v_cache = np.zeros((2, 1, 32, 2, 8), np.float32)
            attn.append(rows, rows, k_cache, v_cache, seqlens_kv=np.array([5 + turn]), handle=handle)
            np.testing.assert_array_equal(k_cache[:, turn : turn + 5], rows)
            assert np.count_nonzero(k_cache) == np.count_nonzero(v_cache) == rows.size

    in_threads(4, work)


def test_attention_in_many_threads():
    handle = attn.Handle(threads=2)
    cases = [tensors((1, 10 + i, 2, 8), (1, 20, 2, 8), (1, 20, 2, 8), seed=i) for i in range(4)]

    def work(index):
        for turn in range(25):
            options = {"scale": 0.1 * (1 + turn % 3)}
            out = attn.attention(*cases[index], handle=handle, **options)
            assert_close(out, attend_batch(*cases[index], **options)[0])

    in_threads(4, work)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork()")
def test_fork():
    """A child keeps computing with what its parent made (serially: it has none of the parent's threads)."""
    x = tensors((1, 40, 2, 8))[0]
    expected = attn.attention(x, x, x, causal="top_left")
    child = os.fork()
    if child == 0:
        try:
            ok = np.array_equal(attn.attention(x, x, x, causal="top_left"), expected)
        except BaseException:
            ok = False
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0


def compute_attention(handle):
    x = np.random.default_rng(0).standard_normal((1, 4096, 8, 64)).astype(np.float32)
    return lambda: attn.attention(x, x, x, handle=handle)


def compute_merge(handle):
    outs, lses = np.ones((64, 1, 2048, 8, 64), np.float32), np.ones((64, 1, 8, 2048), np.float32)
    out, plan = np.empty_like(outs[0]), attn.MergePlan(parts=64, heads=8, dim_v=64, max_q=2048, handle=handle)
    return lambda: plan(outs, lses, out=out)


def compute_append(handle):
    rows = np.ones((1, 1 << 15, 8, 64), np.float32)
    caches = np.zeros_like(rows), np.zeros_like(rows)
    rope = attn.Rope("interleaved")
    return lambda: attn.append(rows, rows, *caches, rope=rope, handle=handle)


@pytest.mark.parametrize("prepare", [compute_attention, compute_merge, compute_append])
def test_gil_is_released(prepare):
    """While one thread is inside the library another one runs Python code."""
    work = prepare(attn.Handle(threads=1))
    times = {}

    def compute():
        begin = time.perf_counter()
        work()
        times["compute"] = begin, time.perf_counter()

    thread = threading.Thread(target=compute)
    stamps = []
    thread.start()
    while thread.is_alive():
        stamps.append(time.perf_counter())
        time.sleep(0.001)
    thread.join()
    begin, end = times["compute"]
    inside = [stamp for stamp in stamps if begin + 0.1 * (end - begin) < stamp < end - 0.1 * (end - begin)]
    assert end - begin > 0.02, "too fast to tell: make the problem larger"
    assert len(inside) >= 3

"""attention(): every option, dtype and layout against the float64 definition."""

import itertools

import numpy as np
import pytest

import attn
from helpers import assert_close, assert_lse_close, tensors
from reference import attend, attend_batch

OPTIONS = [
    {},
    {"causal": "top_left"},
    {"causal": "bottom_right"},
    {"causal": "bottom_right", "window": (3, 0)},
    {"causal": "bottom_right", "window": (3, None), "sink_tokens": 2},
    {"causal": "top_left", "window": (0, 0)},
    {"align": "top_left", "window": (2, 5)},
    {"align": "bottom_right", "window": (None, 1)},
    {"align": "bottom_right", "window": (4, None), "sink_tokens": 1},
    {"scale": 0.3},
    {"scale": -0.2},
    {"softcap": 1.5},
    {"softcap": 2.0, "scale": 0.7, "causal": "top_left", "window": (6, 0), "sink_tokens": 3},
]
LENGTHS = [(7, 7), (5, 19), (19, 5), (1, 33), (40, 1), (64, 130)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("tq,tk", LENGTHS)
def test_options(options, tq, tk):
    q, k, v = tensors((2, tq, 4, 16), (2, tk, 2, 16), (2, tk, 2, 16), seed=tq * 100 + tk)
    out, lse = attn.attention(q, k, v, return_lse=True, **options)
    expected, expected_lse = attend_batch(q, k, v, **options)
    assert type(out) is np.ndarray and out.dtype == np.float32
    assert_close(out, expected)
    assert_lse_close(lse, expected_lse)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("layout", ["bshd", "bhsd"])
@pytest.mark.parametrize("dim,dim_v", [(1, 1), (8, 24), (64, 64), (80, 5), (128, 128), (256, 40)])
def test_dtypes_layouts_dims(dtype, layout, dim, dim_v):
    q, k, v = tensors((2, 9, 6, dim), (2, 21, 3, dim), (2, 21, 2, dim_v), dtype=dtype, seed=dim)
    expected, expected_lse = attend_batch(q, k, v, causal="bottom_right")
    if layout == "bhsd":
        q, k, v = (np.ascontiguousarray(x.swapaxes(1, 2)) for x in (q, k, v))
    out, lse = attn.attention(q, k, v, causal="bottom_right", layout=layout, return_lse=True)
    assert out.dtype == dtype and out.flags.c_contiguous
    if layout == "bhsd":
        out = out.swapaxes(1, 2)
    assert_close(out, expected, np.dtype(dtype).name)
    assert_lse_close(lse, expected_lse)


@pytest.mark.parametrize("hq,hk,hv", [(1, 1, 1), (8, 8, 8), (8, 2, 2), (8, 1, 1), (6, 3, 2), (1, 4, 4), (2, 4, 1)])
def test_heads(hq, hk, hv):
    q, k, v = tensors((1, 5, hq, 8), (1, 6, hk, 8), (1, 6, hv, 8))
    out, lse = attn.attention(q, k, v, return_lse=True)
    expected, expected_lse = attend_batch(q, k, v)
    assert_close(out, expected)
    assert_lse_close(lse, expected_lse)


@pytest.mark.parametrize("combination", list(itertools.product([np.float32, np.float16], repeat=3)))
def test_mixed_dtypes(combination):
    q, k, v = tensors((1, 4, 2, 8), (1, 6, 2, 8), (1, 6, 2, 8))
    q, k, v = (x.astype(t) for x, t in zip((q, k, v), combination))
    out = np.empty(q.shape, np.float32)
    assert attn.attention(q, k, v, out=out) is out
    assert_close(out, attend_batch(q, k, v)[0])


def pack(lengths, *shape, seed=0):
    return tensors((sum(lengths), *shape), seed=seed)[0], np.cumsum([0, *lengths], dtype=np.int32)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("maxima", [{}, {"max_seqlen_q": 12, "max_seqlen_kv": 40}])
def test_packed(index, maxima):
    q, cu_q = pack([3, 0, 12, 1], 4, 16, seed=1)
    k, cu_k = pack([5, 2, 12, 40], 2, 16, seed=2)
    v, _ = pack([5, 2, 12, 40], 2, 8, seed=3)
    out, lse = attn.attention(
        q, k, v, layout="thd", cu_seqlens_q=cu_q.astype(index), cu_seqlens_kv=cu_k.astype(index), causal="bottom_right",
        return_lse=True, **maxima,
    )  # fmt: skip
    assert out.shape == (16, 4, 8) and lse.shape == (4, 16)
    for b in range(4):
        rows, keys = slice(*cu_q[b : b + 2]), slice(*cu_k[b : b + 2])
        expected, expected_lse = attend(q[rows], k[keys], v[keys], causal="bottom_right")
        if expected.size:
            assert_close(out[rows], expected)
            assert_lse_close(lse[:, rows], expected_lse)


def test_used_lengths():
    q, k, v = tensors((3, 6, 2, 8), (3, 9, 2, 8), (3, 9, 2, 8))
    used_q, used_kv = np.array([6, 2, 0], np.int32), np.array([4, 9, 3], np.int64)
    k[0, 4:] = np.nan
    v[0, 4:] = np.nan
    out = np.zeros(q.shape, np.float32)
    attn.attention(q, k, v, seqlens_q=used_q, seqlens_kv=used_kv, causal="bottom_right", out=out)
    for b in range(3):
        n, m = used_q[b], used_kv[b]
        assert_close(out[b, :n], attend(q[b, :n], k[b, :m], v[b, :m], causal="bottom_right")[0])


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("layout", ["bshd", "bhsd"])
@pytest.mark.parametrize("page", [1, 3, 16])
def test_paged(flat, layout, page):
    lengths = np.array([7, 30, 1], np.int32)
    counts = -(-lengths // page)
    k, v = tensors((64, page, 2, 8), (64, page, 2, 8))
    q = tensors((3, 2, 4, 8), seed=5)[0]
    order = np.random.default_rng(0).permutation(64).astype(np.int32)
    owned = np.split(order[: counts.sum()], np.cumsum(counts)[:-1])
    if flat:
        table = {"block_table": order[: counts.sum()], "block_table_ptr": np.cumsum([0, *counts], dtype=np.int32)}
    else:
        table = {"block_table": np.zeros((3, counts.max()), np.int32)}
        for b in range(3):
            table["block_table"][b, : counts[b]] = owned[b]
    views = (q, k, v) if layout == "bshd" else (np.ascontiguousarray(x.swapaxes(1, 2)) for x in (q, k, v))
    out = attn.attention(*views, layout=layout, seqlens_kv=lengths, causal="bottom_right", **table)
    if layout == "bhsd":
        out = out.swapaxes(1, 2)
    for b, n in enumerate(lengths):
        keys, values = (x[owned[b]].reshape(-1, 2, 8)[:n] for x in (k, v))
        assert_close(out[b], attend(q[b], keys, values, causal="bottom_right")[0])


def test_packed_queries_paged_keys():
    q, cu = pack([2, 5], 2, 8)
    k, v = tensors((4, 4, 2, 8), (4, 4, 2, 8), seed=9)
    table, lengths = np.array([[3, 1], [0, 2]], np.int32), np.array([6, 8], np.int32)
    out = attn.attention(
        q, k, v, layout="thd", cu_seqlens_q=cu, block_table=table, seqlens_kv=lengths, max_seqlen_kv=8,
        causal="bottom_right",
    )  # fmt: skip
    for b in range(2):
        keys, values = (x[table[b]].reshape(-1, 2, 8)[: lengths[b]] for x in (k, v))
        rows = slice(*cu[b : b + 2])
        assert_close(out[rows], attend(q[rows], keys, values, causal="bottom_right")[0])


@pytest.mark.parametrize("options", [{"causal": "by_position"}, {"align": "by_position", "window": (2, 1)}], ids=str)
def test_positions(options):
    q, k, v = tensors((2, 6, 2, 8), (2, 10, 2, 8), (2, 10, 2, 8))
    rng = np.random.default_rng(3)
    positions = rng.integers(3, 12, (2, 6)).astype(np.int32), rng.permuted(np.tile(np.arange(10), (2, 1)), axis=1)
    positions = positions[0], positions[1].astype(np.int64)
    out = attn.attention(q, k, v, positions_q=positions[0], positions_kv=positions[1], **options)
    assert_close(out, attend_batch(q, k, v, positions=positions, **options)[0])


def test_strides():
    big = tensors((2, 3, 11, 5, 4, 20))[0]
    q, k, v = big[:, 0, ::-1, :4, 1, ::2], big[:, 1, 1::2, ::2, 3, ::-2], big[:, 2, 9::-2, 1:4, 0, 5:15]
    k, v = k[:, :, 1:], v[:, :, ::-1][:, :, :2]
    assert q.shape == (2, 11, 4, 10) and k.shape == (2, 5, 2, 10) and v.shape == (2, 5, 2, 10)
    assert_close(attn.attention(q, k, v), attend_batch(q, k, v)[0])
    frame = np.full((2, 4, 22, 12), 7, np.float32)
    out = frame[:, :, ::-2, 1:-1].swapaxes(1, 2)
    attn.attention(q, k, v, out=out)
    assert_close(out, attend_batch(q, k, v)[0])
    assert (frame[:, :, 0::2] == 7).all() and (frame[..., 0] == 7).all() and (frame[..., -1] == 7).all()
    shared = np.broadcast_to(k[:1], k.shape)  # stride 0
    assert_close(attn.attention(q, shared, v), attend_batch(q, shared, v)[0])


def test_read_only_input():
    q, k, v = tensors((1, 3, 2, 4), (1, 3, 2, 4), (1, 3, 2, 4))
    for x in (q, k, v):
        x.flags.writeable = False
    assert_close(attn.attention(q, k, v), attend_batch(q, k, v)[0])


def test_other_buffers():
    q = memoryview(np.ones((1, 2, 1, 4), np.float32))
    out = attn.attention(q, q, q)
    assert isinstance(out, np.ndarray) and (out == 1).all()


@pytest.mark.parametrize("b,tq,tk", [(0, 3, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
@pytest.mark.parametrize("layout", ["bshd", "bhsd"])
def test_zero_sizes(b, tq, tk, layout):
    q, k, v = tensors((b, tq, 2, 4), (b, tk, 2, 4), (b, tk, 2, 4))
    if layout == "bhsd":
        q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    out, lse = attn.attention(q, k, v, layout=layout, return_lse=True)
    assert out.shape == q.shape and (out == 0).all()
    assert lse.shape == (b, 2, tq) and (lse == -np.inf).all()


def test_zero_sizes_packed():
    empty, cu = np.empty((0, 2, 4), np.float32), np.zeros(1, np.int32)
    assert attn.attention(empty, empty, empty, layout="thd", cu_seqlens_q=cu, cu_seqlens_kv=cu).shape == (0, 2, 4)
    cu = np.zeros(4, np.int32)
    assert attn.attention(empty, empty, empty, layout="thd", cu_seqlens_q=cu, cu_seqlens_kv=cu).shape == (0, 2, 4)


def test_out_and_lse():
    q, k, v = tensors((2, 5, 4, 8), (2, 5, 2, 8), (2, 5, 2, 8))
    out, lse = np.full_like(q, np.nan), np.full((2, 4, 5), np.nan, np.float32)
    assert attn.attention(q, k, v, out=out, lse=lse) is out
    both = attn.attention(q, k, v, out=out, lse=lse, return_lse=True)
    assert both[0] is out and both[1] is lse
    expected, expected_lse = attend_batch(q, k, v)
    assert_close(out, expected)
    assert_lse_close(lse, expected_lse)


def test_bfloat16_numpy():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="NumPy has bfloat16 only with ml_dtypes")
    q, k, v = tensors((2, 9, 4, 16), (2, 12, 2, 16), (2, 12, 2, 16), dtype=ml_dtypes.bfloat16)
    out, lse = attn.attention(q, k, v, return_lse=True)
    expected, expected_lse = attend_batch(q, k, v)
    assert out.dtype == ml_dtypes.bfloat16
    assert_close(out, expected, "bfloat16")
    assert_lse_close(lse, expected_lse)
    given = np.empty_like(q)
    assert attn.attention(q[:, ::-1], k, v, out=given) is given
    assert_close(given, expected[:, ::-1], "bfloat16")

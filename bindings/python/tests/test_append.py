"""append() and AppendPlan: rows by definition, and attention over what was appended."""

import numpy as np
import pytest

import attn
from helpers import assert_close, generator, poison, random
from layouts import PAGE
from reference import attend, rotate

B, H, D, DV, ROWS = 3, 2, 8, 6, 24


def cache(rng, *shape, dtype=np.float32):
    """Memory with something in every row, and a copy of it."""
    memory = random(rng, *shape, dtype=dtype)
    return memory, memory.copy()


def new_rows(rng, *lead, dtype=np.float32):
    return random(rng, *lead, H, D, dtype=dtype), random(rng, *lead, H, DV, dtype=dtype)


@pytest.mark.parametrize("layout", ["bshd", "bhsd"])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_contiguous(layout, index):
    rng = generator(1)
    k, v = new_rows(rng, B, 5)
    (k_cache, k_old), (v_cache, v_old) = cache(rng, B, ROWS, H, D), cache(rng, B, ROWS, H, DV)
    lengths = np.array([5, 24, 11], index)
    for b, n in enumerate(lengths):
        k_old[b, n - 5 : n], v_old[b, n - 5 : n] = k[b], v[b]
    arrays = [k, v, k_cache, v_cache]
    if layout == "bhsd":
        arrays = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in arrays]
    assert attn.append(*arrays, seqlens_kv=lengths, layout=layout) is None
    for mine, expected in zip(arrays[2:], (k_old, v_old)):
        np.testing.assert_array_equal(mine.swapaxes(1, 2) if layout == "bhsd" else mine, expected)


def test_from_the_first_row_and_used_rows():
    rng = generator(2)
    k, v = new_rows(rng, B, 5)
    (k_cache, k_old), (v_cache, v_old) = cache(rng, B, ROWS, H, D), cache(rng, B, ROWS, H, DV)
    used = np.array([5, 0, 2], np.int32)
    attn.append(k, v, k_cache, v_cache, seqlens_q=used)
    for b, n in enumerate(used):
        k_old[b, :n], v_old[b, :n] = k[b, :n], v[b, :n]
    np.testing.assert_array_equal(k_cache, k_old)
    np.testing.assert_array_equal(v_cache, v_old)


@pytest.mark.parametrize("flat", [False, True])
def test_packed_rows_into_pages_then_attention(flat):
    """Append in two goes, then attend: the same as over contiguous keys."""
    rng = generator(3)
    lengths = np.array([7, 1, 12], np.int32)
    counts = -(-lengths // PAGE)
    order = rng.permutation(16).astype(np.int32)
    owned = np.split(order[: counts.sum()], np.cumsum(counts)[:-1])
    table = {"block_table": np.zeros((B, counts.max()), np.int32)}
    for b, pages in enumerate(owned):
        table["block_table"][b, : len(pages)] = pages
    if flat:
        table = {"block_table": order[: counts.sum()], "block_table_ptr": np.cumsum([0, *counts], dtype=np.int32)}
    k_pages, v_pages = np.zeros((16, PAGE, H, D), np.float32), np.zeros((16, PAGE, H, DV), np.float32)
    keys, values = zip(*(new_rows(rng, n) for n in lengths))
    before = np.array([4, 0, 11])
    for begin, end in ((before * 0, before), (before, lengths)):
        rows = [slice(*pair) for pair in zip(begin, end)]
        cu = np.cumsum([0, *(end - begin)], dtype=np.int32)
        attn.append(
            np.concatenate([x[r] for x, r in zip(keys, rows)]), np.concatenate([x[r] for x, r in zip(values, rows)]),
            k_pages, v_pages, layout="thd", cu_seqlens_q=cu, seqlens_kv=end.astype(np.int32), **table,
        )  # fmt: skip
    for b, n in enumerate(lengths):
        np.testing.assert_array_equal(k_pages[owned[b]].reshape(-1, H, D)[:n], keys[b])
    q = random(rng, B, 1, 4, D)
    out = attn.attention(q, k_pages, v_pages, seqlens_kv=lengths, causal="bottom_right", **table)
    for b, n in enumerate(lengths):
        alone = attn.attention(q[b : b + 1], keys[b][None], values[b][None], causal="bottom_right")
        np.testing.assert_allclose(out[b : b + 1], alone, rtol=1e-6, atol=1e-6)
        assert_close(out[b], attend(q[b], keys[b], values[b], causal="bottom_right")[0])


@pytest.mark.parametrize("paged", [False, True])
def test_slot_mapping(paged):
    rng = generator(4)
    k, v = new_rows(rng, B, 3)
    shape = (ROWS // PAGE * B, PAGE) if paged else (B, ROWS)
    (k_cache, k_old), (v_cache, v_old) = cache(rng, *shape, H, D), cache(rng, *shape, H, DV)
    mapping = rng.permutation(ROWS)[: 3 * B].reshape(B, 3).astype(np.int64)
    mapping[1, 1] = -1
    attn.append(k, v, k_cache, v_cache, slot_mapping=mapping, paged=paged)
    for b in range(B):
        for t in range(3):
            at = (mapping[b, t] // PAGE, mapping[b, t] % PAGE) if paged else (b, mapping[b, t])
            if mapping[b, t] >= 0:
                k_old[at], v_old[at] = k[b, t], v[b, t]
    np.testing.assert_array_equal(k_cache, k_old)
    np.testing.assert_array_equal(v_cache, v_old)


def test_ring_then_attention():
    """One row at a time into a ring with sink tokens: attention sees the first two and the last six."""
    rng = generator(5)
    ring, sinks, total = 8, 2, 21
    k, v = new_rows(rng, 1, total)
    k_cache, v_cache = np.zeros((1, ring, H, D), np.float32), np.zeros((1, ring, H, DV), np.float32)
    plan = attn.AppendPlan(
        heads_k=H, dim_qk=D, dim_v=DV, max_q=1, max_kv=ring, ring_rows=ring, sink_tokens=sinks, inputs=["seqlens_kv"]
    )
    for t in range(total):
        lengths = np.array([t + 1], np.int32)
        plan(k[:, t : t + 1], v[:, t : t + 1], k_cache, v_cache, seqlens_kv=lengths)
    kept = [*range(sinks), *range(total - (ring - sinks), total)]
    q = random(rng, 1, 1, H, D)
    assert_close(attn.attention(q, k_cache, v_cache)[0], attend(q[0], k[0, kept], v[0, kept])[0])
    again = np.zeros_like(k_cache), np.zeros_like(v_cache)
    for t in range(total):
        rows, lengths = (k[:, t : t + 1], v[:, t : t + 1]), np.array([t + 1])
        attn.append(*rows, *again, seqlens_kv=lengths, ring_rows=ring, sink_tokens=sinks)
    np.testing.assert_array_equal(again[0], k_cache)
    np.testing.assert_array_equal(again[1], v_cache)


ROPES = [
    {},
    {"layout": "interleaved"},
    {"layout": "half", "dim": 4, "first": 2, "base": 500.0},
    {"layout": "interleaved", "dim": 6},
]


@pytest.mark.parametrize("rope", ROPES, ids=str)
@pytest.mark.parametrize("positions", [False, True])
def test_rope(rope, positions):
    """K and Q turn at the rows of the cache, or at the given positions."""
    rng = generator(6)
    k, v = new_rows(rng, B, 4)
    q = random(rng, B, 4, 6, D)
    (k_cache, k_old), (v_cache, _) = cache(rng, B, ROWS, H, D), cache(rng, B, ROWS, H, DV)
    lengths = np.array([4, 20, 9], np.int32)
    where = rng.integers(0, 900, (B, 4)).astype(np.int32) if positions else lengths[:, None] - 4 + np.arange(4)
    given = {"positions_q": where} if positions else {}
    out = poison(B, 4, 6, D)
    result = attn.append(k, v, k_cache, v_cache, q=q, out=out, rope=attn.Rope(**rope), seqlens_kv=lengths, **given)
    assert result is out
    for b, n in enumerate(lengths):
        k_old[b, n - 4 : n] = rotate(k[b], where[b], **rope)
        np.testing.assert_allclose(k_cache[b], k_old[b], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(out[b], rotate(q[b], where[b], **rope), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(v_cache[b, n - 4 : n], v[b])

    plan = attn.AppendPlan(
        heads_q=6, heads_k=H, dim_qk=D, dim_v=DV, max_q=4, max_kv=ROWS, batch=B, rotates_q=True, rope=attn.Rope(**rope),
        inputs=["seqlens_kv", *given],
    )  # fmt: skip
    again = np.zeros_like(k_cache), np.zeros_like(v_cache)
    np.testing.assert_array_equal(plan(k, v, *again, q=q, seqlens_kv=lengths, **given), out)
    assert "attn.AppendPlan" in repr(plan)
    for b, n in enumerate(lengths):
        np.testing.assert_array_equal(again[0][b, n - 4 : n], k_cache[b, n - 4 : n])


def test_rope_tables_and_queries_alone():
    rng = generator(7)
    q = random(rng, B, 4, 6, D)
    positions = rng.integers(0, 50, (B, 4)).astype(np.int64)
    angles = random(rng, 50, D // 2, dtype=np.float64)
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    out = attn.append(
        None, None, None, None, q=q, rope=attn.Rope(source="table"), rope_cos=cos, rope_sin=sin, positions_q=positions
    )
    c, s = (x.astype(np.float64)[positions][:, :, None] for x in (cos, sin))
    low, high = q[..., : D // 2], q[..., D // 2 :]
    expected = np.concatenate([low * c - high * s, low * s + high * c], -1)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    by_row = attn.append(None, None, None, None, q=q, rope=attn.Rope(), seqlens_kv=np.array([4, 7000, 30], np.int32))
    for b, n in enumerate((4, 7000, 30)):
        np.testing.assert_allclose(by_row[b], rotate(q[b], np.arange(n - 4, n)), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["k", "v"])
def test_one_of_both(name):
    rng = generator(8)
    rows = dict(zip("kv", new_rows(rng, B, 3)))[name]
    memory, old = cache(rng, B, ROWS, *rows.shape[2:])
    given = (rows, None, memory, None) if name == "k" else (None, rows, None, memory)
    attn.append(*given)
    old[:, :3] = rows
    np.testing.assert_array_equal(memory, old)


@pytest.mark.parametrize("given,kept", [("float32", "float16"), ("float32", "bfloat16"), ("float16", "float32")])
def test_conversion(given, kept):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="NumPy has bfloat16 only with ml_dtypes")
    rng = generator(9)
    kept = np.dtype(getattr(ml_dtypes, kept, None) or kept)
    k, v = new_rows(rng, B, 3, dtype=np.dtype(given))
    k_cache, v_cache = np.zeros((B, ROWS, H, D), kept), np.zeros((B, ROWS, H, DV), np.float32)
    attn.append(k, v, k_cache, v_cache)
    np.testing.assert_array_equal(k_cache[:, :3], k.astype(kept))
    np.testing.assert_array_equal(v_cache[:, :3], v.astype(np.float32))
    plan = attn.AppendPlan(
        heads_k=H, dim_qk=D, dim_v=DV, max_q=3, max_kv=ROWS, batch=B, k_dtype=kept, k_rows_dtype=given,
        v_dtype="float32", v_rows_dtype=given,
    )  # fmt: skip
    again = np.zeros_like(k_cache), np.zeros_like(v_cache)
    assert plan(k, v, *again) is None
    np.testing.assert_array_equal(again[0], k_cache)


def test_zero_rows():
    k, v = np.ones((B, 0, H, D), np.float32), np.ones((B, 0, H, DV), np.float32)
    k_cache, v_cache = np.zeros((B, ROWS, H, D), np.float32), np.zeros((B, ROWS, H, DV), np.float32)
    attn.append(k, v, k_cache, v_cache, seqlens_kv=np.array([0, 5, 24], np.int32))
    assert not k_cache.any() and not v_cache.any()


K, V = np.ones((1, 2, H, D), np.float32), np.ones((1, 2, H, DV), np.float32)
LENGTHS = np.array([3], np.int32)


@pytest.mark.parametrize(
    "changes,error,message",
    [
        ({"k": None}, ValueError, "k and k_cache: must be given together"),
        ({"v_cache": None}, ValueError, "v and v_cache: must be given together"),
        ({"k": K[0]}, ValueError, r"k has shape \(2, 2, 8\), must have 4 axes: \[batch, token, head, channel\]"),
        ({"k_cache": K[0].copy()}, ValueError, r"k_cache has shape .*: \[batch, row, head, channel\]"),
        ({"k_cache": np.broadcast_to(np.float32(0), (1, 8, H, D))}, ValueError, "k_cache is read-only"),
        ({"k": K[..., :0], "k_cache": np.zeros((1, 8, H, 0), np.float32)}, ValueError, "k has shape"),
        ({"out": K.copy()}, ValueError, "out: must be None where q is"),
        ({"rope": "half"}, TypeError, "rope = 'half': must be None or an attn.Rope"),
        ({"ring_rows": 0}, ValueError, "ring_rows = 0"),
        ({"max_seqlen_q": 2}, ValueError, "max_seqlen_q"),
        ({"layout": "thd"}, ValueError, "layout = 'thd'"),
        ({"seqlens_kv": np.array([9], np.int32)}, attn.Error, r"SEQLENS_KV\[0\] = 9"),
        ({"seqlens_kv": np.array([1], np.int32)}, attn.Error, r"SEQLENS_KV\[0\] = 1"),
        ({"seqlens_kv": np.array([3, 3], np.int32)}, attn.Error, "SEQLENS_KV"),
        ({"k_cache": np.zeros((1, 8, H, D), np.float64)}, attn.Error, "float64"),
        ({"k_cache": np.zeros((1, 8, H, D - 1), np.float32)}, attn.Error, r"K_CACHE\.shape\[3\] = 7"),
        ({"v_cache": np.zeros((2, 8, H, DV), np.float32)}, attn.Error, r"V_CACHE\.shape\[0\] = 2"),
        ({"ring_rows": 9}, attn.Error, "ring_rows = 9"),
        ({"sink_tokens": 1}, attn.Error, "sink_tokens"),
        ({"ring_rows": 4, "sink_tokens": 4}, attn.Error, "sink_tokens = 4"),
        ({"rope": attn.Rope(dim=3)}, attn.Error, "dim = 3"),
        ({"rope": attn.Rope(first=6, dim=4)}, attn.Error, "first"),
        ({"rope": attn.Rope(source="table")}, attn.Error, "ROPE_COS"),
        ({"rope_cos": np.ones((4, 4), np.float32)}, attn.Error, "ROPE_COS"),
        ({"positions_q": np.zeros((1, 2), np.int32)}, attn.Error, "POSITIONS_Q"),
        ({"slot_mapping": np.zeros((1, 2), np.int32), "seqlens_kv": None}, attn.Error, "SLOT_MAPPING"),
        ({"slot_mapping": np.array([[0, 8]]), "seqlens_kv": None}, attn.Error, r"SLOT_MAPPING\[0\]\[1\] = 8"),
        ({"block_table": np.array([[5]], np.int32)}, attn.Error, "BLOCK_TABLE"),
    ],
    ids=str,
)  # fmt: skip
def test_errors(changes, error, message):
    k_cache, v_cache = np.zeros((1, 8, H, D), np.float32), np.zeros((1, 8, H, DV), np.float32)
    given = {"k": K, "v": V, "k_cache": k_cache, "v_cache": v_cache, "seqlens_kv": LENGTHS, **changes}
    with pytest.raises(error, match=message):
        attn.append(given.pop("k"), given.pop("v"), given["k_cache"], given["v_cache"],
                    **{name: x for name, x in given.items() if not name.endswith("_cache")})  # fmt: skip
    for name in ("k_cache", "v_cache"):
        if given[name] is not None and name not in changes:
            assert not given[name].any()


def test_overlap():
    memory = np.zeros((1, 8, H, D), np.float32)
    with pytest.raises(attn.Error, match="K_CACHE.*must not overlap"):
        attn.append(memory[:, :2], V, memory, np.zeros((1, 8, H, DV), np.float32))
    with pytest.raises(attn.Error, match="must not overlap"):
        attn.append(K, K, memory, memory)


def test_rope_errors():
    for options, error, message in [
        ({"layout": "pairs"}, ValueError, "layout = 'pairs'"),
        ({"source": "file"}, ValueError, "source = 'file'"),
        ({"dim": 0}, ValueError, "dim = 0"),
        ({"first": 1.5}, TypeError, "first = 1.5"),
        ({"base": 0}, ValueError, "base = 0"),
    ]:
        with pytest.raises(error, match=message):
            attn.Rope(**options)


def test_plan_errors():
    sizes = {"heads_k": H, "dim_qk": D, "dim_v": DV, "max_q": 2, "max_kv": 8}
    with pytest.raises(ValueError, match="max_kv = 0"):
        attn.AppendPlan(**{**sizes, "max_kv": 0})
    with pytest.raises(ValueError, match="inputs: 'bias'"):
        attn.AppendPlan(**sizes, inputs=["bias"])
    with pytest.raises(attn.Error, match="nothing to do"):
        attn.AppendPlan(**sizes, writes_k=False, writes_v=False)
    plan = attn.AppendPlan(**sizes)
    caches = np.zeros((1, 8, H, D), np.float32), np.zeros((1, 8, H, DV), np.float32)
    with pytest.raises(ValueError, match="k_cache = None"):
        plan(K, V)
    with pytest.raises(attn.Error, match="slot V index 0 is missing"):
        plan(K, None, *caches)
    with pytest.raises(TypeError, match="scale: not an argument of AppendPlan"):
        plan(K, V, K, V, scale=1)
    with pytest.raises(ValueError, match="q = None"):
        attn.AppendPlan(**sizes, rotates_q=True)(K, V, *caches)

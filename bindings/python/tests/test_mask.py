"""Mask expressions: what they mean, in attention() and Plan, against their definition pair by pair."""

import doctest
import math

import numpy as np
import pytest

import attn
from attn import mask
from helpers import assert_close, assert_lse_close, generator, random
from layouts import LAYOUTS, lay_out, sequence, taken_apart
from reference import attend_all

B, TQ, TK, HQ, HK, D = 3, 9, 14, 4, 2, 16
LENGTHS_Q, LENGTHS_K = [9, 0, 5], [14, 3, 11]


def power(x):
    return x >= 0 and (x & (x - 1)) == 0


# The expression, and whether head h of 4 has query i see key j; q, k: ids by pair; d: distance by the bottom right.
MASKS = {
    "causal": (mask.causal("bottom_right"), lambda h, i, j, d, tq, tk, q, k: d <= 0),
    "causal by the call": (mask.causal(), lambda h, i, j, d, tq, tk, q, k: d <= 0),
    "band": (mask.band(3, None, "bottom_right"), lambda h, i, j, d, tq, tk, q, k: d >= -3),
    "negative band": (mask.band(None, -2, "bottom_right"), lambda h, i, j, d, tq, tk, q, k: d <= -2),
    "top left": (mask.band(0, 2, "top_left"), lambda h, i, j, d, tq, tk, q, k: 0 <= j - i <= 2),
    "documents": (
        mask.id_eq() & mask.causal("bottom_right"), lambda h, i, j, d, tq, tk, q, k: q[0][i] == k[0][j] and d <= 0,
    ),
    "two pairs": (
        mask.id_ge(1) | mask.id_gt() & ~mask.id_kv(2, 1),
        lambda h, i, j, d, tq, tk, q, k: q[1][i] >= k[1][j] or (q[0][i] > k[0][j] and k[1][j] != 2),
    ),
    "ids of queries": (mask.id_q(1) | mask.prefix(4), lambda h, i, j, d, tq, tk, q, k: q[0][i] == 1 or j < 4),
    "rows": (
        mask.first_rows(2) | mask.last_rows(3) | ~mask.prefix(9),
        lambda h, i, j, d, tq, tk, q, k: i < 2 or i >= tq - 3 or j >= 9,
    ),
    "vertical": (mask.vertical(3, 1, 2), lambda h, i, j, d, tq, tk, q, k: (j // 2 + 1) % 3 == 0),
    "pow2": (
        mask.pow2(2, "bottom_right"), lambda h, i, j, d, tq, tk, q, k: power((i + tk - tq) // 2 - j // 2),
    ),
    "heads": (
        mask.heads(1, 3) & mask.prefix(5) | mask.heads_in([True, False, 0, 1]),
        lambda h, i, j, d, tq, tk, q, k: (1 <= h < 3 and j < 5) or h in (0, 3),
    ),
    "growing": (
        mask.prefix(mask.growing(2, 0.25)), lambda h, i, j, d, tq, tk, q, k: j < 2 + math.floor(0.25 * tk),
    ),
    "growing from a fraction": (
        mask.prefix(mask.growing(0.5, 0.25)), lambda h, i, j, d, tq, tk, q, k: j < math.floor(0.5 + 0.25 * tk),
    ),
    "by head": (
        mask.band([3, None, mask.growing(1.5, 0.2), 0], 1, "bottom_right"),
        lambda h, i, j, d, tq, tk, q, k: -(3, 99, math.floor(1.5 + 0.2 * tk), 0)[h] <= d <= 1,
    ),
    "by head of K": (
        mask.band(2, [0, 4], "bottom_right"), lambda h, i, j, d, tq, tk, q, k: -2 <= d <= (0, 0, 4, 4)[h],
    ),
}  # fmt: skip


def visible(rule, arrays, b, nq, nk):
    ids = [[arrays[name][b] for name in pairs] for pairs in (("ids_q", "ids_q[1]"), ("ids_kv", "ids_kv[1]"))]
    shape = HQ, nq, nk
    seen = [rule(h, i, j, j - (i + nk - nq), nq, nk, *ids) for h in range(HQ) for i in range(nq) for j in range(nk)]
    return np.array(seen, bool).reshape(shape)


def used_ids(expression):
    """Names of the ids that an expression reads."""
    names = set()
    for term in ("id_eq", "id_ge", "id_gt", "id_q", "id_kv"):
        for part in repr(expression).split(f"{term}(")[1:]:
            pair = "[1]" if "pair=1" in part.split(")")[0] else ""
            names |= {f"ids_{side}{pair}" for side in ("q", "kv") if term in ("id_eq", "id_ge", "id_gt", f"id_{side}")}
    return names


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", MASKS)
def test_mask(name, layout, dtype):
    expression, rule = MASKS[name]
    rng = generator(900)
    arrays = {
        "q": random(rng, B, TQ, HQ, D), "k": random(rng, B, TK, HK, D), "v": random(rng, B, TK, HK, D),
        "ids_q": np.sort(rng.integers(0, 3, (B, TQ), dtype), 1),
        "ids_kv": np.sort(rng.integers(0, 3, (B, TK), dtype), 1),
        "ids_q[1]": rng.integers(0, 4, (B, TQ), dtype), "ids_kv[1]": rng.integers(0, 4, (B, TK), dtype),
    }  # fmt: skip
    used = used_ids(expression)
    laid = lay_out(arrays, layout, LENGTHS_Q, LENGTHS_K, rng)
    for side in ("ids_q", "ids_kv"):
        pairs = {pair: laid.pop(f"{side}[1]" if pair else side) for pair in (0, 1)}
        pairs = {pair: x for pair, x in pairs.items() if (f"{side}[1]" if pair else side) in used}
        if pairs:
            laid[side] = pairs[0] if list(pairs) == [0] else pairs
    options = {"mask": expression}
    if name == "causal by the call":
        options["align"] = "bottom_right"
    out, lse = attn.attention(**laid, **options, return_lse=True)
    for b, (nq, nk) in enumerate(zip(LENGTHS_Q, LENGTHS_K)):
        alone = {key: x for key, x in sequence(arrays, b, nq, nk).items() if not key.startswith("ids")}
        expected = attend_all(**alone, mask=visible(rule, arrays, b, nq, nk))
        assert_close(taken_apart(out, "out", layout, LENGTHS_Q, LENGTHS_K)[b], expected["out"])
        assert_lse_close(taken_apart(lse, "lse", layout, LENGTHS_Q, LENGTHS_K)[b], expected["lse"])

    inputs = {name: None for name in laid if "seqlens" in name}
    inputs.update({name: attn.Input(dtype) for name in used})
    plan = attn.Plan(
        batch=B, heads_q=HQ, heads_k=HK, dim_qk=D, max_q=TQ, max_kv=16, layout=laid.get("layout", "bshd"),
        page_size=laid["k"].shape[1] if layout == "paged" else None, inputs=inputs, outputs=["lse"], **options,
    )  # fmt: skip
    again = plan(**{key: x for key, x in laid.items() if key != "layout"})
    for mine, other, result in zip(again, (out, lse), ("out", "lse")):
        parts = [taken_apart(x, result, layout, LENGTHS_Q, LENGTHS_K) for x in (mine, other)]
        for one, two in zip(*parts):
            np.testing.assert_array_equal(one, two)


def test_values():
    """Masks compare by value, so that calls share their plans, and those that differ do not."""
    assert mask.prefix(4) | mask.causal() == mask.prefix(4) | mask.causal()
    assert mask.prefix(4) != mask.prefix(5) != mask.prefix([5, 5])
    assert len({mask.id_eq(), mask.id_eq(0), mask.id_eq(1), mask.id_ge()}) == 3
    handle = attn.Handle(threads=1)
    q = k = v = np.ones((1, 8, 2, 4), np.float32)
    v = np.arange(64, dtype=np.float32).reshape(1, 8, 2, 4)
    for keys in (1, 3, 1):
        out = attn.attention(q, k, v, mask=mask.prefix(keys), handle=handle)
        np.testing.assert_allclose(out[0, 0], v[0, :keys].mean(0), rtol=1e-6)


def test_description():
    expression = mask.band([1, None], 0, "top_left") | ~mask.prefix(2)
    plan = attn.Plan(heads_q=4, heads_k=2, dim_qk=8, max_q=4, mask=expression)
    assert plan.describe()["dense"]["mask"] == [
        {"op": "band", "align": "top_left", "p": [0, 0], "columns": 1, "values": [1, None]},
        {"op": "prefix", "p": [2]},
        {"op": "not"},
        {"op": "or"},
    ]


def test_mistakes():
    with pytest.raises(TypeError, match="neither true nor false"):
        mask.causal() and mask.prefix(2)
    with pytest.raises(TypeError, match="made by the functions"):
        mask.Mask()
    with pytest.raises(TypeError):
        mask.causal() & 1
    with pytest.raises(ValueError, match="align = 'middle'"):
        mask.causal("middle")
    with pytest.raises(TypeError, match=r"keys = 2\.5"):
        mask.prefix(2.5)
    with pytest.raises(ValueError, match="right has 2 values"):
        mask.band([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="for each head"):
        mask.prefix([])
    with pytest.raises(ValueError, match="pair = -1"):
        mask.id_eq(-1)
    x = np.ones((1, 4, 2, 8), np.float32)
    with pytest.raises(TypeError, match="mask = 'causal'"):
        attn.attention(x, x, x, mask="causal")
    with pytest.raises(attn.Error, match="needs a diagonal"):
        attn.attention(x, x, x, mask=mask.causal())
    with pytest.raises(attn.Error, match="IDS_Q"):
        attn.attention(x, x, x, mask=mask.id_eq())
    with pytest.raises(attn.Error, match="IDS_KV, index 3"):
        ids = np.zeros((1, 4), np.int32)
        attn.attention(x, x, x, mask=mask.id_eq(), ids_q=ids, ids_kv={3: ids})
    with pytest.raises(attn.Error, match="rows = 3"):
        attn.attention(x, x, x, mask=mask.prefix([1, 2, 3]))


def test_examples():
    assert doctest.testmod(mask).failed == 0

"""Every option of scores, activations and results: attention() and Plan against the float64 definition."""

import numpy as np
import pytest

import attn
from helpers import GLOBAL_ERROR, assert_close, assert_lse_close, generator, poison, random
from layouts import LAYOUTS, lay_out, sequence, taken_apart
from reference import attend_all, bucket, grid_entry

B, TQ, TK, HQ, HK, HV, D, DV = 3, 9, 14, 4, 2, 2, 16, 12
HO = max(HQ, HK, HV)
LENGTHS_Q, LENGTHS_K = [9, 0, 5], [14, 3, 11]
DEFAULT_ROWS = ("lse", "row_max", "row_entropy")


def lookup(**given):
    """A BiasLookup, its entries, and the same by definition."""
    value = attn.BiasLookup(**given)
    kind, most = value.kind, value.max_distance or 128
    if kind == "grid":
        return value, int(np.prod([2 * n - 1 for n in value.grid])), lambda i, j, d: grid_entry(value.grid, i, j)
    if kind == "distance":
        return value, 2 * most + 1, lambda i, j, d: int(np.clip(d, -most, most)) + most
    count = value.buckets or 32
    return value, count, lambda i, j, d: bucket(int(d), count, most, value.bidirectional)


def positive(rng, *shape):
    return (0.5 + rng.random(shape)).astype(np.float32)


def slopes(rng):
    return {"alibi_slopes": positive(rng, HO) / 4}


def table(rng, **given):
    value, entries, entry = lookup(**given)
    return {"bias_lookup": value, "bias_table": random(rng, entries, HO), "entry": entry}


def lowrank(rng, rank, dtype=np.float32):
    sizes = (B, TQ, HO, rank), (B, TK, HO, rank)
    return {f"bias_lowrank_{side}": random(rng, *size, dtype=dtype) for side, size in zip("qk", sizes)}


VARIANTS = {
    "plain": lambda rng: {},
    "q_temperature": lambda rng: {"q_temperature": positive(rng, B, TQ, HQ), "causal": "bottom_right"},
    "v_temperature": lambda rng: {"v_temperature": positive(rng, B, TK, HV)},
    "bias": lambda rng: {"bias": random(rng, B, HO, TQ, TK)},
    "bias float16": lambda rng: {"bias": random(rng, B, HO, TQ, TK, dtype=np.float16), "softcap": 2.0},
    "bias before softcap": lambda rng: {
        "bias": random(rng, B, HO, TQ, TK), "softcap": 1.5, "bias_stage": "pre_softcap", "causal": "top_left",
    },
    "ALiBi": lambda rng: {**slopes(rng), "causal": "bottom_right"},
    "ALiBi both ways": lambda rng: {**slopes(rng), "align": "top_left", "softcap": 3.0, "bias_stage": "pre_softcap"},
    "table by distance": lambda rng: {**table(rng, max_distance=4), "align": "bottom_right"},
    "table by default distance": lambda rng: {**table(rng, kind="distance"), "causal": "top_left"},
    "table by bucket": lambda rng: {**table(rng, kind="bucket", buckets=8, max_distance=10), "causal": "bottom_right"},
    "table by bucket both ways": lambda rng: {
        **table(rng, kind="bucket", bidirectional=True, buckets=12, max_distance=9), "align": "top_left", "scale": 1.0,
    },
    "table by grid": lambda rng: table(rng, kind="grid", grid=[2, 1, 7]),
    "low-rank bias": lambda rng: lowrank(rng, 3),
    "low-rank bias float16": lambda rng: {
        **lowrank(rng, 1, np.float16), "softcap": 4.0, "window": (3, 2), "align": "top_left",
    },
    "sink logits": lambda rng: {"sink_logits": random(rng, HO), "causal": "bottom_right"},
    "sigmoid": lambda rng: {"activation": "sigmoid", "activation_bias": -np.log(TK)},
    "sigmoid without bias": lambda rng: {"activation": "sigmoid", "causal": "bottom_right"},
    "ReLU": lambda rng: {"activation": "relu", "causal": "bottom_right"},
    "ReLU by length": lambda rng: {"activation": "relu", "activation_length": 20},
    "gate": lambda rng: {"gate": random(rng, B, TQ, HO, DV)},
    "gate linear float16": lambda rng: {"gate": random(rng, B, TQ, HO, DV, dtype=np.float16), "gate_kind": "linear"},
    "gate silu": lambda rng: {"gate": random(rng, B, TQ, HO, DV), "gate_kind": "silu", "activation": "sigmoid"},
    "head weight": lambda rng: {"head_weight": positive(rng, B, TQ, HO) * (rng.random((B, TQ, HO)) < 0.7)},
    "all": lambda rng: {
        **slopes(rng), **table(rng, max_distance=6), **lowrank(rng, 2), "bias": random(rng, B, HO, TQ, TK),
        "q_temperature": positive(rng, B, TQ, HQ), "v_temperature": positive(rng, B, TK, HV),
        "sink_logits": random(rng, HO), "gate": random(rng, B, TQ, HO, DV), "gate_kind": "silu", "softcap": 5.0,
        "head_weight": positive(rng, B, TQ, HO), "causal": "bottom_right", "window": (6, 0), "sink_tokens": 2,
        "scale": 0.4,
    },
}  # fmt: skip


def make(rng, variant, dtype=np.float32):
    """(options, arrays, entry) of a variant."""
    made = VARIANTS[variant](rng)
    entry = made.pop("entry", None)
    arrays = {name: made.pop(name) for name in list(made) if isinstance(made[name], np.ndarray)}
    arrays["q"] = random(rng, B, TQ, HQ, D, dtype=dtype)
    arrays["k"] = random(rng, B, TK, HK, D, dtype=dtype)
    arrays["v"] = random(rng, B, TK, HV, DV, dtype=dtype)
    return made, arrays, entry


def expect(options, arrays, entry, b, nq, nk):
    alone = sequence(arrays, b, nq, nk)
    renamed = {name.replace("bias_lowrank", "lowrank"): x for name, x in alone.items()}
    plain = {name: value for name, value in options.items() if name != "bias_lookup"}
    return attend_all(**renamed, **plain, entry=entry)


def assert_rows_close(actual, expected, name):
    if name in ("lse", "row_max"):
        assert_lse_close(actual, expected)
    else:
        np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)


def plan_for(laid, options, arrays, rows):
    """The plan that attention() would make, with bounds of its own."""
    inputs = {
        name: attn.Input(x.dtype) for name, x in laid.items()
        if name not in ("q", "k", "v", "layout") and isinstance(x, np.ndarray)
    }  # fmt: skip
    paged = "block_table" in laid
    rank = {"bias_rank": arrays["bias_lowrank_q"].shape[-1]} if "bias_lowrank_q" in arrays else {}
    return attn.Plan(
        batch=B, heads_q=HQ, heads_k=HK, heads_v=HV, dim_qk=D, dim_v=DV, max_q=TQ, max_kv=16, q_dtype=laid["q"].dtype,
        page_size=laid["k"].shape[1] if paged else None, layout=laid.get("layout", "bshd"), inputs=inputs,
        outputs=rows, **rank, **options,
    )  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant, layout):
    rng = generator(100)
    options, arrays, entry = make(rng, variant)
    softmax = options.get("activation", "softmax") == "softmax"
    rows = DEFAULT_ROWS if softmax else ("row_max",)
    laid = lay_out(arrays, layout, LENGTHS_Q, LENGTHS_K, rng)
    results = dict(zip(("out", *rows), attn.attention(**laid, outputs=rows, **options)))
    for b, (nq, nk) in enumerate(zip(LENGTHS_Q, LENGTHS_K)):
        expected = expect(options, arrays, entry, b, nq, nk)
        for name, result in results.items():
            actual = taken_apart(result, name, layout, LENGTHS_Q, LENGTHS_K)[b]
            if name == "out":
                assert_close(actual, expected[name])
            else:
                assert_rows_close(actual, expected[name], name)

    plan = plan_for(laid, options, arrays, rows)
    tensors = {name: value for name, value in laid.items() if name != "layout"}
    given = {name: poison(*result.shape) for name, result in results.items()}
    returned = plan(**tensors, **given)
    assert len(returned) == 1 + len(rows)
    for name, result in zip(("out", *rows), returned):
        assert result is given[name]
        parts = [taken_apart(x, name, layout, LENGTHS_Q, LENGTHS_K) for x in (result, results[name])]
        for mine, other in zip(*parts):
            np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("variant", ["plain", "all"])
@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"], ids=str)
def test_dtypes(variant, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="NumPy has bfloat16 only with ml_dtypes")
    rng = generator(200)
    dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    options, arrays, entry = make(rng, variant, dtype)
    out = attn.attention(**arrays, **options)
    assert out.dtype == dtype
    for b in range(B):
        assert_close(out[b], expect(options, arrays, entry, b, TQ, TK)["out"], np.dtype(dtype).name)


@pytest.mark.parametrize("layout", ["bshd", "bhsd"])
@pytest.mark.parametrize(
    "name,shape",
    [
        ("bias", (1, HO, TQ, TK)),
        ("bias", (B, 1, TQ, TK)),
        ("bias", (1, 1, 1, TK)),
        ("bias", (B, HO, TQ, 1)),
        ("gate", (B, TQ, HO, 1)),
        ("gate", (1, 1, HO, DV)),
        ("head_weight", (1, 1, HO)),
        ("q_temperature", (B, TQ, 1)),
        ("v_temperature", (1, TK, 1)),
        ("sink_logits", (1,)),
        ("alibi_slopes", (1,)),
        ("bias_lowrank_q", (1, TQ, 1, 2)),
        ("bias_lowrank_k", (B, TK, 1, 2)),
        ("bias_table", (5, 1)),
    ],
)
def test_repeated(name, shape, layout):
    """An axis of extent 1 stands for all."""
    rng = generator(300)
    options, arrays, entry = make(rng, "plain")
    if name == "alibi_slopes":
        options["causal"] = "top_left"
    if name == "bias_table":
        options.update(bias_lookup=attn.BiasLookup(max_distance=2), causal="top_left")
        entry = lookup(max_distance=2)[2]
    if name.startswith("bias_lowrank"):
        arrays.update(lowrank(rng, 2))
    arrays[name] = random(rng, *shape)
    heads = {"q_temperature": HQ, "v_temperature": HV}.get(name, HO)
    full = {
        "bias": (B, HO, TQ, TK), "gate": (B, TQ, HO, DV), "head_weight": (B, TQ, HO), "sink_logits": (HO,),
        "q_temperature": (B, TQ, heads), "v_temperature": (B, TK, heads), "alibi_slopes": (HO,),
        "bias_lowrank_q": (B, TQ, HO, 2), "bias_lowrank_k": (B, TK, HO, 2), "bias_table": (5, HO),
    }  # fmt: skip
    expanded = {**arrays, name: np.broadcast_to(arrays[name], full[name])}
    laid = lay_out(arrays, layout, [TQ] * B, [TK] * B, rng)
    out = attn.attention(**laid, **options)

    repeated = [axis for axis, (given, wanted) in enumerate(zip(shape, full[name])) if given == 1 != wanted]
    if layout == "bhsd" and name not in ("bias", "bias_table", "sink_logits", "alibi_slopes"):
        repeated = [{1: 2, 2: 1}.get(axis, axis) for axis in repeated]
    inputs = {"seqlens_q": None, "seqlens_kv": None, name: attn.Input(broadcast=repeated)}
    plan = attn.Plan(
        batch=B, heads_q=HQ, heads_k=HK, dim_qk=D, dim_v=DV, max_q=TQ, max_kv=TK, inputs=inputs, layout=layout,
        bias_rank=2 if name.startswith("bias_lowrank") else None, **options,
    )  # fmt: skip
    np.testing.assert_array_equal(plan(**{key: x for key, x in laid.items() if key != "layout"}), out)
    for b, part in enumerate(taken_apart(out, "out", layout, [TQ] * B, [TK] * B)):
        assert_close(part, expect(options, expanded, entry, b, TQ, TK)["out"])


@pytest.mark.parametrize("hq,hk,hv", [(6, 3, 2), (2, 4, 1), (1, 1, 4), (32, 4, 16)])
def test_uneven_heads(hq, hk, hv):
    rng = generator(400)
    heads = max(hq, hk, hv)
    q, k, v = random(rng, 1, 5, hq, 8), random(rng, 1, 7, hk, 8), random(rng, 1, 7, hv, 6)
    more = {"q_temperature": positive(rng, 1, 5, hq), "v_temperature": positive(rng, 1, 7, hv),
            "gate": random(rng, 1, 5, heads, 6)}  # fmt: skip
    sink = random(rng, heads)
    out, lse = attn.attention(q, k, v, **more, sink_logits=sink, return_lse=True)
    expected = attend_all(q[0], k[0], v[0], **{name: x[0] for name, x in more.items()}, sink_logits=sink)
    assert_close(out[0], expected["out"])
    assert_lse_close(lse[0], expected["lse"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_v_aliases_k(layout):
    """Absorbed MLA: V is the first channels of K."""
    rng = generator(500)
    arrays = {"q": random(rng, B, TQ, 4, 24), "k": random(rng, B, TK, 1, 24)}
    laid = lay_out(arrays, layout, LENGTHS_Q, LENGTHS_K, rng)
    out = attn.attention(**laid, dim_v=16, causal="bottom_right", scale=0.2)
    assert out.shape[-1] == 16
    for b, part in enumerate(taken_apart(out, "out", layout, LENGTHS_Q, LENGTHS_K)):
        q, k = arrays["q"][b, : LENGTHS_Q[b]], arrays["k"][b, : LENGTHS_K[b]]
        assert_close(part, attend_all(q, k, k[..., :16], causal="bottom_right", scale=0.2)["out"])
    if layout == "bshd":
        plan = attn.Plan(batch=B, heads_q=4, heads_k=1, dim_qk=24, dim_v=16, max_q=TQ, max_kv=TK, v_aliases_k=True)
        expected = [attend_all(q, k, k[..., :16])["out"] for q, k in zip(arrays["q"], arrays["k"])]
        assert_close(plan(arrays["q"], arrays["k"]), np.stack(expected))
        with pytest.raises(attn.Error, match="slot V"):
            plan(arrays["q"], arrays["k"], arrays["k"])


@pytest.mark.parametrize("flags", [(), ("batch_invariant",), ["allow_nondeterministic", "strict_nonfinite", "checked"]])
@pytest.mark.parametrize("precision", ["full", "tf32"])
def test_flags_and_precision(flags, precision):
    rng = generator(600)
    q, k, v = random(rng, 2, 6, 2, 8), random(rng, 2, 9, 2, 8), random(rng, 2, 9, 2, 8)
    v[:, 7:] = np.inf
    out = attn.attention(q, k, v, causal="top_left", flags=flags, precision=precision)
    error = GLOBAL_ERROR["float32"] if precision == "full" else 1e-3
    for b in range(2):
        expected = attend_all(q[b], k[b, :6], v[b, :6], causal="top_left")["out"]
        assert np.linalg.norm(out[b] - expected) <= error * np.linalg.norm(expected)
    if "batch_invariant" in flags:
        for b in range(2):
            alone = attn.attention(q[b : b + 1], k[b : b + 1], v[b : b + 1], causal="top_left", flags=flags)
            np.testing.assert_array_equal(alone, out[b : b + 1])


def test_flags_and_precision_reach_the_plan():
    sizes = {"heads": 2, "max_q": 4, "dim_v": 8}
    plans = [
        attn.Plan(heads_q=2, dim_qk=8, max_q=4, precision="tf32", flags=["checked", "batch_invariant"]),
        attn.MergePlan(parts=2, **sizes, flags=["checked", "batch_invariant"]),
        attn.AppendPlan(heads_k=2, dim_qk=8, max_q=4, max_kv=8, flags=["checked", "batch_invariant"]),
    ]
    for plan in plans:
        assert plan.describe()["problem"]["flags"] == 2 | 8
    assert plans[0].describe()["problem"]["precision"] == 1


@pytest.mark.parametrize("layout", ["thd", "paged"])
def test_bias_wider_than_the_keys(layout):
    rng = generator(650)
    options, arrays, entry = make(rng, "bias")
    laid = lay_out(arrays, layout, LENGTHS_Q, LENGTHS_K, rng)
    wide = np.full((*laid["bias"].shape[:-1], 33), np.nan, np.float32)
    wide[..., :TK] = laid["bias"]
    np.testing.assert_array_equal(
        *(taken_apart(attn.attention(**{**laid, "bias": x}), "out", layout, LENGTHS_Q, LENGTHS_K)[2]
          for x in (wide, laid["bias"]))
    )  # fmt: skip


def test_lookups_of_one_table():
    """Calls that differ in the lookup alone do not share a plan."""
    rng = generator(660)
    q, k, v = random(rng, 1, 20, 2, 8), random(rng, 1, 20, 2, 8), random(rng, 1, 20, 2, 8)
    values, handle = random(rng, 8, 2), attn.Handle(threads=1)
    for most in (8, 16):
        given = {"kind": "bucket", "buckets": 8, "max_distance": most}
        out = attn.attention(
            q, k, v, causal="top_left", bias_table=values, bias_lookup=attn.BiasLookup(**given), handle=handle
        )
        expected = attend_all(q[0], k[0], v[0], causal="top_left", bias_table=values, entry=lookup(**given)[2])
        assert_close(out[0], expected["out"])


def test_outputs_in_any_order():
    rng = generator(700)
    q, k, v = random(rng, 2, 6, 2, 8), random(rng, 2, 9, 2, 8), random(rng, 2, 9, 2, 8)
    out, entropy, lse = attn.attention(q, k, v, outputs=("row_entropy", "lse"))
    largest = poison(2, 2, 6)
    both = attn.attention(q, k, v, row_max=largest, outputs=["lse"])  # computed, and not returned
    assert len(both) == 2
    plan = attn.Plan(batch=2, heads_q=2, dim_qk=8, max_q=6, max_kv=9, outputs=["row_max", "row_entropy"])
    again = plan(q, k, v, row_max=poison(2, 2, 6))
    np.testing.assert_array_equal(again[1], largest)
    np.testing.assert_array_equal(again[2], entropy)
    for b in range(2):
        expected = attend_all(q[b], k[b], v[b])
        assert_close(out[b], expected["out"])
        assert_lse_close(lse[b], expected["lse"])
        assert_lse_close(largest[b], expected["row_max"])
        assert_rows_close(entropy[b], expected["row_entropy"], "row_entropy")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_column_mass(layout):
    """The request reaches the library, which computes it or says that no kernel does."""
    rng = generator(800)
    options, arrays, entry = make(rng, "sink logits")
    laid = lay_out(arrays, layout, LENGTHS_Q, LENGTHS_K, rng)
    try:
        out, mass = attn.attention(**laid, **options, outputs=("column_mass",))
    except attn.Error as error:
        assert error.status_name == "ATTN_ERROR_UNSUPPORTED" and "COLUMN_MASS" in str(error)
        return
    shape = {"thd": (HO, sum(LENGTHS_K)), "paged": (B, HO, 16)}.get(layout, (B, HO, TK))
    assert mass.shape == shape and mass.dtype == np.float32
    parts = taken_apart(mass, "column_mass", layout, LENGTHS_Q, LENGTHS_K)
    for b, (nq, nk) in enumerate(zip(LENGTHS_Q, LENGTHS_K)):
        expected = expect(options, arrays, entry, b, nq, nk)
        np.testing.assert_allclose(parts[b], expected["column_mass"], rtol=2e-5, atol=2e-5)
        assert_close(taken_apart(out, "out", layout, LENGTHS_Q, LENGTHS_K)[b], expected["out"])
    if layout == "paged":  # a wider one serves too
        wide = poison(B, HO, 33)
        attn.attention(**laid, **options, column_mass=wide)
        for mine, other in zip(taken_apart(wide, "column_mass", layout, LENGTHS_Q, LENGTHS_K), parts):
            np.testing.assert_array_equal(mine, other)


def test_a_row_that_sees_nothing():
    q, k, v = np.ones((3, 1, 2, 2, 4), np.float32)
    none = np.zeros(1, np.int32)
    out, lse, largest = attn.attention(q, k, v, seqlens_kv=none, outputs=("lse", "row_max"))
    assert (out == 0).all() and (lse == -np.inf).all() and (largest == -np.inf).all()
    sink = np.array([0.5, -1], np.float32)
    out, lse = attn.attention(q, k, v, seqlens_kv=none, sink_logits=sink, return_lse=True)
    assert (out == 0).all()
    np.testing.assert_allclose(lse[0], np.repeat(sink[:, None], 2, 1), rtol=1e-6)

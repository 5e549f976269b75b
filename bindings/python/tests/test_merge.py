"""merge() and MergePlan: parts of the keys against the whole, by definition."""

import numpy as np
import pytest

import attn
from helpers import assert_close, assert_lse_close, generator, poison, random
from reference import GATES, attend_all

B, TQ, TK, H, D = 2, 7, 30, 4, 16
CUTS = [slice(0, 9), slice(9, 10), slice(10, 10), slice(10, 30)]  # one of them empty
SEQUENCES = [slice(0, 3), slice(3, 3), slice(3, 7)]  # of the packed queries


def whole(q, k, v, **options):
    """`[B, ...]` results by definition."""
    per_token = {"gate", "head_weight"}
    results = [
        attend_all(q[b], k[b], v[b], **{n: x[b] if n in per_token else x for n, x in options.items()}) for b in range(B)
    ]
    return {name: np.stack([result[name] for result in results]) for name in results[0]}


def parts_of(q, k, v, layout="bshd", lse=True, **options):
    """(outs, lses) of attention over the cuts."""
    results = []
    for cut in CUTS:
        arrays = (q, k[:, cut], v[:, cut])
        if layout == "bhsd":
            arrays = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in arrays]
        results.append(attn.attention(*arrays, layout=layout, outputs=("lse",) if lse else (), **options))
    return ([out for out, _ in results], [lse for _, lse in results]) if lse else (results, None)


def tensors_of(rng):
    return random(rng, B, TQ, H, D), random(rng, B, TK, 2, D), random(rng, B, TK, 2, D)


@pytest.mark.parametrize("layout", ["bshd", "bhsd"])
@pytest.mark.parametrize("epilogue", [False, True])
def test_softmax(layout, epilogue):
    rng = generator(10)
    q, k, v = tensors_of(rng)
    more = {}
    if epilogue:
        more = {"sink_logits": random(rng, H), "gate": random(rng, B, TQ, H, D), "gate_kind": "silu",
                "head_weight": random(rng, B, TQ, H)}  # fmt: skip
    expected = whole(q, k, v, **more)
    outs, lses = parts_of(q, k, v, layout)
    swap = {name: more[name].swapaxes(1, 2) for name in ("gate", "head_weight") if name in more and layout == "bhsd"}
    out, lse = poison(*outs[0].shape), poison(B, H, TQ)
    both = attn.merge(outs, lses, layout=layout, out=out, lse=lse, return_lse=True, **{**more, **swap})
    assert both[0] is out and both[1] is lse
    assert_close(out.swapaxes(1, 2) if layout == "bhsd" else out, expected["out"])
    assert_lse_close(lse, expected["lse"])

    plan = attn.MergePlan(
        parts=len(CUTS), heads=H, dim_v=D, max_q=TQ, batch=B, layout=layout, outputs=("lse",),
        inputs=[name for name in more if name != "gate_kind"], gate_kind=more.pop("gate_kind", "sigmoid"),
    )  # fmt: skip
    again, lse_again = plan(outs, lses, **{**more, **swap})
    np.testing.assert_array_equal(again, out)
    np.testing.assert_array_equal(lse_again, lse)
    assert "attn.MergePlan" in repr(plan) and plan.describe()


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_sums(activation):
    rng = generator(20)
    q, k, v = tensors_of(rng)
    more = {"activation_bias": -3.0} if activation == "sigmoid" else {"activation_length": TK}
    gate = random(rng, B, TQ, H, 1)  # repeated along the channels
    outs, lses = parts_of(q, k, v, lse=False, activation=activation, **more)
    out = attn.merge(outs, lses, activation=activation, gate=gate, gate_kind="linear")
    expected = whole(q, k, v, activation=activation, **more)["out"] * GATES["linear"](gate.astype(np.float64))
    assert_close(out, expected)
    with pytest.raises(attn.Error, match="PARTIAL_LSE"):
        attn.merge(outs, [poison(B, H, TQ)] * len(CUTS), activation=activation)
    with pytest.raises(attn.Error, match="SINK_LOGITS"):
        attn.merge(outs, activation=activation, sink_logits=random(rng, H))


def test_packed():
    rng = generator(30)
    outs, lses = [random(rng, 7, H, D) for _ in range(3)], [random(rng, H, 7) for _ in range(3)]
    cu = np.array([0, 3, 3, 7], np.int64)
    out, lse = attn.merge(outs, lses, layout="thd", cu_seqlens_q=cu, return_lse=True)
    weights = np.exp(np.array(lses, np.float64))
    total = weights.sum(0)
    assert_lse_close(lse, np.log(total))
    expected = (np.array(outs, np.float64) * (weights / total).swapaxes(1, 2)[..., None]).sum(0)
    assert_close(out, expected)
    sizes = {"parts": 3, "heads": H, "dim_v": D, "max_q": 4, "total_q": 9, "batch": 3}
    plan = attn.MergePlan(**sizes, layout="thd", inputs={"cu_seqlens_q": np.int64})
    for rows in SEQUENCES:
        np.testing.assert_array_equal(plan(outs, lses, cu_seqlens_q=cu)[rows], out[rows])


def test_used_rows():
    rng = generator(40)
    outs, lses = [random(rng, B, TQ, H, D) for _ in range(2)], [random(rng, B, H, TQ) for _ in range(2)]
    out = np.full((B, TQ, H, D), 7, np.float32)
    attn.merge(outs, lses, seqlens_q=np.array([4, 0], np.int32), out=out)
    np.testing.assert_array_equal(out[0, :4], attn.merge(outs, lses)[0, :4])
    assert (out[0, 4:] == 7).all() and (out[1] == 7).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtypes(dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="NumPy has bfloat16 only with ml_dtypes")
    rng = generator(50)
    kind = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
    outs, lses = random(rng, 2, B, TQ, H, D, dtype=kind), random(rng, 2, B, H, TQ)  # one array each, of both parts
    weights = np.exp(lses.astype(np.float64))
    expected = (outs.astype(np.float64) * (weights / weights.sum(0)).swapaxes(2, 3)[..., None]).sum(0)
    out = attn.merge(outs, lses)
    assert out.dtype == kind
    assert_close(out, expected, dtype)
    wide = attn.merge(outs, lses, out=poison(B, TQ, H, D))
    assert_close(wide, expected)
    plan = attn.MergePlan(parts=2, heads=H, dim_v=D, max_q=TQ, batch=B, dtype=kind, out_dtype="float32")
    np.testing.assert_array_equal(plan(outs, lses), wide)


@pytest.mark.parametrize("batch,rows", [(0, 3), (2, 0)])
def test_zero_sizes(batch, rows):
    outs, lses = np.ones((2, batch, rows, H, D), np.float32), np.ones((2, batch, H, rows), np.float32)
    out, lse = attn.merge(outs, lses, return_lse=True)
    assert out.shape == (batch, rows, H, D) and lse.shape == (batch, H, rows)


def test_many_parts():
    rng = generator(60)
    outs, lses = random(rng, 1024, 1, 1, 1, 4), random(rng, 1024, 1, 1, 1)
    weights = np.exp(lses.astype(np.float64))
    assert_close(attn.merge(outs, lses), (outs * weights[..., None] / weights.sum()).sum(0))
    with pytest.raises(attn.Error, match="parts = 1025"):
        attn.merge([outs[0]] * 1025, [lses[0]] * 1025)


OUTS, LSES = np.ones((2, 1, 3, 2, 4), np.float32), np.ones((2, 1, 2, 3), np.float32)


@pytest.mark.parametrize(
    "outs,lses,options,error,message",
    [
        ([], [], {}, ValueError, "outs: must have at least one"),
        ([OUTS[0], OUTS[1][0]], LSES, {}, ValueError, r"outs\[1\] has shape \(3, 2, 4\), must have 4 axes"),
        (OUTS, [LSES[0], LSES[1][0]], {}, ValueError, r"lses\[1\] has shape .* 3 axes: \[batch, head, query\]"),
        (OUTS, [LSES[0], [1.0]], {}, TypeError, r"lses\[1\] must support DLPack"),
        (OUTS[..., :0], LSES, {}, ValueError, r"outs\[0\] has shape \(1, 3, 2, 0\)"),
        (OUTS, None, {}, attn.Error, "PARTIAL_LSE index 0 is missing"),
        (OUTS, LSES[:1], {}, attn.Error, "PARTIAL_LSE index 1 is missing"),
        (OUTS, LSES.astype(np.float64), {}, attn.Error, r"PARTIAL_LSE\.dtype = float64"),
        ([OUTS[0], OUTS[1].astype(np.float16)], LSES, {}, attn.Error, r"PARTIAL_OUT\[1\]\.dtype = float16"),
        ([OUTS[0], OUTS[1][:, :2]], LSES, {}, attn.Error, r"PARTIAL_OUT\[1\]\.shape\[1\] = 2"),
        (OUTS.astype(np.float64), LSES, {}, attn.Error, "float64"),
        (OUTS, LSES, {"activation": "tanh"}, ValueError, "activation = 'tanh'"),
        (OUTS, LSES, {"gate_kind": "hard"}, ValueError, "gate_kind = 'hard'"),
        (OUTS, LSES, {"gate_kind": "silu"}, attn.Error, "gate"),
        (OUTS, LSES, {"layout": "thd"}, ValueError, "layout = 'thd'"),
        (OUTS, LSES, {"max_seqlen_q": 3}, ValueError, "max_seqlen_q"),
        (OUTS, LSES, {"flags": "checked"}, TypeError, "flags = 'checked': must be a collection"),
        (OUTS, LSES, {"head_weight": np.ones((1, 1, 2), np.float32)}, attn.Error, r"HEAD_WEIGHT\.shape\[1\] = 1"),
        (OUTS, LSES, {"sink_logits": np.ones(2)}, attn.Error, "SINK_LOGITS"),
        (OUTS, LSES, {"out": OUTS[0]}, attn.Error, "OUT.*must not overlap PARTIAL_OUT"),
        (OUTS, LSES, {"lse": np.ones((1, 2, 3))}, attn.Error, r"LSE\.dtype"),
    ],
)  # fmt: skip
def test_errors(outs, lses, options, error, message):
    with pytest.raises(error, match=message):
        attn.merge(outs, lses, **options)
    assert (OUTS == 1).all()


def test_plan_errors():
    with pytest.raises(ValueError, match="parts = 0"):
        attn.MergePlan(parts=0, heads=2, dim_v=4, max_q=3)
    with pytest.raises(ValueError, match="inputs: 'seqlens_kv'"):
        attn.MergePlan(parts=2, heads=2, dim_v=4, max_q=3, inputs=["seqlens_kv"])
    with pytest.raises(ValueError, match="outputs: 'row_max'"):
        attn.MergePlan(parts=2, heads=2, dim_v=4, max_q=3, outputs=["row_max"])
    plan = attn.MergePlan(parts=2, heads=2, dim_v=4, max_q=3)
    with pytest.raises(TypeError, match="block_table: not an argument of MergePlan"):
        plan(OUTS, LSES, block_table=OUTS)
    with pytest.raises(attn.Error, match="slot LSE"):
        plan(OUTS, LSES, lse=poison(1, 2, 3))
    with pytest.raises(attn.Error, match=r"PARTIAL_OUT\[1\]|PARTIAL_OUT index 1"):
        plan(OUTS[:1], LSES[:1])

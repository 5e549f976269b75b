"""What is refused, by whom, and what the message says."""

import numpy as np
import pytest

import attn
from helpers import tensors

Q, K, V = tensors((1, 4, 2, 8), (1, 6, 2, 8), (1, 6, 2, 8))
I32 = np.int32


@pytest.mark.parametrize(
    "options,error,message",
    [
        ({"causal": True}, ValueError, "causal = True: must be None or one of top_left"),
        ({"causal": "left"}, ValueError, "causal = 'left'"),
        ({"align": "middle", "window": (1, 1)}, ValueError, "align = 'middle'"),
        ({"window": 3}, TypeError, "window = 3: must be None or a pair"),
        ({"window": (1, 2, 3)}, TypeError, "window = "),
        ({"window": (1.5, 0), "align": "top_left"}, TypeError, r"window\[0\] = 1.5"),
        ({"window": (0, 2**70), "align": "top_left"}, ValueError, r"window\[1\] = .*64 bits"),
        ({"sink_tokens": "2"}, TypeError, "sink_tokens = '2'"),
        ({"scale": 0}, ValueError, "scale = 0"),
        ({"scale": "big"}, TypeError, "scale = 'big'"),
        ({"softcap": 0.0}, ValueError, "softcap = 0"),
        ({"layout": "sbhd"}, ValueError, "layout = 'sbhd'"),
        ({"layout": "thd"}, ValueError, "layout = 'thd': must be 'thd' exactly where cu_seqlens_q"),
        ({"cu_seqlens_q": np.array([0, 4], I32)}, ValueError, "layout = 'bshd'"),
        ({"max_seqlen_q": 4}, ValueError, "max_seqlen_q"),
        ({"max_seqlen_kv": 4}, ValueError, "max_seqlen_kv"),
        ({"seqlens_kv": [6]}, TypeError, "seqlens_kv must support DLPack or the buffer protocol, not be a 'list'"),
        ({"unknown": 1}, TypeError, "unknown"),
        ({"window": (1, 1)}, attn.Error, "align"),
        ({"window": (-1, 0), "causal": "top_left"}, attn.Error, r"window_left = -1"),
        ({"window": (0, -2), "align": "top_left"}, attn.Error, r"window_right = -2"),
        ({"sink_tokens": -1, "causal": "top_left", "window": (1, 0)}, attn.Error, "sink_tokens = -1"),
        ({"sink_tokens": 1}, attn.Error, "sink_tokens = 1"),
        ({"scale": float("nan")}, attn.Error, "scale"),
        ({"softcap": -1.0}, attn.Error, "softcap = -1"),
        ({"causal": "top_left", "align": "bottom_right"}, attn.Error, "align"),
        ({"align": "top_left"}, attn.Error, "align"),
        ({"causal": "by_position"}, attn.Error, "POSITIONS_Q"),
        ({"positions_q": np.zeros((1, 4), I32)}, attn.Error, "POSITIONS_Q"),
        ({"seqlens_kv": np.array([7], I32)}, attn.Error, "SEQLENS_KV"),
        ({"seqlens_kv": np.array([-1], I32)}, attn.Error, "SEQLENS_KV"),
        ({"seqlens_kv": np.array([6, 6], I32)}, attn.Error, "SEQLENS_KV"),
        ({"seqlens_kv": np.array([6.0])}, attn.Error, "float64"),
        ({"activation": "tanh"}, ValueError, "activation = 'tanh': must be one of softmax"),
        ({"activation_bias": "x", "activation": "sigmoid"}, TypeError, "activation_bias = 'x'"),
        ({"activation_bias": 1.0}, attn.Error, r"activation_bias = 1"),
        ({"activation_length": 0, "activation": "relu"}, ValueError, "activation_length = 0"),
        ({"activation_length": 4}, attn.Error, "activation_length = 4"),
        ({"activation": "sigmoid", "return_lse": True}, attn.Error, "LSE is for softmax only"),
        ({"activation": "relu", "sink_logits": np.ones(2, np.float32)}, attn.Error, "SINK_LOGITS is for softmax only"),
        ({"bias_stage": "late"}, ValueError, "bias_stage = 'late'"),
        ({"bias_stage": "pre_softcap"}, attn.Error, "bias_stage = 1"),
        ({"gate_kind": None}, ValueError, "gate_kind = None"),
        ({"gate_kind": "silu"}, attn.Error, "gate = 2"),
        ({"precision": "half"}, ValueError, "precision = 'half'"),
        ({"flags": "checked"}, TypeError, "flags = 'checked': must be a collection"),
        ({"flags": ["fast"]}, ValueError, "flags = 'fast'"),
        ({"outputs": "lse"}, TypeError, "outputs = 'lse': must be a collection"),
        ({"outputs": ["mean"]}, ValueError, "outputs: 'mean' is not one of lse"),
        ({"outputs": ["lse", "lse"]}, ValueError, "outputs"),
        ({"outputs": ["lse"], "return_lse": True}, ValueError, "return_lse"),
        ({"dim_v": 4}, ValueError, "dim_v: must be None where v is given"),
        ({"bias_lookup": "distance"}, TypeError, "bias_lookup = 'distance'"),
        ({"bias_lookup": attn.BiasLookup(), "align": "top_left"}, attn.Error, "BIAS_TABLE"),
        ({"bias_lookup": attn.BiasLookup("grid", buckets=4)}, attn.Error, "buckets = 4"),
        ({"bias_lookup": attn.BiasLookup()}, attn.Error, "align = 0: a bias by distance needs a diagonal"),
        ({"bias_table": np.ones((3, 2), np.float32)}, attn.Error, "BIAS_TABLE"),
        ({"bias": np.ones((4, 6), "f4")}, ValueError, r"bias has shape .* 4 axes: \[batch, head, query, key\]"),
        ({"bias": np.ones((1, 2, 4, 5), np.float32)}, attn.Error, r"BIAS\.shape\[3\] = 5"),
        ({"bias": np.ones((1, 3, 4, 6), np.float32)}, attn.Error, r"BIAS\.shape\[1\] = 3"),
        ({"bias": np.ones((1, 2, 4, 6))}, attn.Error, "float64 for slot BIAS"),
        ({"bias": [[0.0]]}, TypeError, "bias must support DLPack"),
        ({"alibi_slopes": np.ones(3, np.float32), "causal": "top_left"}, attn.Error, r"ALIBI_SLOPES\.shape\[0\] = 3"),
        ({"alibi_slopes": np.ones(2, np.float32)}, attn.Error, "needs a diagonal"),
        ({"alibi_slopes": np.ones((1, 2), np.float32)}, ValueError, r"alibi_slopes has shape .* 1 axis: \[head\]"),
        ({"sink_logits": np.ones(2, np.float16)}, attn.Error, "float16 for slot SINK_LOGITS"),
        ({"q_temperature": np.ones((1, 4), "f4")}, ValueError, r"q_temperature has shape .*\[batch, token, head\]"),
        ({"v_temperature": np.ones((1, 5, 2), np.float32)}, attn.Error, r"V_TEMPERATURE\.shape\[1\] = 5"),
        ({"gate": np.ones((1, 4, 2, 7), np.float32)}, attn.Error, r"GATE\.shape\[3\] = 7"),
        ({"head_weight": np.ones((1, 4, 2))}, attn.Error, "float64 for slot HEAD_WEIGHT"),
        ({"bias_lowrank_q": np.ones((1, 4, 2, 3), np.float32)}, ValueError, "must be given together"),
    ],
    ids=str,
)  # fmt: skip
def test_options(options, error, message):
    with pytest.raises(error, match=message):
        attn.attention(Q, K, V, **options)


@pytest.mark.parametrize(
    "arrays,error,message",
    [
        ((Q[0], K, V), ValueError, r"q has shape \(4, 2, 8\), must have 4 axes: \[batch, token, head, channel\]"),
        ((Q, K, V[..., 0]), ValueError, "v has shape"),
        ((Q.tolist(), K, V), TypeError, "q must support DLPack or the buffer protocol, not be a 'list'"),
        ((None, K, V), TypeError, "q must support DLPack or the buffer protocol, not be a 'NoneType'"),
        ((Q, K.astype(np.complex64), V), TypeError, "k has elements of format 'Zf'"),
        ((Q, K.astype(">f4"), V), TypeError, "k has elements of format '>f'"),
        ((Q, K.astype(object), V), TypeError, "k has elements of format 'O'"),
        ((Q, K.astype(np.int16), V), TypeError, r"k has elements of DLPack type \(0, 16, 1\)"),
        ((Q.astype(np.float64), K, V), attn.Error, "float64"),
        ((Q.astype(np.int32), K, V), attn.Error, "int32"),
        ((Q, K[..., :7], V), attn.Error, r"K\.shape\[3\] = 7: must be 8"),
        ((Q, K, V[:, :5]), attn.Error, r"V\.shape\[1\] = 5"),
        ((Q, np.concatenate([K, K]), V), attn.Error, r"shape\[0\]"),
        ((Q[:, :, :0], K, V), ValueError, "heads_q = 0"),
        ((Q[..., :0], K[..., :0], V), ValueError, "dim_qk = 0"),
        ((np.ones((1, 4, 3, 8), np.float32), K, V), attn.Error, "heads_k = 2"),
    ],
    ids=lambda value: "" if isinstance(value, tuple) else str(value)[:40],
)
def test_arrays(arrays, error, message):
    with pytest.raises(error, match=message):
        attn.attention(*arrays)


def test_odd_byte_strides():
    packed = np.zeros((1, 4, 2, 8), np.dtype([("tag", "u1"), ("value", "<f4")]))
    with pytest.raises(ValueError, match="q has a stride of 5 bytes along axis 3"):
        attn.attention(packed["value"], K, V)


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"cu_seqlens_q": np.array([0, 3, 2, 4], I32)}, "CU_SEQLENS_Q"),
        ({"cu_seqlens_q": np.array([0, 2, 3, 9], I32)}, "CU_SEQLENS_Q"),
        ({"cu_seqlens_q": np.array([-1, 2, 3, 4], I32)}, "CU_SEQLENS_Q"),
        ({"cu_seqlens_q": np.array([0, 2, 4], I32)}, "CU_SEQLENS"),
        ({"cu_seqlens_q": np.array([[0, 2, 3, 4]], I32)}, "CU_SEQLENS_Q.ndim"),
        ({"cu_seqlens_q": np.array(4, I32)}, "CU_SEQLENS_Q.ndim"),
        ({"cu_seqlens_kv": np.array([0, -(2**62), 2**62, 2**63 - 1])}, "CU_SEQLENS_KV"),
        ({"cu_seqlens_kv": np.array([0, 1, 3, 2**62])}, "CU_SEQLENS_KV"),
        ({"max_seqlen_q": 1}, "CU_SEQLENS_Q"),
    ],
)
def test_packed(changes, message):
    cu = np.array([0, 1, 3, 4], I32)
    x = np.ones((4, 2, 8), np.float32)
    with pytest.raises(attn.Error, match=message):
        attn.attention(x, x, x, layout="thd", **{"cu_seqlens_q": cu, "cu_seqlens_kv": cu, **changes})


def test_paged():
    pages = np.ones((3, 4, 2, 8), np.float32)
    with pytest.raises(attn.Error, match="BLOCK_TABLE"):
        attn.attention(Q, pages, pages, block_table=np.array([[0, 3]], I32))
    with pytest.raises(attn.Error, match="BLOCK_TABLE"):
        attn.attention(Q, pages, pages, block_table=np.array([[0, -1]], I32))
    with pytest.raises(ValueError, match="its pages must have at least 1 row"):
        attn.attention(Q, pages[:, :0], pages[:, :0], block_table=np.array([[0]], I32))
    with pytest.raises(ValueError, match="either packed or paged"):
        attn.attention(Q, pages, pages, block_table=np.array([[0]], I32), cu_seqlens_kv=np.array([0, 1], I32))


def test_outputs():
    out = np.full(Q.shape, 7, np.float32)
    for bad, error, message in [
        (out[:, :3], attn.Error, r"OUT\.shape\[1\] = 3"),
        (out[0], ValueError, "out has shape"),
        (np.full(Q.shape, 7, np.float64), attn.Error, "float64"),
        (np.broadcast_to(np.float32(7), Q.shape), ValueError, "out is read-only"),
        (b"x" * 256, ValueError, "out is read-only"),
    ]:
        with pytest.raises(error, match=message):
            attn.attention(Q, K, V, out=bad)
    with pytest.raises(attn.Error, match=r"LSE\.dtype"):
        attn.attention(Q, K, V, lse=np.zeros((1, 2, 4)))
    with pytest.raises(attn.Error, match=r"LSE\.shape"):
        attn.attention(Q, K, V, lse=np.zeros((1, 4, 2), np.float32))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        attn.attention(Q, K, V, out=out)
    assert (out == 7).all()


def test_aliasing():
    q = Q.copy()
    with pytest.raises(attn.Error, match="OUT.*must not overlap Q"):
        attn.attention(q, K, V, out=q)
    np.testing.assert_array_equal(q, Q)
    both = np.empty((1, 6, 2, 8), np.float32)
    both[:] = K
    with pytest.raises(attn.Error, match="OUT.*must not overlap K"):
        attn.attention(Q, both, V, out=both[:, 2:])
    both[:] = 3
    overlapping = np.lib.stride_tricks.as_strided(both, Q.shape, (0, 0, 32, 4))
    with pytest.raises(attn.Error, match="OUT.*overlaps itself"):
        attn.attention(Q, K, V, out=overlapping)
    assert (both == 3).all()


def test_lowrank_ranks():
    for shape, message in [((1, 6, 2, 2), r"BIAS_LOWRANK_K\.shape\[3\] = 2"), ((1, 6, 2), "bias_lowrank_k has shape")]:
        with pytest.raises((attn.Error, ValueError), match=message):
            wide = np.ones((1, 4, 2, 3), np.float32)
            attn.attention(Q, K, V, bias_lowrank_q=wide, bias_lowrank_k=np.ones(shape, np.float32))
    with pytest.raises(ValueError, match="bias_lowrank_q has shape .* at least one channel"):
        attn.attention(Q, K, V, bias_lowrank_q=np.ones((1, 4, 2, 0), "f4"), bias_lowrank_k=np.ones((1, 6, 2, 0), "f4"))


def test_v_left_out():
    with pytest.raises(ValueError, match="v = None: must be an array, unless dim_v"):
        attn.attention(Q, K)
    with pytest.raises(ValueError, match="dim_v = 0"):
        attn.attention(Q, K, dim_v=0)
    with pytest.raises(attn.Error, match="dim_v = 9"):
        attn.attention(Q, K, dim_v=9)


def test_bias_lookup():
    for options, error, message in [
        ({"kind": "circle"}, ValueError, "kind = 'circle'"),
        ({"buckets": 0}, ValueError, "buckets = 0"),
        ({"max_distance": 1.5}, TypeError, "max_distance = 1.5"),
        ({"kind": "grid", "grid": [4, 0]}, ValueError, "grid = 0"),
        ({"kind": "grid", "grid": [2, 2, 2, 2, 2]}, ValueError, "grid = .* at most 4"),
    ]:
        with pytest.raises(error, match=message):
            attn.BiasLookup(**options)


def test_plan_inputs():
    sizes = {"heads_q": 2, "dim_qk": 8, "max_q": 4, "max_kv": 6}
    for options, error, message in [
        ({"inputs": {"bias": "float7"}}, ValueError, r"inputs\['bias'\] = 'float7'"),
        ({"inputs": {"bias": attn.Input(broadcast=[4])}}, ValueError, r"inputs\['bias'\]: broadcast axis 4"),
        ({"inputs": {"seqlens_q": attn.Input(broadcast=[0])}}, ValueError, r"inputs\['seqlens_q'\]: broadcast axis 0"),
        ({"inputs": {"cu_seqlens_q": "int32"}}, ValueError, "layout = 'bshd'"),
        ({"bias_rank": 0}, ValueError, "bias_rank = 0"),
        ({"outputs": ["out"]}, ValueError, "outputs: 'out'"),
        ({"lse": True}, TypeError, "lse: not an argument of Plan"),
        ({"v_aliases_k": True, "dim_v": 9}, attn.Error, "dim_v = 9"),
    ]:
        with pytest.raises(error, match=message):
            attn.Plan(**sizes, **options)
    plan = attn.Plan(**sizes, inputs={"bias": attn.Input("float16", broadcast=(0, 1))})
    with pytest.raises(attn.Error, match=r"BIAS\.dtype = float32: must be float16"):
        plan(Q, K, V, bias=np.ones((1, 1, 4, 6), np.float32))
    with pytest.raises(attn.Error, match="slot BIAS index 0 is missing"):
        plan(Q, K, V)
    with pytest.raises(TypeError, match="mask: not an argument of Plan"):
        plan(Q, K, V, mask=Q)
    with pytest.raises(TypeError, match="v must support DLPack"):
        plan(Q, K)


def test_error_type():
    with pytest.raises(attn.Error) as caught:
        attn.attention(Q, K[..., :7], V)
    error = caught.value
    assert isinstance(error, RuntimeError) and type(error).__module__ == "attn"
    assert error.status == -1 and error.status_name == "ATTN_ERROR_INVALID"
    assert "must be" in str(error)

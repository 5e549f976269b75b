"""causal_conv() and gated_scan(): against loops over tokens."""

import numpy as np
import pytest

import attn
from helpers import assert_close, generator, random

B, T, H, C = 2, 37, 2, 12


def convolution(x, weight, bias=None, state=None):
    """`[B, T, H, C]` in float64."""
    width = weight.shape[-1]
    past = np.zeros((x.shape[0], width - 1, *x.shape[2:])) if state is None else state
    rows = np.concatenate([past, x], 1).astype(np.float64)
    out = np.zeros(x.shape)
    for i in range(width):
        out += weight[..., i] * rows[:, i : i + x.shape[1]]
    return out if bias is None else out + bias


def scan(x, a, b, state=0.0):
    """All h in float64."""
    out = np.zeros(x.shape)
    for t in range(x.shape[1]):
        state = a[:, t].astype(np.float64) * state + np.asarray(b, np.float64)[:, t] * x[:, t]
        out[:, t] = state
    return out


@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_convolution(width, dtype):
    rng = generator(40)
    x, weight, bias = random(rng, B, T, H, C, dtype=dtype), random(rng, H, C, width), random(rng, H, C)
    y = convolution(x, weight)
    assert_close(attn.causal_conv(x, weight), y, dtype)
    y = y + bias
    silu = y / (1 + np.exp(-y))
    assert_close(attn.causal_conv(x, weight, bias, activation="silu"), silu, dtype)
    assert_close(attn.causal_conv(x, weight, bias, activation="silu", residual=x), silu + x, dtype)
    out = np.empty((B, T, H, C), np.float32)
    assert attn.causal_conv(x, weight, out=out) is out
    assert_close(out, convolution(x, weight))


def test_convolution_goes_on():
    rng = generator(41)
    x, weight = random(rng, B, T, H, C), random(rng, H, C, 4)
    whole, last = attn.causal_conv(x, weight, return_state=True)
    np.testing.assert_array_equal(last, x[:, -3:])
    first, state = attn.causal_conv(x[:, :20], weight, return_state=True)
    rest = [attn.causal_conv(x[:, t : t + 1], weight, state=state, state_out=state) for t in range(20, T)]
    np.testing.assert_array_equal(np.concatenate([first, *rest], 1), whole)
    np.testing.assert_array_equal(state, last)
    given = random(rng, B, 3, H, C)
    assert_close(attn.causal_conv(x, weight, state=given), convolution(x, weight, state=given))
    kept = attn.causal_conv(x, weight, return_state=True, state_dtype="float16")[1]
    assert kept.dtype == np.float16
    pool = np.zeros((5, 3, H, C), np.float32)
    attn.causal_conv(x, weight, state=pool, state_out=pool, state_index=np.array([3, 1], np.int32))
    np.testing.assert_array_equal(pool[[3, 1]], x[:, -3:])
    assert not pool[[0, 2, 4]].any()


@pytest.mark.parametrize("form", ["log", "factor"])
def test_scan(form):
    rng = generator(42)
    x, write, log = random(rng, B, T, H, C), random(rng, B, T, H, C), -rng.random((B, T, H, C)).astype(np.float32)
    a = np.exp(log.astype(np.float64)) if form == "log" else -log
    given = {"decay": log if form == "log" else -log, "form": form}
    assert_close(attn.gated_scan(x, **given), scan(x, a, np.ones(x.shape)))
    assert_close(attn.gated_scan(x, write=write, **given), scan(x, a, write))
    state = random(rng, B, H, C)
    out, last = attn.gated_scan(x, lerp=True, state=state, return_state=True, **given)
    assert_close(out, scan(x, a, 1 - a, state))
    np.testing.assert_array_equal(last, out[:, -1])
    # A gate of each head.
    given["decay"] = given["decay"][..., :1]
    assert_close(attn.gated_scan(x, **given), scan(x, a[..., :1], np.ones(x.shape)))


def test_scan_packed():
    rng = generator(43)
    x, log = random(rng, T, H, C), -rng.random((T, H, C)).astype(np.float32)
    cu = np.array([0, 10, 10, T], np.int32)
    out, last = attn.gated_scan(x, log, cu_seqlens_q=cu, return_state=True)
    for b, (first, end) in enumerate(((0, 10), (10, 10), (10, T))):
        a = np.exp(log[None, first:end].astype(np.float64))
        part = scan(x[None, first:end], a, np.ones(a.shape))
        if end == first:
            assert not last[b].any()
        else:
            assert_close(out[None, first:end], part)
            assert_close(last[b], part[0, -1])


def test_refusals():
    rng = generator(44)
    x, weight = random(rng, B, T, H, C), random(rng, H, C, 4)
    with pytest.raises(attn.Error, match="attn_conv.width = 9"):
        attn.causal_conv(x, random(rng, H, C, 9))
    with pytest.raises(attn.Error, match="CONV_WEIGHT"):
        attn.causal_conv(x, weight[:1])
    with pytest.raises(attn.Error, match="more than 1"):
        attn.causal_conv(x, weight[..., :1], return_state=True)
    with pytest.raises(attn.Error, match="DECAY of sequence 0, token 0, head 0, channel 0"):
        attn.gated_scan(x, np.ones_like(x), flags=["checked"])
    with pytest.raises(attn.Error, match="without ATTN_SCAN_LERP"):
        attn.gated_scan(x, x, write=x, lerp=True)
    with pytest.raises(ValueError, match="must have 4 axes"):
        attn.gated_scan(x[0], x[0])
    with pytest.raises(ValueError, match="weight has shape"):
        attn.causal_conv(x, weight[0])
    with pytest.raises(ValueError, match="form"):
        attn.gated_scan(x, x, form="raw")
    with pytest.raises(ValueError, match="activation"):
        attn.causal_conv(x, weight, activation="gelu")

"""linear_attention() and recipes: against the recurrence, token by token."""

import numpy as np
import pytest

import attn
from attn import recipes
from helpers import assert_close, generator, random

B, T, H, C, D = 2, 37, 2, 8, 12


def recurrence(q, k, v, decay, *, scale, erase=None, write=None, b=None, c=None, bonus=None, normalised=None, s=None):
    """`[B, T, H, D]` and the state `[B, H, C, D]`; all in float64, log decay `[B, T, H, C]`."""
    q, k, v, decay = (np.asarray(x, np.float64) for x in (q, k, v, decay))
    out = np.zeros(v.shape)
    s = np.zeros((q.shape[0], q.shape[2], k.shape[-1], v.shape[-1])) if s is None else np.array(s, np.float64)
    z = np.zeros(s.shape[:-1])
    for t in range(q.shape[1]):
        if bonus is not None:
            out[:, t] = scale * (np.einsum("bhc,bhcd->bhd", q[:, t], s)
                                 + (q[:, t] * bonus * k[:, t]).sum(-1, keepdims=True) * v[:, t])  # fmt: skip
        found = None if b is None else np.einsum("bhc,bhcd->bhd", c[:, t], s)
        s = np.exp(decay[:, t])[..., None] * s
        z = np.exp(decay[:, t]) * z + k[:, t]
        value = v[:, t] if write is None else write[:, t] * v[:, t]
        if erase is not None:
            value = value - np.einsum("bhc,bhcd->bhd", erase[:, t] * k[:, t], s)
        s = s + k[:, t][..., None] * value[..., None, :]
        if b is not None:
            s = s + np.asarray(b, np.float64)[:, t][..., None] * found[..., None, :]
        if bonus is None:
            out[:, t] = scale * np.einsum("bhc,bhcd->bhd", q[:, t], s)
            if normalised is not None:
                out[:, t] /= (scale * (q[:, t] * z).sum(-1) + normalised)[..., None]
    return out, s


def unit(x):
    return x / np.sqrt((x.astype(np.float64) ** 2).sum(-1, keepdims=True) + 1e-6)


def softplus(x):
    return np.logaddexp(0, x.astype(np.float64))


def elu1(x):
    return np.where(x > 0, x + 1.0, np.exp(np.minimum(x, 0), dtype=np.float64))


@pytest.fixture
def rows():
    rng = generator(30)
    return rng, random(rng, B, T, H, C), random(rng, B, T, H, C), random(rng, B, T, H, D)


NONE = np.zeros((1, T, 1, C))


def test_additive_methods(rows):
    rng, q, k, v = rows
    s = C**-0.5
    assert_close(recipes.linear(q, k, v), recurrence(elu1(q), elu1(k), v, NONE, scale=1, normalised=1e-10)[0])
    assert_close(recipes.retnet(q, k, v),
                 recurrence(q, k, v, recipes.retnet_decay(H)[None, None, :, None] + NONE, scale=s)[0])  # fmt: skip
    gate = random(rng, B, T, H, C)
    assert_close(recipes.gla(q, k, v, gate), recurrence(q, k, v, -softplus(-gate) / 16, scale=s)[0])
    forget = (1 / (1 + np.exp(-gate))).astype(np.float32)
    assert_close(recipes.hgrn2(q, forget, v), recurrence(q, 1 - forget, v, np.log(forget), scale=s)[0])
    u = random(rng, H, C)
    assert_close(recipes.rwkv6(q, k, v, gate, u), recurrence(q, k, v, -np.exp(gate), scale=1, bonus=u)[0])
    decay = recipes.lightning_decay(H, 1, 4)
    silu = [x / (1 + np.exp(-x.astype(np.float64))) for x in (q, k)]
    assert_close(recipes.lightning(q, k, v, decay), recurrence(*silu, v, decay[:, None] + NONE, scale=1)[0])
    dt, a_log, bias, skip = random(rng, B, T, H), random(rng, H), random(rng, H), random(rng, H)
    step = softplus(dt + bias)[..., None]
    expected = recurrence(q, k, step * v, -np.exp(a_log)[:, None] * step + NONE, scale=1)[0] + skip[:, None] * v
    assert_close(recipes.mamba2(q, k, v, dt, a_log, bias, skip), expected)


def test_features(rows):
    rng, q, k, v = rows
    s = np.einsum("bihc,bjhc->bhij", q, k).astype(np.float64) / np.sqrt(C)
    weights = (1 + s + s * s / 2) * np.tri(T)
    expected = np.einsum("bhij,bjhd->bihd", weights, v) / weights.sum(-1).transpose(0, 2, 1)[..., None]
    assert_close(recipes.based(q, k, v), expected)
    w = random(rng, 2, H, C, C + 1)
    features = []
    for x, weight in zip((q, k), w):
        y = 2 * (np.einsum("hij,bthj->bthi", weight[..., :-1], x).astype(np.float64) + weight[..., -1])
        f = np.exp(np.concatenate([y, -y], -1) - np.abs(y).max(-1, keepdims=True))
        features.append(f / f.sum(-1, keepdims=True))
    expected = recurrence(*features, v, np.zeros((1, T, 1, 2 * C)), scale=1, normalised=1e-10)[0]
    assert_close(recipes.hedgehog(q, k, v, *w), expected)


def test_delta_methods(rows):
    rng, q, k, v = rows
    s = C**-0.5
    beta = rng.random((B, T, H)).astype(np.float32)
    gates = {"erase": beta[..., None], "write": beta[..., None]}
    uq, uk = unit(q), unit(k)
    assert_close(recipes.deltanet(q, k, v, beta), recurrence(uq, uk, v, NONE, scale=s, **gates)[0])
    gate, a_log, bias = random(rng, B, T, H), random(rng, H), random(rng, H)
    decay = -np.exp(a_log)[:, None] * softplus(gate + bias)[..., None] + NONE
    assert_close(recipes.gated_deltanet(q, k, v, gate, beta, a_log, bias),
                 recurrence(uq, uk, v, decay, scale=s, **gates)[0])  # fmt: skip
    gate, bias = random(rng, B, T, H, C), random(rng, H, C)
    decay = -np.exp(a_log)[:, None] * softplus(gate + bias)
    assert_close(recipes.kda(q, k, v, gate, beta, a_log, bias), recurrence(uq, uk, v, decay, scale=s, **gates)[0])
    decay = -5 / (1 + np.exp(-np.exp(a_log)[:, None] * (gate + bias).astype(np.float64)))
    assert_close(recipes.kda(q, k, v, gate, beta, a_log, bias, safe=True),
                 recurrence(uq, uk, v, decay, scale=s, **gates)[0])  # fmt: skip
    kk, a = unit(random(rng, B, T, H, C)).astype(np.float32), rng.random((B, T, H, C)).astype(np.float32)
    decay = (-0.6 * rng.random((B, T, H, C))).astype(np.float32)
    assert_close(recipes.rwkv7(q, decay, k, v, kk, a), recurrence(q, k, v, decay, scale=1, b=kk * a, c=-kk)[0])


def test_compositions(rows):
    rng, q, k, v = rows
    s = C**-0.5
    product = s * np.einsum("bihc,bjhc->bhij", q, k).astype(np.float64)
    weights = product / T - product.mean(-1, keepdims=True) / T + 1 / T
    assert_close(recipes.inline(q, k, v), np.einsum("bhij,bjhd->bihd", weights, v))
    # InLine between different lengths of queries and keys.
    short = q[:, :5]
    assert_close(recipes.inline(short, k, v), np.einsum("bhij,bjhd->bihd", weights[:, :, :5], v))


def softmax_attention(q, k, v):
    """In float64, without a mask; heads of k and v divide those of q."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    k, v = (x.repeat(q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    s = np.einsum("bihc,bjhc->bhij", q, k) * q.shape[-1] ** -0.5
    p = np.exp(s - s.max(-1, keepdims=True))
    return np.einsum("bhij,bjhd->bihd", p / p.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("heads_k", [2, 4])
def test_agent(heads_k):
    rng = generator(31)
    q, agents = random(rng, B, T, 4, C), random(rng, B, 5, 4, C)
    k, v = random(rng, B, 50, heads_k, C), random(rng, B, 50, heads_k, D)
    assert_close(recipes.agent(q, k, v, agents), softmax_attention(q, agents, softmax_attention(agents, k, v)))


@pytest.mark.parametrize("tokens, chunk", [(T, 8), (T, 16), (32, 8), (5, 16), (20, 1)])
def test_rat(tokens, chunk):
    rng = generator(32)
    q, k, v = random(rng, B, tokens, 4, C), random(rng, B, tokens, 2, C), random(rng, B, tokens, 4, D)
    forget = rng.random((B, tokens, 2, C)).astype(np.float32), rng.random((B, tokens, 4, 1)).astype(np.float32)
    means = []
    for x, f in zip((k, v), forget):
        mean = np.zeros(x.shape)
        for t in range(tokens):
            before = mean[:, t - 1] if t % chunk else 0
            mean[:, t] = f[:, t].astype(np.float64) * before + (1 - f[:, t].astype(np.float64)) * x[:, t]
        means.append(mean)
    # Pairs of channels as complex numbers, turned by the index of the chunk.
    rope = 100.0 if tokens == 32 else None
    if rope is not None:
        turn = np.exp(1j * np.outer(np.arange(tokens) // chunk, rope ** (-2 * np.arange(C // 2) / C)))[:, None]
        rotated = [(x[..., : C // 2] + 1j * x[..., C // 2 :]) * turn for x in (q, means[0])]
        turned, means[0] = (np.concatenate([z.real, z.imag], -1) for z in rotated)
    else:
        turned = q.astype(np.float64)
    expected = np.zeros(v.shape)
    for t in range(tokens):
        seen = [*range(chunk - 1, t // chunk * chunk, chunk), t]
        expected[:, t] = softmax_attention(turned[:, [t]], *(mean[:, seen] for mean in means))[:, 0]
    assert_close(recipes.rat(q, k, v, forget, chunk, rope_base=rope), expected)
    # A chunk that has not begun changes nothing before it.
    middle = tokens // chunk // 2 * chunk
    for x in (q, k, v, *forget):
        x[:, middle:] = np.nan
    assert_close(recipes.rat(q, k, v, forget, chunk, rope_base=rope)[:, :middle], expected[:, :middle])


def test_states_go_on(rows):
    rng, q, k, v = rows
    beta = rng.random((B, T, H)).astype(np.float32)
    whole, last = recipes.deltanet(q, k, v, beta, return_state=True)
    _, expected = recurrence(unit(q), unit(k), v, NONE, scale=1, erase=beta[..., None], write=beta[..., None])
    assert_close(last, expected)
    first, state = recipes.deltanet(q[:, :20], k[:, :20], v[:, :20], beta[:, :20], return_state=True)
    saved = recipes.DELTANET.save(state, C, tokens=20)
    loaded = recipes.DELTANET.new_state(H, C, D, B)
    assert recipes.DELTANET.load(saved, loaded, C) == 20
    np.testing.assert_array_equal(loaded, state)
    rest = [x[:, 20:] for x in (q, k, v, beta)]
    second, after = recipes.deltanet(*rest, state=loaded, return_state=True)
    in_place = recipes.deltanet(*rest, state=loaded, state_out=loaded)
    np.testing.assert_array_equal(second, in_place)
    np.testing.assert_array_equal(after, loaded)
    assert_close(np.concatenate([first, second], 1), whole.astype(np.float64))
    each = recipes.deltanet(q, k, v, beta, return_state=True, per_token=True)[1]
    assert_close(each[:, -1], expected)
    with pytest.raises(attn.Error, match="decay"):
        recipes.HGRN2.load(saved, loaded, C)
    with pytest.raises(attn.Error, match="checksum"):
        recipes.DELTANET.load(saved[:-1] + bytes([saved[-1] ^ 1]), loaded, C)


def test_packed_sequences_and_layouts(rows):
    rng, q, k, v = rows
    cu = np.array([0, 10, 10, 37], np.int32)
    packed = recipes.linear(q[0], k[0], v[0], cu_seqlens_q=cu)
    for a, b in ((0, 10), (10, 37)):
        assert_close(packed[a:b], recipes.linear(q[:1, a:b], k[:1, a:b], v[:1, a:b])[0].astype(np.float64))
    method = attn.LinearMethod(decay="channel", state_layout="vk", state_dtype="float16")
    decay = -rng.random((B, T, 1, C)).astype(np.float32)  # of all heads alike
    out, state = attn.linear_attention(q, k, v, method, decay=decay, return_state=True)
    expected, last = recurrence(q, k, v, decay, scale=C**-0.5)
    assert_close(out, expected)
    assert state.dtype == np.float16 and state.shape == (B, H, D, C)
    assert_close(state.swapaxes(2, 3), last, "float16")
    reference = attn.LinearMethod(decay="channel", recurrent=True)
    assert_close(attn.linear_attention(q, k, v, reference, decay=decay), expected)


def test_refusals(rows):
    _, q, k, v = rows
    with pytest.raises(attn.Error, match="BETA index 0 is missing"):
        attn.linear_attention(q, k, v, recipes.DELTANET)
    with pytest.raises(attn.Error, match="takes it only with ATTN_UPDATE_DELTA"):
        attn.linear_attention(q, k, v, attn.LinearMethod(), beta=np.ones((B, T, H), np.float32))
    with pytest.raises(attn.Error, match="DECAY of sequence 0, token 0, head 0, channel 0"):
        attn.linear_attention(q, k, v, recipes.HGRN2, decay=np.ones((B, T, H, C), np.float32), flags=["checked"])
    with pytest.raises(ValueError, match="must have 4 axes"):
        attn.linear_attention(q[0], k, v, attn.LinearMethod())
    with pytest.raises(ValueError, match="update"):
        attn.LinearMethod(update="subtract")

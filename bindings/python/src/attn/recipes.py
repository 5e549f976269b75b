"""The methods of linear attention by name, with the defaults of their publications. Experimental.

Each function computes what its operator does to given q, k, v and gates; projections, short convolutions, norms and
gates of the output are the caller's. Those of one recurrence have a method of the same name in capitals, for
`attn.linear_attention` and for saving states. `**options` go to `attn.linear_attention`: `state`, `return_state`,
`cu_seqlens_q`, `out`, ...
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from ._arrays import ArrayLike
from ._attention import attention
from ._handle import Handle
from ._linear import FeatureMap, LinearMethod, linear_attention
from ._merge import merge
from ._sequence import gated_scan

LINEAR = LinearMethod(feature_map="elu1", normaliser=True, normaliser_eps=1e-10, scale=1)
BASED = LinearMethod(feature_map="taylor2", normaliser=True, normaliser_eps=1e-12, scale=1)
HEDGEHOG = LinearMethod(feature_map="hedgehog", normaliser=True, normaliser_eps=1e-10, scale=1)
RETNET = LinearMethod(decay="head")
LIGHTNING = LinearMethod(decay="head", feature_map="silu", scale=1)
GLA = LinearMethod(decay="channel", decay_form="log_sigmoid", decay_scale=1 / 16)
HGRN2 = LinearMethod(decay="channel")
MAMBA2 = LinearMethod(decay="token", decay_form="softplus", scale=1)
RWKV6 = LinearMethod(decay="channel", read_before=True, scale=1)
RWKV7 = LinearMethod(decay="channel", decay_lower_bound=-0.60653066, update="dplr", scale=1)
DELTANET = LinearMethod(update="delta", qk_l2norm=True)
GATED_DELTANET = LinearMethod(update="delta", qk_l2norm=True, decay="token", decay_form="softplus")
KDA = LinearMethod(update="delta", qk_l2norm=True, decay="channel", decay_form="softplus")
KDA_SAFE = LinearMethod(
    update="delta", qk_l2norm=True, decay="channel", decay_form="sigmoid", decay_lower_bound=-5
)


def linear(q: ArrayLike, k: ArrayLike, v: ArrayLike, *, feature_map: FeatureMap = "elu1", **options: Any) -> Any:
    """Causal linear attention (Katharopoulos et al. 2020): features of q and k, divided by the sum of weights."""
    method = LINEAR
    if feature_map != "elu1":
        method = LinearMethod(feature_map=feature_map, normaliser=True, normaliser_eps=1e-10, scale=1)
    return linear_attention(q, k, v, method, **options)


def based(q: ArrayLike, k: ArrayLike, v: ArrayLike, **options: Any) -> Any:
    """Based (Arora et al. 2024): features of the second order Taylor expansion of exp, of 16 channels."""
    return linear_attention(q, k, v, BASED, **options)


def hedgehog(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, feature_q: ArrayLike, feature_k: ArrayLike, **options: Any
) -> Any:
    """Hedgehog (Zhang et al. 2024): learned softmax features, `[H, C, C + 1]` with the bias as last column."""
    return linear_attention(q, k, v, HEDGEHOG, feature_q=feature_q, feature_k=feature_k, **options)


def retnet_decay(heads: int) -> Any:
    """The log decays of RetNet: `log(1 - 2 ** (-5 - h))`."""
    return np.log1p(-(2.0 ** (-5 - np.arange(heads)))).astype(np.float32)


def retnet(q: ArrayLike, k: ArrayLike, v: Any, decay: Optional[ArrayLike] = None, **options: Any) -> Any:
    """RetNet (Sun et al. 2023) of rotated q and k. `decay`: log decays by head, default `retnet_decay`."""
    if decay is None:
        decay = retnet_decay(v.shape[-2])
    return linear_attention(q, k, v, RETNET, decay=decay, **options)


def lightning_decay(heads: int, layer: int, layers: int) -> Any:
    """The log decays of TransNormerLLM: slopes of ALiBi, weaker in later layers."""
    power = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * (h + 1) / power) for h in range(power)]
    slopes += [2.0 ** (-4 * (2 * h + 1) / power) for h in range(heads - power)]
    depth = layer / (layers - 1) if layers > 1 else 0.0
    return (-np.asarray(slopes) * (1 - depth + 1e-5)).astype(np.float32)


def lightning(q: ArrayLike, k: ArrayLike, v: ArrayLike, decay: ArrayLike, **options: Any) -> Any:
    """Lightning attention (Qin et al. 2024); silu of q and k is included, that of v is not. See `lightning_decay`."""
    return linear_attention(q, k, v, LIGHTNING, decay=decay, **options)


def gla(q: ArrayLike, k: ArrayLike, v: ArrayLike, gate: ArrayLike, **options: Any) -> Any:
    """Gated linear attention (Yang et al. 2024): log decay by channel `log(sigmoid(gate)) / 16`."""
    return linear_attention(q, k, v, GLA, decay=gate, **options)


def hgrn2(q: ArrayLike, forget: Any, v: ArrayLike, **options: Any) -> Any:
    """HGRN2 (Qin et al. 2024): `forget` in (0, 1) is the decay, `1 - forget` the key."""
    forget = np.asarray(forget, np.float32)
    return linear_attention(q, 1 - forget, v, HGRN2, decay=np.log(forget), **options)


def mamba2(
    c: ArrayLike, b: ArrayLike, x: Any, dt: Any, a_log: ArrayLike, dt_bias: Any, d: Any = None, **options: Any
) -> Any:
    """Mamba-2 (Dao and Gu 2024): the state space model of C, B, x and dt before its softplus; `d`: the skip `D x`."""
    x, dt, dt_bias = np.asarray(x), np.asarray(dt, np.float32), np.asarray(dt_bias, np.float32)
    step = np.logaddexp(0, dt + dt_bias)[..., None].astype(x.dtype)
    result = linear_attention(c, b, step * x, MAMBA2, decay=dt, a_log=a_log, dt_bias=dt_bias, **options)
    if d is None:
        return result
    skip = np.asarray(d)[:, None] * x
    return (result[0] + skip, result[1]) if isinstance(result, tuple) else result + skip


def rwkv6(r: ArrayLike, k: ArrayLike, v: ArrayLike, w: Any, u: ArrayLike, **options: Any) -> Any:
    """RWKV-6 (Peng et al. 2024): log decay by channel `-exp(w)`, u the bonus of the present token."""
    return linear_attention(r, k, v, RWKV6, decay=-np.exp(np.asarray(w, np.float32)), bonus=u, **options)


def rwkv7(r: ArrayLike, log_decay: ArrayLike, k: ArrayLike, v: ArrayLike, kk: Any, a: Any, **options: Any) -> Any:
    """RWKV-7 (Peng et al. 2025): kk normalised, a in (0, 1), log decay in [-0.6066, 0), k as it is written."""
    kk = np.asarray(kk)
    return linear_attention(r, k, v, RWKV7, decay=log_decay, dplr_b=kk * np.asarray(a), dplr_c=-kk, **options)


def deltanet(q: ArrayLike, k: ArrayLike, v: ArrayLike, beta: ArrayLike, **options: Any) -> Any:
    """DeltaNet (Schlag et al. 2021; Yang et al. 2024); rows of q and k are normalised, beta in (0, 1) or (0, 2)."""
    return linear_attention(q, k, v, DELTANET, beta=beta, **options)


def gated_deltanet(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, gate: ArrayLike, beta: ArrayLike, a_log: ArrayLike, dt_bias: ArrayLike,
    **options: Any,
) -> Any:  # fmt: skip
    """Gated DeltaNet (Yang et al. 2025): log decay `-exp(a_log) softplus(gate + dt_bias)`."""
    return linear_attention(
        q, k, v, GATED_DELTANET, decay=gate, beta=beta, a_log=a_log, dt_bias=dt_bias, **options
    )


def kda(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, gate: ArrayLike, beta: ArrayLike, a_log: ArrayLike, dt_bias: ArrayLike,
    *, safe: bool = False, **options: Any,
) -> Any:  # fmt: skip
    """Kimi Delta Attention (2025): log decay by channel `-exp(a_log) softplus(gate + dt_bias)`, or with `safe`
    `-5 sigmoid(exp(a_log) (gate + dt_bias))`."""
    method = KDA_SAFE if safe else KDA
    return linear_attention(q, k, v, method, decay=gate, beta=beta, a_log=a_log, dt_bias=dt_bias, **options)


def inline(q: Any, k: Any, v: Any, **options: Any) -> Any:
    """InLine attention (Han et al. 2024), in both directions: `s/n Q (K^T V) + (1 - s q.mean(k)) mean(v)`."""
    q, k, v = np.asarray(q), np.asarray(k), np.asarray(v)
    s = q.shape[-1] ** -0.5
    core = linear_attention(q, k, v, LinearMethod(bidirectional=True, scale=s / k.shape[1]), **options)
    rest = 1 - s * np.einsum("bihc,bhc->bih", q, k.mean(1), dtype=np.float32)
    return core + (rest[..., None] * v.mean(1)[:, None]).astype(core.dtype)


def agent(q: ArrayLike, k: ArrayLike, v: ArrayLike, agents: ArrayLike, **options: Any) -> Any:
    """Agent attention (Han et al. 2024): `attention(q, agents, attention(agents, k, v))`."""
    return attention(q, agents, attention(agents, k, v, **options), **options)


def _rotate(x: Any, positions: Any, base: float) -> Any:
    """RoPE of `[B, T, H, C]` at the positions of the tokens; channels i and i + C / 2 are a pair."""
    half = x.shape[-1] // 2
    angles = positions[:, None] * float(base) ** (-np.arange(half) / half)
    cos, sin = (f(angles)[:, None].astype(np.float32) for f in (np.cos, np.sin))
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rat(
    q: Any, k: Any, v: Any, forget: Any, chunk: int = 16, *, rope_base: Optional[float] = None,
    handle: Optional[Handle] = None,
) -> Any:  # fmt: skip
    """RAT (Wei et al. 2025): a gated mean of keys and values within chunks, softmax attention over chunks.

    Parameters
    ----------
    q, k, v : array
        `[B, T, Hq, C]`, `[B, T, Hk, C]`, `[B, T, Hv, D]`.
    forget : array or pair of arrays
        Like k in (0, 1): `k' = forget k' + (1 - forget) k`, v likewise, begun anew with every chunk. A pair has one for
        k and one for v; a last axis of extent 1 stands for all channels.
    chunk : int
        Tokens of a chunk.
    rope_base : float, optional
        Rotate queries and mean keys by the index of their chunk. Default: not.
    handle : Handle, optional
        Default: one handle of the process, on the CPU with all cores.
    """
    q, k, v = (np.asarray(x, np.float32) for x in (q, k, v))
    gates = forget if isinstance(forget, tuple) else (forget, forget)
    batch, tokens = k.shape[:2]
    # Chunks are sequences of their own, packed one after the other.
    starts = [b * tokens + t for b in range(batch) for t in range(0, tokens, chunk)]
    cu = np.asarray([*starts, batch * tokens], np.int32)
    means = []
    for x, gate in zip((k, v), gates):
        packed = [np.asarray(y, np.float32).reshape(batch * tokens, *y.shape[2:]) for y in (x, gate)]
        mean = gated_scan(*packed, form="factor", lerp=True, cu_seqlens_q=cu, handle=handle)
        means.append(mean.reshape(x.shape))
    chunks = np.arange(tokens, dtype=np.int32) // chunk
    if rope_base is not None:
        q, means[0] = _rotate(q, chunks, rope_base), _rotate(means[0], chunks, rope_base)
    # A query of chunk c sees the chunks before it, those at positions <= c - 1.
    last = slice(chunk - 1, tokens, chunk)
    ends = [mean[:, last] for mean in means]
    past, past_lse = attention(
        q, *ends, causal="by_position", return_lse=True, handle=handle,
        positions_q=np.broadcast_to(chunks - 1, (batch, tokens)),
        positions_kv=np.broadcast_to(np.arange(ends[0].shape[1], dtype=np.int32), (batch, ends[0].shape[1])),
    )  # fmt: skip
    # Its own chunk is a single key: the mean so far.
    heads = past.shape[2]
    own_q, own_k, own_v = (x.repeat(heads // x.shape[2], axis=2) for x in (q, *means))
    own_lse = np.einsum("bthc,bthc->bht", own_q, own_k) * np.float32(q.shape[-1] ** -0.5)
    return merge([past, own_v], [past_lse, own_lse], handle=handle)

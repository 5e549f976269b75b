"""Attention by its definition, in float64, one query and head at a time. Shares nothing with the library."""

import numpy as np


def attend(q, k, v, *, causal=None, align=None, window=None, sink_tokens=0, scale=None, softcap=None, positions=None):
    """One sequence: q [Tq, Hq, D], k [Tk, Hk, D], v [Tk, Hv, Dv]; positions: pair of [Tq], [Tk].

    Returns out [Tq, Ho, Dv] and lse [Ho, Tq], float64.
    """
    q, k, v = (np.asarray(x).astype(np.float64) for x in (q, k, v))
    (tq, hq, dim), (tk, hk, _), hv = q.shape, k.shape, v.shape[1]
    heads = max(hq, hk, hv)
    scale = 1 / np.sqrt(dim) if scale is None else scale
    out = np.zeros((tq, heads, v.shape[2]))
    lse = np.full((heads, tq), -np.inf)
    left, right = window or (None, None)
    for h in range(heads):
        for i in range(tq):
            diagonal = causal or align
            j = np.arange(tk)
            if diagonal == "top_left":
                distance = j - i
            elif diagonal == "bottom_right":
                distance = j - (i + tk - tq)
            elif diagonal == "by_position":
                distance = np.asarray(positions[1]) - positions[0][i]
            else:
                distance = np.zeros(tk, int)
            visible = np.ones(tk, bool)
            if left is not None:
                visible &= -distance <= left
            if right is not None:
                visible &= distance <= right
            visible |= j < sink_tokens
            if causal:
                visible &= distance <= 0
            if not visible.any():
                continue
            scores = scale * (k[visible, h * hk // heads] @ q[i, h * hq // heads])
            if softcap:
                scores = softcap * np.tanh(scores / softcap)
            largest = scores.max()
            weights = np.exp(scores - largest)
            out[i, h] = weights @ v[visible, h * hv // heads] / weights.sum()
            lse[h, i] = largest + np.log(weights.sum())
    return out, lse


def attend_batch(q, k, v, positions=None, **options):
    """Likewise for [B, T, H, D]; lse [B, Ho, Tq]."""
    pairs = [
        attend(q[b], k[b], v[b], positions=None if positions is None else (positions[0][b], positions[1][b]), **options)
        for b in range(q.shape[0])
    ]
    return np.stack([out for out, _ in pairs]), np.stack([lse for _, lse in pairs])

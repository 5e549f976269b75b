"""Attention by its definition, in float64, one query and head at a time. Shares nothing with the library."""

import math

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


GATES = {"sigmoid": sigmoid, "linear": lambda g: g, "silu": lambda g: g * sigmoid(g)}


def distances(diagonal, i, tq, tk, positions=None):
    """How far each key is behind (negative) or ahead of the one that is level with query i."""
    j = np.arange(tk)
    if diagonal == "top_left":
        return j - i
    if diagonal == "bottom_right":
        return j - (i + tk - tq)
    if diagonal == "by_position":
        return np.asarray(positions[1]).astype(np.int64) - int(positions[0][i])
    return np.zeros(tk, int)


def bucket(distance, buckets, max_distance, bidirectional):
    """T5: a bucket for each near distance, then as many for each doubling."""
    first = 0
    if bidirectional:
        buckets //= 2
        first = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    growth = math.log(distance / exact) / math.log(max_distance / exact)
    return first + min(exact + int(growth * (buckets - exact)), buckets - 1)


def grid_entry(grid, i, j):
    """Swin: the relative position of two points of a grid, query minus key, in row-major order."""
    relative = [a - b + n - 1 for a, b, n in zip(np.unravel_index(i, grid), np.unravel_index(j, grid), grid)]
    return np.ravel_multi_index(relative, [2 * n - 1 for n in grid])


def attend_all(
    q, k, v, *, causal=None, align=None, window=None, sink_tokens=0, scale=None, softcap=None, positions=None,
    activation="softmax", activation_bias=0.0, activation_length=None, bias_stage="post_softcap", q_temperature=None,
    v_temperature=None, bias=None, alibi_slopes=None, bias_table=None, entry=None, lowrank_q=None, lowrank_k=None,
    sink_logits=None, gate=None, gate_kind="sigmoid", head_weight=None, mask=None,
):  # fmt: skip
    """One sequence: q [Tq, Hq, D], k [Tk, Hk, D], v [Tk, Hv, Dv]; positions: pair of [Tq], [Tk].

    q_temperature [Tq, Hq], v_temperature [Tk, Hv], bias [Ho, Tq, Tk], alibi_slopes [Ho], bias_table [E, Ho] with
    entry(i, j, distance), lowrank_q [Tq, Ho, R], lowrank_k [Tk, Ho, R], sink_logits [Ho], gate [Tq, Ho, Dv],
    head_weight [Tq, Ho], mask [Ho, Tq, Tk] bool.

    Returns out [Tq, Ho, Dv], lse, row_max, row_entropy [Ho, Tq] and column_mass [Ho, Tk] by name, float64.
    """
    q, k, v = (np.asarray(x).astype(np.float64) for x in (q, k, v))
    (tq, hq, dim), (tk, hk, _), hv = q.shape, k.shape, v.shape[1]
    heads = max(hq, hk, hv)
    scale = 1 / np.sqrt(dim) if scale is None else scale
    out = np.zeros((tq, heads, v.shape[2]))
    lse, row_max = np.full((heads, tq), -np.inf), np.full((heads, tq), -np.inf)
    row_entropy, column_mass = np.zeros((heads, tq)), np.zeros((heads, tk))
    left, right = window or (None, None)
    for h in range(heads):
        a, b, c = h * hq // heads, h * hk // heads, h * hv // heads
        for i in range(tq):
            j = np.arange(tk)
            distance = distances(causal or align, i, tq, tk, positions)
            visible = np.ones(tk, bool)
            if left is not None:
                visible &= -distance <= left
            if right is not None:
                visible &= distance <= right
            visible |= j < sink_tokens
            if causal:
                visible &= distance <= 0
            if mask is not None:
                visible &= mask[h, i]
            scores = scale * (k[:, b] @ q[i, a])
            if q_temperature is not None:
                scores = scores * float(q_temperature[i, a])
            if lowrank_q is not None:
                scores = scores + np.asarray(lowrank_k[:, h], np.float64) @ np.asarray(lowrank_q[i, h], np.float64)
            added = np.zeros(tk)
            if bias is not None:
                added += np.asarray(bias[h, i], np.float64)
            if alibi_slopes is not None:
                added -= float(alibi_slopes[h]) * np.abs(distance)
            if bias_table is not None:
                added += [float(bias_table[entry(i, key, distance[key]), h]) for key in j]
            if bias_stage == "pre_softcap":
                scores = scores + added
            if softcap:
                scores = softcap * np.tanh(scores / softcap)
            if bias_stage == "post_softcap":
                scores = scores + added
            scores, values = scores[visible], v[visible, c]
            sink = -np.inf if sink_logits is None else float(sink_logits[h])
            largest = max(scores.max(initial=-np.inf), sink)
            row_max[h, i] = scores.max(initial=-np.inf)
            if activation == "sigmoid":
                weights = sigmoid(scores + activation_bias)
            elif activation == "relu":
                weights = np.maximum(scores, 0) / (activation_length or tk)
            elif largest == -np.inf:
                continue
            else:
                lse[h, i] = largest + np.log(np.exp(scores - largest).sum() + np.exp(sink - largest))
                weights = np.exp(scores - lse[h, i])
                row_entropy[h, i] = -(weights * (scores - lse[h, i])).sum()
            column_mass[h, visible] += weights
            if v_temperature is not None:
                weights = weights * np.asarray(v_temperature[visible, c], np.float64)
            out[i, h] = weights @ values
            if gate is not None:
                out[i, h] *= GATES[gate_kind](np.asarray(gate[i, h], np.float64))
            if head_weight is not None:
                out[i, h] *= float(head_weight[i, h])
    return {"out": out, "lse": lse, "row_max": row_max, "row_entropy": row_entropy, "column_mass": column_mass}


def attend(q, k, v, **options):
    """Likewise; returns out and lse."""
    results = attend_all(q, k, v, **options)
    return results["out"], results["lse"]


def attend_batch(q, k, v, positions=None, **options):
    """Likewise for [B, T, H, D]; lse [B, Ho, Tq]."""
    pairs = [
        attend(q[b], k[b], v[b], positions=None if positions is None else (positions[0][b], positions[1][b]), **options)
        for b in range(q.shape[0])
    ]
    return np.stack([out for out, _ in pairs]), np.stack([lse for _, lse in pairs])


def rotate(x, positions, *, layout="half", dim=None, first=0, base=10000.0):
    """RoPE: x [T, H, D] at positions [T], in float64."""
    x = np.array(x, np.float64)
    dim = dim or x.shape[-1]
    for c in range(dim // 2):
        a, b = (first + 2 * c, first + 2 * c + 1) if layout == "interleaved" else (first + c, first + c + dim // 2)
        angle = (np.asarray(positions, np.float64) * base ** (-2 * c / dim))[:, None]
        real, imaginary = x[..., a].copy(), x[..., b].copy()
        x[..., a] = real * np.cos(angle) - imaginary * np.sin(angle)
        x[..., b] = real * np.sin(angle) + imaginary * np.cos(angle)
    return x

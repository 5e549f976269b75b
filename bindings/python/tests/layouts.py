"""Sequences of unequal lengths, laid out in each of the ways that attention() takes, and its results taken apart."""

import numpy as np

TOKENS_Q = {"q", "gate", "head_weight", "q_temperature", "bias_lowrank_q", "out", "ids_q", "ids_q[1]"}
TOKENS_K = {"k", "v", "v_temperature", "bias_lowrank_k", "ids_kv", "ids_kv[1]"}
LAYOUTS = ("bshd", "bhsd", "thd", "paged")
PAGE = 4


def sequence(arrays, b, nq, nk):
    """The arrays of sequence b alone, without its padding."""
    alone = {}
    for name, array in arrays.items():
        if name in TOKENS_Q:
            alone[name] = array[b, :nq]
        elif name in TOKENS_K:
            alone[name] = array[b, :nk]
        else:
            alone[name] = array[b, :, :nq, :nk] if name == "bias" else array
    return alone


def lay_out(arrays, layout, lengths_q, lengths_k, rng):
    """The keyword arguments of attention() for padded arrays `[B, T, ...]` (bias `[B, H, Tq, Tk]`), layout included.

    "thd" is packed; "paged" has K in pages, in an order that `rng` shuffles; the others keep the padding and say how
    much of it is used.
    """
    used = {"seqlens_q": np.array(lengths_q, np.int32), "seqlens_kv": np.array(lengths_k, np.int32)}
    if layout == "bshd":
        return {**arrays, **used}
    if layout == "bhsd":
        swapped = {
            name: np.ascontiguousarray(x.swapaxes(1, 2)) if name in TOKENS_Q | TOKENS_K and x.ndim > 2 else x
            for name, x in arrays.items()
        }
        return {**swapped, **used, "layout": "bhsd"}
    laid = dict(arrays)
    if layout == "thd":
        for name, x in arrays.items():
            lengths = lengths_q if name in TOKENS_Q else lengths_k
            if name in TOKENS_Q | TOKENS_K:
                laid[name] = np.concatenate([x[b, :n] for b, n in enumerate(lengths)])
            elif name == "bias":
                laid[name] = np.concatenate([x[b, :, :n] for b, n in enumerate(lengths_q)], axis=1)
        laid["cu_seqlens_q"] = np.cumsum([0, *lengths_q], dtype=np.int32)
        laid["cu_seqlens_kv"] = np.cumsum([0, *lengths_k], dtype=np.int32)
        return {**laid, "layout": "thd"}
    batch, longest = arrays["k"].shape[:2]
    columns = -(-longest // PAGE)
    table = rng.permutation(batch * columns + 2)[: batch * columns].reshape(batch, columns).astype(np.int32)
    for name in TOKENS_K & set(arrays):
        x = arrays[name]
        poison = -7 if x.dtype.kind == "i" else np.nan
        pages = np.full((batch * columns + 2, PAGE, *x.shape[2:]), poison, x.dtype)
        for b in range(batch):
            padded = np.zeros((columns * PAGE, *x.shape[2:]), x.dtype)
            padded[:longest] = x[b]
            pages[table[b]] = padded.reshape(columns, PAGE, *x.shape[2:])
        laid[name] = pages
    return {**laid, **used, "block_table": table}


def taken_apart(result, name, layout, lengths_q, lengths_k):
    """The parts of a result, OUT or one with a row for each head, that belong to each sequence."""
    lengths = lengths_k if name == "column_mass" else lengths_q
    if layout == "thd":
        parts = np.split(result, np.cumsum(lengths)[:-1], axis=0 if name == "out" else 1)
        assert result.shape[0 if name == "out" else 1] == sum(lengths)
        return parts
    if name == "out":
        return [(x.swapaxes(0, 1) if layout == "bhsd" else x)[:n] for x, n in zip(result, lengths)]
    return [x[:, :n] for x, n in zip(result, lengths)]

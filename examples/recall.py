"""Associative recall: what a state of fixed size can hold.

Multi-query associative recall (MQAR, Zoology: Arora et al. 2023): a sequence lists pairs of a key and a value, later it
asks for keys, and the answer is the value that came with the key. Nothing is learned here: keys and values are set by
hand, so each operator shows what it can do at its best.

- Softmax attention answers from all pairs.
- DeltaNet writes a pair by first erasing what its key held. With orthonormal keys it answers exactly as long as there
  are no more keys than channels, also where a key is written again with another value.
- Plain linear attention adds: with as many keys as channels and no rewriting it answers too; a rewritten key returns a
  mix of its values, and more keys than channels are beyond its capacity.

usage: recall.py [FILE.svg]
"""

import sys

import numpy as np

import attn

CHANNELS = 32
VALUES = 64
QUERIES = 64
SEED = 3


def orthonormal_keys(count):
    """Unit keys: the first CHANNELS of them orthonormal, more of them as far apart as random directions are."""
    rng = np.random.default_rng(SEED)
    basis = np.linalg.qr(rng.standard_normal((CHANNELS, CHANNELS)))[0]
    if count <= CHANNELS:
        return basis[:count]
    more = rng.standard_normal((count - CHANNELS, CHANNELS))
    return np.concatenate([basis, more / np.linalg.norm(more, axis=1, keepdims=True)])


def sequence(pairs, rewritten, rng):
    """Pairs, `rewritten` of them again with another value, then queries: keys, values, queries, answers."""
    directions = orthonormal_keys(pairs)
    code = np.eye(VALUES)
    order = rng.permutation(pairs)
    again = rng.choice(pairs, rewritten, replace=False)
    written = np.concatenate([order, again])
    values = rng.integers(VALUES, size=len(written))
    latest = dict(zip(written, values))
    asked = rng.integers(pairs, size=QUERIES)
    k = np.concatenate([directions[written], np.zeros((QUERIES, CHANNELS))])
    v = np.concatenate([code[values], np.zeros((QUERIES, VALUES))])
    q = np.concatenate([np.zeros((len(written), CHANNELS)), directions[asked]])
    return k, v, q, len(written), np.array([latest[key] for key in asked])


def softmax(q, k, v):
    """Sharp enough that the nearest key decides; of equal keys the latest, by a bias that grows with the position."""
    return attn.attention(q, k, v, causal="top_left", scale=2000.0, alibi_slopes=np.array([0.5], np.float32))


def delta(q, k, v):
    beta = (np.abs(k).sum(-1) > 0).astype(np.float32)  # queries write nothing
    return attn.recipes.deltanet(q, k, v, beta)


def linear(q, k, v):
    return attn.linear_attention(q, k, v, attn.LinearMethod())


OPERATORS = {"softmax attention": softmax, "DeltaNet": delta, "linear attention": linear}


def accuracy(operator, pairs, rewritten, trials=8):
    rng = np.random.default_rng(SEED)
    right = total = 0
    for _ in range(trials):
        k, v, q, written, answers = sequence(pairs, rewritten, rng)
        arrays = [np.ascontiguousarray(x[None, :, None], np.float32) for x in (q, k, v)]
        out = operator(*arrays)[0, written:, 0]
        right += (out.argmax(-1) == answers).sum()
        total += len(answers)
    return right / total


def plot(path, rows):
    """Accuracy by pairs, of sequences in which a quarter of the keys is written again."""
    colours = {"softmax attention": "#1f77b4", "DeltaNet": "#2ca02c", "linear attention": "#d62728"}
    left, top, width, height = 60, 20, 420, 220
    pairs = [row[0] for row in rows]
    x = {p: left + width * i / (len(pairs) - 1) for i, p in enumerate(pairs)}
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="660" height="300" font-family="sans-serif" font-size="12">',
        '<rect width="660" height="300" fill="white"/>',
    ]
    for level in (0, 0.25, 0.5, 0.75, 1):
        y = top + height * (1 - level)
        parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{level:.0%}</text>')
    for p in pairs:
        parts.append(f'<text x="{x[p]}" y="{top + height + 18}" text-anchor="middle">{p}</text>')
    parts.append(f'<text x="{left + width / 2}" y="{top + height + 38}" text-anchor="middle">pairs, a quarter of them '
                 f"written twice; keys of {CHANNELS} channels</text>")  # fmt: skip
    for i, name in enumerate(OPERATORS):
        points = " ".join(f"{x[row[0]]:.1f},{top + height * (1 - row[2][name]):.1f}" for row in rows)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
        parts.append(f'<text x="{left + width + 12}" y="{top + 20 + 20 * i}" fill="{colours[name]}">{name}</text>')
    with open(path, "w") as file:
        file.write("\n".join([*parts, "</svg>\n"]))


def main():
    print(f"answers right, of {QUERIES} queries a sequence; keys of {CHANNELS} channels")
    print(f"{'pairs':>6} {'written twice':>14}  " + "  ".join(f"{name:>18}" for name in OPERATORS))
    rows = []
    for pairs in (4, 8, 16, 32, 64, 128):
        for rewritten in (0, pairs // 4):
            found = {name: accuracy(operator, pairs, rewritten) for name, operator in OPERATORS.items()}
            print(f"{pairs:>6} {rewritten:>14}  " + "  ".join(f"{found[name]:>18.1%}" for name in OPERATORS))
            if rewritten:
                rows.append((pairs, rewritten, found))
            assert found["softmax attention"] == 1
            if pairs <= CHANNELS:
                assert found["DeltaNet"] == 1, "DeltaNet answers exactly within its capacity"
            if rewritten and pairs >= CHANNELS or pairs > 2 * CHANNELS:
                assert found["linear attention"] < 0.95, "linear attention is beyond its capacity"
    path = sys.argv[1] if len(sys.argv) > 1 else "recall.svg"
    plot(path, rows)
    print(f"plot: {path}")


if __name__ == "__main__":
    main()

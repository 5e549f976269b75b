#!/usr/bin/env python3
"""Tests attn_ctypes.py: the layout against the header, and a call on the CPU against the equations.

usage: attn_ctypes_test.py HEADER LIBRARY
"""

from __future__ import annotations

import array
import math
import random
import sys
import unittest
from pathlib import Path

import attn_ctypes
from attn_ctypes import BOTTOM_RIGHT, DEVICE_CPU, DTYPES, Call, DensePlan, Error, Handle, Library

HEADER, LIBRARY = Path(sys.argv[1]), sys.argv[2]


class Layout(unittest.TestCase):
    def test_structs_are_those_of_the_header(self) -> None:
        self.assertEqual(attn_ctypes.check_layout(HEADER), [])

    def test_numbers_are_those_of_the_header(self) -> None:
        text = HEADER.read_text()
        names = {f"ATTN_SLOT_{name}": value for name, value in attn_ctypes.SLOTS.items()}
        names |= {f"ATTN_{name.upper()}": value for name, value in DTYPES.items()}
        for name, value in names.items():
            self.assertRegex(text, rf"\b{name} = 0x0*{value:x}\b")


class OnTheCpu(unittest.TestCase):
    def setUp(self) -> None:
        self.library = Library(LIBRARY)
        self.handle = Handle(self.library, DEVICE_CPU)

    def test_causal_attention_with_a_window_and_grouped_heads(self) -> None:
        tq, tk, hq, hk, dim, left = 3, 7, 4, 2, 8, 2
        random.seed(1)
        q, k, v = (array.array("f", (random.gauss(0, 1) for _ in range(n * dim))) for n in (tq * hq, tk * hk, tk * hk))
        out = array.array("f", [math.nan] * (tq * hq * dim))
        plan = DensePlan(
            self.handle,
            dict(q_dtype=DTYPES["float32"], heads_q=hq, heads_k=hk, dim_qk=dim, max_q=tq, max_kv=tk),
            dict(causal=BOTTOM_RIGHT, flags=attn_ctypes.WINDOW_LEFT, window_left=left, softcap=5.0),
        )
        self.assertIn('"kind":"dense"', plan.describe())
        workspace = array.array("d", [0.0] * (plan.workspace_bytes // 8 + 1))

        def view(slot: str, data: array.array[float], tokens: int, heads: int):  # type: ignore[no-untyped-def]
            shape = (1, tokens, heads, dim)
            return slot, data.buffer_info()[0], "float32", shape, (tokens * heads * dim, heads * dim, dim, 1)

        views = [view("Q", q, tq, hq), view("K", k, tk, hk), view("V", v, tk, hk), view("OUT", out, tq, hq)]
        Call(plan, views, workspace.buffer_info()[0])()
        for i in range(tq):
            for h in range(hq):
                level, group = i + tk - tq, h * hk // hq
                keys = range(max(0, level - left), level + 1)
                row = q[(i * hq + h) * dim :][:dim]
                scores = []
                for j in keys:
                    s = sum(a * b for a, b in zip(row, k[(j * hk + group) * dim :][:dim])) / math.sqrt(dim)
                    scores.append(math.exp(5.0 * math.tanh(s / 5.0)))
                for c in range(dim):
                    wanted = sum(w * v[(j * hk + group) * dim + c] for w, j in zip(scores, keys)) / sum(scores)
                    self.assertAlmostEqual(out[(i * hq + h) * dim + c], wanted, places=5)

    def test_a_refusal_has_the_message_of_the_library(self) -> None:
        with self.assertRaisesRegex(Error, "attn_problem.dim_qk = -1"):
            DensePlan(self.handle, dict(q_dtype=DTYPES["float32"], heads_q=1, dim_qk=-1, max_q=1), {})


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])

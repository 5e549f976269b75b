#!/usr/bin/env python3
"""Draws what compare.py measured: a bar for each library on each row, and a mark where the row's own bar is.

usage: compare_plot.py compare.csv compare.svg
"""

from __future__ import annotations

import csv
import sys
from html import escape
from pathlib import Path

COLOURS = {
    "libattn": "#1f77b4",
    "portable": "#9ecae1",
    "cudnn": "#7f7f7f",
    "fa2": "#c7a252",
    "fa3": "#b5573c",
    "flex": "#9467bd",
    "contiguous": "#9ecae1",
    "graph": "#6baed6",
    "twin": "#9ecae1",
}
TITLES = {
    "dense": "Dense forward, TFLOP/s",
    "more": "Other work beside plain work, TFLOP/s",
    "decode": "Decoding, GB/s",
    "page": "Decoding from pages, GB/s",
    "mask": "Masks and biases, effective TFLOP/s",
}
WIDTH, LABEL, BAR, GAP, TOP = 960, 300, 9, 8, 34
TICKS = 5


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def round_up(value: float) -> float:
    """To a number that divides well into ticks."""
    step = 10.0 ** (len(str(int(value))) - 1) / 2
    return (int(value / step) + 1) * step


def draw_group(title: str, lines: list[dict[str, str]], top: float) -> tuple[list[str], float]:
    rows: dict[str, list[dict[str, str]]] = {}
    for line in lines:
        if line["median"]:
            rows.setdefault(line["row"], []).append(line)
    if not rows:
        return [], top
    values = [float(x["median"]) for bars in rows.values() for x in bars]
    values += [float(x["bar"]) for bars in rows.values() for x in bars if x["bar"]]
    most = round_up(max(values))
    scale = (WIDTH - LABEL - 60) / most
    svg = [f'<text x="{LABEL}" y="{top + 14}" font-weight="bold">{escape(title)}</text>']
    y = top + TOP
    first = y
    for name, bars in rows.items():
        middle = y + len(bars) * BAR / 2 + 4
        svg.append(f'<text x="{LABEL - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>')
        for bar in bars:
            value = float(bar["median"])
            colour = COLOURS.get(bar["library"], "#000000")
            svg.append(f'<rect x="{LABEL}" y="{y}" width="{value * scale:.1f}" height="{BAR - 1}" fill="{colour}"/>')
            svg.append(
                f'<text x="{LABEL + value * scale + 4:.1f}" y="{y + BAR - 2}" font-size="8">{value:.0f}</text>'
            )
            if bar["bar"]:
                x = LABEL + float(bar["bar"]) * scale
                svg.append(f'<path d="M{x:.1f} {y - 1}v{len(bars) * BAR + 1}" stroke="#d62728" stroke-width="2"/>')
            y += BAR
        y += GAP
    for n in range(TICKS + 1):
        x = LABEL + most * scale * n / TICKS
        svg.insert(0, f'<path d="M{x:.1f} {first - 6}V{y}" stroke="#dddddd"/>')
        svg.append(f'<text x="{x:.1f}" y="{first - 9}" font-size="9" text-anchor="middle">{most * n / TICKS:.0f}</text>')
    return svg, y + 12


def write_svg(source: Path, target: Path) -> None:
    lines = read(source)
    y = 34.0
    body: list[str] = []
    x = LABEL
    for name in dict.fromkeys(line["library"] for line in lines):
        body.append(f'<rect x="{x}" y="8" width="12" height="12" fill="{COLOURS.get(name, "#000000")}"/>')
        body.append(f'<text x="{x + 16}" y="18">{escape(name)}</text>')
        x += 90
    body.append(f'<path d="M{x + 4} 6v16" stroke="#d62728" stroke-width="2"/><text x="{x + 12}" y="18">bar</text>')
    for group in dict.fromkeys(line["group"] for line in lines):
        svg, y = draw_group(TITLES.get(group, group), [line for line in lines if line["group"] == group], y)
        body += svg
    target.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" font-family="sans-serif" font-size="11">\n'
        f'<rect width="{WIDTH}" height="{y:.0f}" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    write_svg(Path(sys.argv[1]), Path(sys.argv[2]))

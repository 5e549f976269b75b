#!/usr/bin/env python3
"""Makes the table of costs by which plans on Hopper choose between kernels: backends/cuda/sm90_costs.h.

From docs/data/dense_h200.csv, what compare.py measured: for each head size and mask the time of a tile on an SM, as
a + b * (blocks of keys that it visits), by least squares of relative errors over the lengths of its rows; and the rate of the
portable kernel at 8192.

usage: fit_costs.py [--check]     prints the header's table; --check: compares it with the header
"""

from __future__ import annotations

import csv
import math
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "docs/data/dense_h200.csv"
HEADER = ROOT / "backends/cuda/sm90_costs.h"
SMS = 132
SHORT_ROWS = 1024  # up to which the rows of d 64 causal had two consumers, kShortRows of then

Row = tuple[int, int, int, bool, float]  # heads times batch, length, dim, causal, TFLOP/s


def rows_of(library: str) -> list[Row]:
    rows = []
    with DATA.open(newline="") as file:
        for line in csv.DictReader(x for x in file if not x.startswith("#")):
            match = re.fullmatch(r"d(\d+) h(\d+) b(\d+) s(\d+) (full|causal)", line["row"])
            if match and line["library"] == library:
                dim, heads, batch, length = (int(x) for x in match.groups()[:4])
                rows.append((heads * batch, length, dim, match.group(5) == "causal", float(line["median"])))
    return rows


def microseconds(pairs: int, length: int, dim: int, causal: bool, rate: float) -> float:
    return 4e-6 * pairs * length * length * dim * (0.5 if causal else 1) / rate


def tile_cost(rows: list[Row], tile_rows: int, keys: int) -> tuple[float, float]:
    """a and b, in microseconds."""
    xx = xy = yy = xt = yt = 0.0
    for pairs, length, dim, causal, rate in rows:
        tiles_of_head = math.ceil(length / tile_rows)
        tiles, blocks = pairs * tiles_of_head, float(pairs * tiles_of_head * math.ceil(length / keys))
        if causal:
            seen = (min(length, (i + 1) * tile_rows) for i in range(tiles_of_head))
            blocks = float(pairs * sum(math.ceil(n / keys) for n in seen))
        # Where tiles take equally long an SM has whole ones; else those who are done first take the next.
        share = 1 / SMS if causal else math.ceil(tiles / SMS) / tiles
        time = microseconds(pairs, length, dim, causal, rate)
        x, y = tiles * share / time, blocks * share / time
        xx, xy, yy, xt, yt = xx + x * x, xy + x * y, yy + y * y, xt + x, yt + y
    determinant = xx * yy - xy * xy
    return (xt * yy - yt * xy) / determinant, (yt * xx - xt * xy) / determinant


def table() -> list[str]:
    lines = ["constexpr TileCost kTileCosts[] = {"]
    hopper = rows_of("libattn")
    for dim in (64, 128, 256):
        for causal in (False, True):
            for consumers in (2, 3):
                short = consumers == 2
                rows = [r for r in hopper if r[2:4] == (dim, causal)]
                if dim == 64:
                    rows = [r for r in rows if (causal and r[1] <= SHORT_ROWS) == short]
                elif not short:
                    rows = []
                if len(rows) < 2:
                    continue
                tile, block = tile_cost(rows, 64 * consumers, 64 if dim == 256 else 128)
                lines.append(f"    {{{dim}, {'true' if causal else 'false'}, {consumers}, {tile:.3f}, {block:.3f}}},")
    lines += ["};", "constexpr PortableRate kPortableRates[] = {"]
    for dim in (64, 128):
        for causal in (False, True):
            rate = next(r[4] for r in rows_of("portable") if r[1] == 8192 and r[2:4] == (dim, causal))
            lines.append(f"    {{{dim}, {'true' if causal else 'false'}, {rate:.1f}}},")
    return [*lines, "};"]


def main() -> int:
    lines = table()
    if sys.argv[1:] != ["--check"]:
        print("\n".join(lines))
        return 0
    if "".join("".join(lines).split()) in "".join(HEADER.read_text().split()):
        return 0
    print(f"{HEADER} is not what {DATA} gives:\n" + "\n".join(lines))
    return 1


if __name__ == "__main__":
    sys.exit(main())

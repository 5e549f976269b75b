"""Checks what `attn bench` wrote. usage: check_bench.py csv FILE CASES | svg FILE CASES"""

import csv
import sys
import xml.etree.ElementTree

COLUMNS = (
    "case operator dtype isa threads repetitions plan_us median_ms min_ms max_ms spread_percent cpus_used unit rate "
    "ceiling ceiling_rate percent_of_ceiling"
).split()


def check_csv(path, cases):
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows, "no rows"
    assert list(rows[0]) == COLUMNS, list(rows[0])
    assert len(rows) == cases, f"{len(rows)} rows, not {cases}"
    for row in rows:
        assert None not in row and None not in row.values(), f"a row has other columns: {row}"
        low, median, high = (float(row[name]) for name in ("min_ms", "median_ms", "max_ms"))
        assert 0 < low <= median <= high, row
        assert abs(float(row["spread_percent"]) - 100 * (high - low) / median) < 0.1, row
        rate, ceiling = float(row["rate"]), float(row["ceiling_rate"])
        assert rate > 0 and ceiling > 0 and float(row["plan_us"]) > 0, row
        assert abs(float(row["percent_of_ceiling"]) - 100 * rate / ceiling) < 0.1, row
        assert (row["unit"], row["ceiling"]) in (("GFLOP/s", "multiply_add"), ("GB/s", "read")), row
        if row["case"] == "prefill s64 h2 d64 full fp32":  # 4 * heads * queries * keys * channels
            flops = 4 * 2 * 64 * 64 * 64
            assert abs(rate * 1e9 * median * 1e-3 / flops - 1) < 1e-3, row
        if row["case"] == "append b32 s1 h8 d128 rope paged16 bf16":  # K and V, read and written, two bytes each
            assert abs(rate * 1e9 * median * 1e-3 / (32 * 8 * 128 * 2 * 2 * 2) - 1) < 1e-3, row


def check_svg(path, cases):
    space = "{http://www.w3.org/2000/svg}"
    root = xml.etree.ElementTree.parse(path).getroot()
    assert root.tag == space + "svg", root.tag
    width, height = float(root.get("width")), float(root.get("height"))
    texts = [text.text for text in root.iter(space + "text")]
    assert sum(" %, " in text for text in texts) == cases, texts
    assert any("prefill s64 h2 d64 full fp32" == text for text in texts), texts
    for bar in root.iter(space + "rect"):
        if bar.get("width") == "100%":
            continue
        right, bottom = (float(bar.get(a)) + float(bar.get(b)) for a, b in (("x", "width"), ("y", "height")))
        assert right <= width and bottom <= height, bar.attrib


{"csv": check_csv, "svg": check_svg}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))

"""The report on an encoded data set: a table of its clips and a page of histograms."""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interp_refiner.data.preparation.quality import Measures

TABLE, PAGE = "clips.csv", "report.md"
COLUMNS = ("key", "folder", *Measures._fields, "left_out")
BINS, BAR = 10, 40  # rows of a histogram; characters of its longest bar
UNITS = {
    "brightness": "mean grey, 0 to 1",
    "motion": "mean difference of neighbouring frames, 0 to 1",
    "sharpness": "variance of the Laplacian, grey of 0 to 255",
    "jump": "largest difference of neighbouring frames less the median, 0 to 1",
}


def write_report(folder: Path, rows: Sequence[Sequence[Any]], skipped: dict[str, str]) -> None:
    """Writes ``clips.csv``, one row of :data:`COLUMNS` per clip, and ``report.md``, its summary."""
    with open(folder / f".{TABLE}", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    os.replace(folder / f".{TABLE}", folder / TABLE)
    text = page(rows, skipped)
    (folder / PAGE).write_text(text, encoding="utf-8", errors="backslashreplace")  # file names need not be UTF-8


def page(rows: Sequence[Sequence[Any]], skipped: dict[str, str]) -> str:
    """Counts, and a histogram of every measure over all clips, including those that were left out."""
    left_out = counted(rows)
    kept = Counter(folder for _, folder, *_, fault in rows if not fault)
    lines = ["# Clips", "", "| folder | clips |", "|---|---|", *(f"| {name} | {kept[name]} |" for name in sorted(kept))]
    lines += ["", f"{sum(left_out.values())} of {len(rows)} clips are left out."]
    lines += [f"- {fault}: {count}" for fault, count in left_out.items()]
    for column, (name, unit) in enumerate(UNITS.items(), 2):
        lines += ["", f"## {name}", "", f"{unit}; [all clips]({TABLE})", "", "```"]
        lines += [*histogram([row[column] for row in rows]), "```"]
    lines += ["", "# Videos that are left out", "", *(f"- `{name}`: {reason}" for name, reason in skipped.items())]
    return "\n".join(lines).rstrip() + "\n"


def counted(rows: Iterable[Sequence[Any]]) -> dict[str, int]:
    """The number of clips that were left out, by reason, the most frequent reason first."""
    return dict(Counter(row[-1] for row in rows if row[-1]).most_common())


def histogram(values: Sequence[float]) -> list[str]:
    """One line per bin: from, to, count, bar. The bins have equal widths between the 1st and 99th percentile."""
    if not values:
        return []
    numbers = np.asarray(values, dtype=np.float64)
    low, high = np.quantile(numbers, [0.01, 0.99])
    edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
    edges[0], edges[-1] = min(edges[0], numbers.min()), max(edges[-1], numbers.max())
    counts, _ = np.histogram(numbers, edges)
    longest = counts.max()
    bars = ("#" * -(-BAR * int(count) // int(longest)) for count in counts)
    shown = zip(edges, edges[1:], counts, bars, strict=False)
    return [f"{low:>10.4g} to {high:>10.4g} {count:>8} {bar}".rstrip() for low, high, count, bar in shown]

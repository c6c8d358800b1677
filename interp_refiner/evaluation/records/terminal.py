"""Prints the table of an evaluation."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from interp_refiner.config import terminal
from interp_refiner.core import NOTHING
from interp_refiner.evaluation.records.markdown import notes
from interp_refiner.evaluation.records.records import Evaluation

COMPACT_STYLE: dict[str, Any] = {"box": SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "collapse_padding": True}
NARROWEST_NAME = 12  # letters


def show(evaluation: Evaluation, folder: Path) -> None:
    """Prints the path of the report, then estimates and baselines at every level."""
    console = terminal()
    for label, name in (("report", "evaluation.md"), ("figures", "evaluation.json"), ("clips", "clips.png")):
        console.print(f"{label:<8} {folder / name}", soft_wrap=True)
    methods, columns = evaluation.named("estimate", "baseline"), evaluation.brief()
    partial = bool(evaluation.scored)
    places = [(level, method) for level in evaluation.levels for method in methods]
    cells = {
        column.heading: [
            column.measure.text(evaluation.figure(column, m, level=level), interval=partial) for level, m in places
        ]
        for column in columns
    }
    cells = {heading: texts for heading, texts in cells.items() if set(texts) != {NOTHING}}
    table = Table(title=f"{evaluation.about.get('clips', '')} held-out clips, missing frames".lstrip(), **COMPACT_STYLE)
    # headings are wrapped, names are folded in a narrow terminal, numbers are never cut
    widths = {heading: max(map(len, [*heading.split(), *texts])) for heading, texts in cells.items()}
    console.width = max(console.width, len("level") + NARROWEST_NAME + sum(widths.values()) + 2 * (len(widths) + 1))
    table.add_column("level", justify="right", width=len("level"))
    table.add_column("", overflow="fold", min_width=NARROWEST_NAME)
    for heading, width in widths.items():
        table.add_column(heading, justify="right", width=width)
    for place, (level, method) in enumerate(places):
        last = method == methods[-1]
        table.add_row(str(level), method, *(texts[place] for texts in cells.values()), end_section=last)
    console.print(f"\n{notes([c for c in columns if c.heading in cells])}", soft_wrap=True)
    if partial:
        console.print(f"- decoded: {evaluation.scored} only, intervals in brackets.\n")
    console.print(table)

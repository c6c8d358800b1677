"""The table of an evaluation on the terminal."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from interp_refiner.config import terminal
from interp_refiner.evaluation.report import NOTHING, shown
from interp_refiner.evaluation.results import Evaluation, figure

COMPACT: dict[str, tuple[str, str, dict[str, Any]]] = {  # heading: (records, figure, how it is written)
    "MSE": ("errors", "mse_ratio/{method}/{base}", {}),
    "better": ("errors", "mse_better/{method}/{base}", {"percent": True}),
    "PSNR": ("scores", "psnr/{method}", {"digits": 2}),
    "SSIM": ("scores", "ssim/{method}", {}),
    "Frechet": ("frechet", "frechet_ratio/{method}/{base}", {}),
    "boundary": ("realism", "boundary_motion/{method}", {"digits": 2}),
    "inside": ("realism", "inside_motion/{method}", {"digits": 2}),
    "worse": ("mazes", "worse/{method}/{base}", {"percent": True}),
    "edges in walls": ("mazes", "edge_collisions/{method}", {"percent": True, "digits": 1}),
    "paths in walls": ("mazes", "collision_rate/{method}", {"percent": True}),
    "length": ("mazes", "length_ratio/{method}", {"digits": 2}),
}
COMPACT_STYLE: dict[str, Any] = {"box": SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "collapse_padding": True}
NARROWEST_NAME = 12  # letters
SCORES = [heading for heading, (records, *_) in COMPACT.items() if records in ("scores", "frechet", "realism")]


def show(evaluation: Evaluation, folder: Path) -> None:
    """Prints estimates and baselines of every level, and where the rest is."""
    console = terminal()
    methods, base = evaluation.named("estimate", "baseline"), evaluation.baseline
    cells = {(level, m): compact_row(evaluation, level, m) for level in evaluation.levels for m in methods}
    measured = [heading for heading in COMPACT if any(row[heading] != NOTHING for row in cells.values())]
    table = Table(title=f"held-out clips; MSE and Frechet distance relative to {base}", **COMPACT_STYLE)
    # headings are wrapped, in a narrow terminal names are folded, figures never cut
    widths = {h: max(map(len, [*h.split(), *(row[h] for row in cells.values())])) for h in measured}
    console.width = max(console.width, len("level") + NARROWEST_NAME + sum(widths.values()) + 2 * (len(widths) + 1))
    table.add_column("level", justify="right", width=len("level"))
    table.add_column("", overflow="fold", min_width=NARROWEST_NAME)
    for heading, width in widths.items():
        table.add_column(heading, justify="right", width=width)
    for level in evaluation.levels:
        for method in methods:
            table.add_row(str(level), method, *(cells[level, method][heading] for heading in measured))
        table.add_section()
    console.print(table)
    if evaluation.scored:
        console.print(f"{', '.join(SCORES)}: {evaluation.scored} only, intervals in brackets\n", soft_wrap=True)
    if "boundary" in measured:
        console.print(
            "boundary, inside: energy of motion / truth's, next to keyframes and inside gaps\n", soft_wrap=True
        )
    for label, name in (("report", "evaluation.md"), ("figures", "evaluation.json"), ("clips", "clips.png")):
        console.print(f"{label:<8} {folder / name}", soft_wrap=True)


def compact_row(evaluation: Evaluation, level: int, method: str) -> dict[str, str]:
    """One method at one level, by heading; with intervals where scores are of a part of the clips only."""
    row, partial = {}, bool(evaluation.scored)
    for heading, (records, name, style) in COMPACT.items():
        names = name.format(method=method, base=evaluation.baseline)
        row[heading] = shown(
            figure(getattr(evaluation, records), names, level=level), interval=partial and heading in SCORES, **style
        )
    return row

"""The table of a forward process's measurements."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.table import Table
from tqdm import tqdm

from interp_refiner.config import option_name, run_metadata, save_config, terminal
from interp_refiner.core import Clip
from interp_refiner.data import EVALUATION_STREAM, ShardedDataModule
from interp_refiner.evaluation.diagnosis.diagnosis import Diagnosis, Row
from interp_refiner.evaluation.records.markdown import markdown_table
from interp_refiner.evaluation.records.plots import COLOURS, canvas_of, plain
from interp_refiner.forward.corruption import Corruption
from interp_refiner.forward.schedule import DynamicProgramming, Schedule


def clean_clips(data: ShardedDataModule, cfg: DictConfig, device: str) -> Iterator[Clip]:
    """Yields ``cfg.clips`` held-out clips, ``cfg.batch_size`` at a time, in float32 on ``device``."""
    num_levels = data.corruption.num_levels(data.spec.num_frames)
    for clip in data.validating(cfg.clips, cfg.batch_size * num_levels).val_dataloader():
        levels = clip.level.tolist() if clip.level is not None else []
        once = clip.select([row for row, level in enumerate(levels) if level == 1]).to(device)
        proposals = once.proposals.float() if once.proposals is not None else None
        yield replace(once, latents=once.latents.float(), proposals=proposals, level=None)


@torch.no_grad()
def measure(batches: Iterator[Clip], corruptions: dict[str, Corruption]) -> list[Row]:
    """The measurements of all clips, see :class:`Diagnosis`.

    If ``dp`` without a gap limit is among the schedules, the rows of the others contain their overlap with it. It is
    compared at equal numbers of keyframes, because equal levels may have different numbers.
    """
    diagnosis = Diagnosis()
    bound = next((name for name, c in corruptions.items() if is_bound(c.schedule)), None)
    # dp first, because the others are compared with it
    order = sorted(corruptions, key=lambda name: name != bound)
    for clip in tqdm(batches, desc="batches of clips"):
        best: dict[int, torch.Tensor] = {}  # by K
        for name in order:
            for level, count in enumerate(corruptions[name].schedule.counts_for(clip.num_frames)[1:], 1):
                levels = torch.full((clip.batch_size,), level, device=clip.latents.device)
                corrupted = corruptions[name](replace(clip, level=levels), EVALUATION_STREAM)
                if name == bound:
                    best[count] = corrupted.known
                diagnosis.update(name, level, corrupted, best.get(count))
    places = {name: place for place, name in enumerate(corruptions)}
    rows = [row | {"sees": corruptions[row["schedule"]].schedule.sees} for row in diagnosis.rows()]
    return sorted(rows, key=lambda row: (row["level"], places[row["schedule"]]))


def is_bound(schedule: Schedule) -> bool:
    """Whether a schedule's keyframes give the smallest possible interpolation error."""
    return isinstance(schedule, DynamicProgramming) and schedule.gap_ratio is None


HEADINGS = {
    "level": "level",
    "schedule": "schedule",
    "sees": "sees",
    "keyframes": "K",
    "mean_gap": "mean gap",
    "missing_gap": "gap of a missing frame",
    "largest_gap": "largest gap",
    "longest_gap": "of all clips",
    "corruption_rms": "RMS x - z0",
    "noise_rms": "RMS noise",
    "correction_rms": "RMS correction",
    "interpolation_mse": "interpolation MSE",
    "mse_ratio": "relative to the first [95%]",
    "overlap": "overlap with dp",
}
ON_TERMINAL = {  # in 80 columns
    "level": "",
    "schedule": "schedule",
    "keyframes": "K",
    "missing_gap": "gap",
    "largest_gap": "largest",
    "corruption_rms": "x - z0",
    "noise_rms": "noise",
    "correction_rms": "z0 - zbar",
    "interpolation_mse": "MSE",
    "overlap": "in dp",
}
DECIMALS = {"keyframes": 1, "mean_gap": 2, "missing_gap": 2, "largest_gap": 2, "overlap": 2, "interpolation_mse": 4}


def texts(rows: list[Row], names: Iterable[str]) -> list[list[str]]:
    """The columns ``names`` of a table, as text."""

    def text(name: str, value: str | float | int | dict[str, dict[str, float]] | None) -> str:
        if name == "mse_ratio":
            ratio = value.get(rows[0]["schedule"]) if isinstance(value, dict) else None
            return "{value:.3f} [{low:.3f}, {high:.3f}]".format(**ratio) if ratio else ""
        if value is None:
            return "-"
        return f"{value:.{DECIMALS.get(name, 3)}f}" if isinstance(value, float) else str(value)

    return [[text(name, row[name]) for name in names] for row in rows]


def measured(rows: list[Row], headings: dict[str, str]) -> dict[str, str]:
    """The headings without empty columns (the overlap, if there is no dp)."""
    return {name: heading for name, heading in headings.items() if any(row[name] is not None for row in rows)}


def write(rows: list[Row], corruptions: dict[str, Corruption], cfg: DictConfig) -> None:
    """Writes the table to the terminal, as Markdown and as JSON."""
    folder, first = Path(cfg.paths.output_dir), next(iter(corruptions.values()))
    save_config(cfg, folder)
    names = {group: option_name(group, cfg[group]) for group in ("interpolator", "corruption")}
    about = names | {"sigma": first.sigma} | {"data": str(cfg.data.root), "clips": rows[0]["clips"], "seed": cfg.seed}
    facts = ", ".join(f"{name} {value}" for name, value in about.items())
    about |= run_metadata()
    (folder / "diagnosis.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1, allow_nan=False) + "\n")
    columns = measured(rows, HEADINGS)
    table = markdown_table(list(columns.values()), texts(rows, columns))
    drawn(rows).savefig(folder / "diagnosis.png", dpi=120)
    picture = "![error, sizes and keyframes by level](diagnosis.png)"
    text = f"# Diagnosis\n\n{facts}, commit {about['git_commit']}\n\n`{about['command']}`\n\n{table}\n{picture}\n"
    (folder / "diagnosis.md").write_text(text)
    show(rows, facts, folder)


DRAWN = {  # panel: its measurements, with their labels
    "interpolation MSE, missing frames": {"interpolation_mse": ""},
    "RMS, latent standard deviations": {"correction_rms": "z0 - zbar", "noise_rms": "noise"},
    "frames": {"keyframes": "keyframes", "largest_gap": "largest gap"},
}


def drawn(rows: list[Row]) -> Figure:
    """Plots by level: error, size of correction and noise, keyframes and gaps; one colour per schedule."""
    canvas, panels = canvas_of(len(DRAWN), width=4.2)
    schedules = dict(zip(dict.fromkeys(row["schedule"] for row in rows), cycle(COLOURS), strict=False))
    for axes, (title, figures) in zip(panels, DRAWN.items(), strict=True):
        for schedule, colour in schedules.items():
            of = [row for row in rows if row["schedule"] == schedule]
            for (name, label), line in zip(figures.items(), ("-", "--"), strict=False):
                text = ", ".join(filter(None, [schedule, label]))
                axes.plot([r["level"] for r in of], [r[name] for r in of], line, marker="o", color=colour, label=text)
        plain(axes, "level", title)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize=8)
    return canvas


def show(rows: list[Row], facts: str, folder: Path) -> None:
    """Prints the table, and the path of the full results."""
    table = Table(title=facts, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    columns = measured(rows, ON_TERMINAL)
    for name, heading in columns.items():
        table.add_column(heading, justify="left" if name == "schedule" else "right")
    lines = texts(rows, columns)
    for line, after in zip(lines, [*lines[1:], None], strict=True):
        table.add_row(*line, end_section=after is not None and after[0] != line[0])
    console = terminal()
    console.print(table)
    console.print("gap: of a missing frame; largest: the largest gap of a clip; RMS and MSE: of missing frames\n")
    for label, name in (("table", "diagnosis.md"), ("figures", "diagnosis.json"), ("plot", "diagnosis.png")):
        console.print(f"{label:<8} {folder / name}", soft_wrap=True)

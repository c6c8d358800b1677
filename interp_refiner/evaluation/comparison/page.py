"""Writes a comparison as one self-contained HTML page, and as Markdown with pictures."""

import base64
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from interp_refiner.evaluation.comparison.clips import clips_of, sheet_of
from interp_refiner.evaluation.comparison.compare import Comparison
from interp_refiner.evaluation.comparison.plots import SQUARE, Plot, plots_of
from interp_refiner.evaluation.comparison.run_folder import RunFolder
from interp_refiner.evaluation.comparison.table import Column, columns_of, verdict_text
from interp_refiner.evaluation.records.markdown import markdown_table
from interp_refiner.training.checkpoint import write_whole
from interp_refiner.training.record import portable_command

HTML, MARKDOWN = "report.html", "report.md"
DASHES = {"-": "", "--": "7 4", "-.": "7 3 2 3", ":": "2 3"}
TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Headline:
    """A verdict as a sentence: the measure, the best run, its lead, and whether the intervals overlap."""

    title: str
    winner: str
    detail: str
    sure: bool

    @property
    def sentence(self) -> str:
        """The whole sentence."""
        return f"{self.title}: {self.winner}, {self.detail}"


def write_report(comparison: Comparison, folder: Path, title: str) -> dict[str, Path]:
    """Writes ``report.html``, ``report.md`` and the pictures that the latter shows.

    Args:
        comparison: of the runs.
        folder: created if missing; existing files of these names are replaced.
        title: of the report.

    Returns:
        The two files by kind, ``html`` and ``markdown``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots, columns = plots_of(comparison), columns_of(comparison)
    about = {"title": title, "facts": facts(comparison.runs), "headlines": headlines(comparison), "columns": columns}
    for name, text in {
        HTML: html_page(comparison, about, plots),
        MARKDOWN: markdown_page(comparison, about, plots, folder),
    }.items():
        with write_whole(folder / name) as file:
            file.write(text.encode())
    return {"html": folder / HTML, "markdown": folder / MARKDOWN}


def facts(runs: Sequence[RunFolder]) -> dict[str, str]:
    """Command, commit, status and so on of every run, by name, without paths of this machine."""
    counted = Counter(run.record.status for run in runs)
    status = ", ".join(f"{count} {name}" for name, count in counted.most_common())
    count = f"{len(runs)} runs: {status}" if len(runs) > 1 else f"1 run, {runs[0].record.status}"
    commits = {
        f"{run.record.git_commit[:7]}{' with changes' * bool(run.record.git_dirty)}"
        for run in runs
        if run.record.git_commit
    }
    clips = {f"{run.evaluation.about['clips']}" for run in runs if run.evaluation and "clips" in run.evaluation.about}
    found = {
        "runs": count,
        "experiment": ", ".join(dict.fromkeys(run.record.experiment for run in runs if run.record.experiment)),
        "held-out clips": ", ".join(sorted(clips)) + (" (not the same for all runs)" if len(clips) > 1 else ""),
        "seed": ", ".join(dict.fromkeys(str(run.value("seed")) for run in runs if run.value("seed") is not None)),
        "commit": ", ".join(sorted(commits)),
        "device": ", ".join(dict.fromkeys(run.record.device for run in runs if run.record.device)),
        "command": "\n".join(dict.fromkeys(portable_command(run.record.command) for run in runs if run.record.command)),
    }
    return {name: value for name, value in found.items() if value}


def headlines(comparison: Comparison) -> list[Headline]:
    """The verdicts at the sparsest level."""
    if not comparison.levels:
        return []
    level = comparison.levels[-1]
    found = [verdict for one in comparison.leads if (verdict := comparison.verdict(one, level)) is not None]
    return [
        Headline(
            f"{v.column.measure.superlative} {v.column.heading} at level {level}",
            "no winner" if v.tied else v.best.label,
            f"{v.best.label} has {verdict_text(v)}" if v.tied else verdict_text(v),
            v.overlap is False,
        )
        for v in found
    ]


def html_page(comparison: Comparison, about: dict[str, Any], plots: Sequence[Plot]) -> str:
    """The HTML page; all text from runs is escaped."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    shown = [(plot, [_svg_uri(figure) for figure in plot.figures()], plot_legend(plot)) for plot in plots]
    clips = [(run, label, clips_of(run)) for run, label in _labelled(comparison)]
    return environment.get_template(TEMPLATE).render(
        **about, rows=comparison.rows, groups=column_groups(about["columns"]), plots=shown, clips=clips
    )


def plot_legend(plot: Plot) -> list[dict[str, Any]]:
    """Names, colours and dashes of the legend; empty if there is only one name."""
    entries = [
        {"label": label, "colour": colour, "dash": DASHES.get(line, ""), "square": line == SQUARE}
        for label, colour, line in plot.legend()
    ]
    return entries if len(entries) > 1 else []


def column_groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """The headings above groups of neighbouring columns, with the number of columns of each."""
    groups: list[tuple[str, int]] = []
    for column in columns:
        if groups and groups[-1][0] == column.group:
            groups[-1] = (column.group, groups[-1][1] + 1)
        else:
            groups.append((column.group, 1))
    return groups


def markdown_page(comparison: Comparison, about: dict[str, Any], plots: Sequence[Plot], folder: Path) -> str:
    """The Markdown page; also writes its pictures."""
    headings = [f"{column.group}, {column.heading}" if column.group else column.heading for column in about["columns"]]
    rows = zip(*([markdown_text(str(cell)) for cell in column.cells] for column in about["columns"]), strict=True)
    parts = [f"# {markdown_text(about['title'])}\n"]
    parts += [f"- {markdown_text(headline.sentence)}\n" for headline in about["headlines"]]
    numbers = [any(cell.number for cell in column.cells) for column in about["columns"]]
    parts += [f"\n{markdown_table([markdown_text(heading) for heading in headings], rows, numbers)}"]
    parts += (
        ["\nBold: the best of a column, if its 95% interval (in parentheses) does not overlap with the others'.\n"]
        if about["headlines"]
        else []
    )
    for plot in plots:
        plot.figure().savefig(folder / f"{plot.name}.png", dpi=110)
        parts.append(f"\n## {markdown_text(plot.title)}\n\n{plot.caption}\n\n![{plot.title}]({plot.name}.png)\n")
    sheets = {label: (run, sheet) for run, label in _labelled(comparison) if (sheet := sheet_of(run)) is not None}
    parts += ["\n## Clips\n\nBest, median and worst held-out clip of every run; `report.html` plays them.\n"] * bool(
        sheets
    )
    for label, (run, sheet) in sheets.items():
        name = f"clips_{re.sub(r'[^A-Za-z0-9.-]+', '_', run.name)}.png"
        sheet.save(folder / name, optimize=True)
        parts.append(f"\n### {markdown_text(label)}\n\n![{markdown_text(label)}]({name})\n")
    parts.append("\n## What was run\n\n")
    told = [[name, "<br>".join(f"`{line}`" for line in value.splitlines())] for name, value in about["facts"].items()]
    parts.append(markdown_table(["", ""], [[name, value.replace("|", "\\|")] for name, value in told], [False, False]))
    return "".join(parts)


def markdown_text(text: str) -> str:
    """Text escaped for Markdown and HTML; the bold of best cells stays."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def _labelled(comparison: Comparison) -> list[tuple[RunFolder, str]]:
    labels = {row.run.name: comparison.label(row.run) for row in comparison.rows}
    return [(run, labels[run.name]) for run in comparison.runs]


def _svg_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"

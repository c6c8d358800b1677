"""Writes an evaluation as Markdown tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from interp_refiner.core import Interval, Measure
from interp_refiner.evaluation.records.records import Column, Evaluation


def markdown_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[bool] | None = None
) -> str:
    """A Markdown table; columns of ``numbers`` (by default all but the first) are right-aligned."""
    right = numbers or [False, *[True] * (len(headings) - 1)]
    lines = [headings, ["---:" if aligned else "---" for aligned in right], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def figure_table(head: str, rows: Iterable[tuple[str, Mapping[str, Any]]], measures: Sequence[Measure]) -> str:
    """A Markdown table of named figures: one row per name, one column per measure.

    Args:
        head: the heading of the names.
        rows: names with their figures, see :func:`cell`.
        measures: the figures to show.
    """
    lines = [[name, *(cell(measure, figures) for measure in measures)] for name, figures in rows]
    return markdown_table([head, *(measure.heading for measure in measures)], lines)


def cell(measure: Measure, figures: Mapping[str, Any]) -> str:
    """A measure among named figures: a number, the two ends of an interval, or a dash for None."""
    found = figures[measure.name]
    return "-".join(map(measure.number, found)) if isinstance(found, list) else measure.text(found)


def level_table(evaluation: Evaluation, level: int, columns: Sequence[Column]) -> str:
    """The table of all methods with values at a level; empty without values.

    Values that are measured on a part of the clips are shown with intervals, because with few clips a difference may
    have the wrong sign.
    """
    here = [r for r in evaluation.records if r.level == level and r.gap is None]
    figures = {(r.measure, r.against, r.method): Interval(r.value, r.low, r.high) for r in here}
    columns = [column for column in columns if any(key[:2] == column.key for key in figures)]
    if not columns:
        return ""
    shown = {column.key for column in columns}
    measured = {method for name, against, method in figures if (name, against) in shown}
    methods = [m for m in dict.fromkeys([*evaluation.methods, *(r.method for r in here)]) if m in measured]
    told = {c: c.told or bool(evaluation.scored) for c in columns}
    rows = [[m, *(c.measure.text(figures.get((*c.key, m)), told[c]) for c in columns)] for m in methods]
    counts = {
        c.heading: max((r.clips or 0 for r in here if (r.measure, r.against) == c.key), default=0) for c in columns
    }
    return f"{markdown_table(['', *counts], rows)}{counted(counts)}"


def counted(counts: Mapping[str, int]) -> str:
    """The number of clips behind a table's values, by column if it differs."""
    numbers = sorted(set(counts.values()) - {0})
    if len(numbers) == 1:
        return f"\n{numbers[0]} clips.\n"
    named = {n: ", ".join(heading for heading, count in counts.items() if count == n) for n in numbers}
    return "".join(f"\n{n} clips: {headings}.\n" for n, headings in named.items())


def gap_table(evaluation: Evaluation, column: Column) -> str:
    """One column by the gap between keyframes, over all levels."""
    found = {m: [evaluation.figure(column, m, gap=gap) for gap in evaluation.gaps] for m in evaluation.methods}
    measured = {m: figures for m, figures in found.items() if any(figure is not None for figure in figures)}
    if not measured:
        return ""
    gaps = [str(gap) if gap > 0 else "outside the keyframes" for gap in evaluation.gaps]
    rows = [
        [gap, *map(column.measure.text, row)]
        for gap, row in zip(gaps, zip(*measured.values(), strict=True), strict=True)
    ]
    return markdown_table(["gap", *measured], rows)


def markdown_report(evaluation: Evaluation, plots: Sequence[str] = ()) -> str:
    """The whole evaluation: its description, one table per level and section, then gaps and notes.

    Args:
        evaluation: the results; empty tables are left out.
        plots: file names of pictures to show at the end.
    """
    about = markdown_table(["", ""], [[name, _inline(value)] for name, value in evaluation.about.items()])
    sections = [("Evaluation", about)]
    for level in evaluation.levels:
        for section in evaluation.sections:
            columns = [column for column in evaluation.columns if column.measure.section == section]
            sections.append((f"Level {level}: {section}", level_table(evaluation, level, columns)))
    sections += [(f"{column.heading} by gap", gap_table(evaluation, column)) for column in evaluation.brief()]
    sections.append(("Notes", notes(evaluation.columns)))
    shown = [(title, body) for title, body in sections if body]
    text = "\n".join(f"{'#' if i == 0 else '##'} {title}\n\n{body}" for i, (title, body) in enumerate(shown))
    return text + "".join(f"\n![{name}]({name})\n" for name in plots)


def brief_report(evaluation: Evaluation) -> str:
    """The most important columns, by level."""
    tables = {level: level_table(evaluation, level, evaluation.brief()) for level in evaluation.levels}
    return "\n".join(f"Level {level}:\n\n{table}" for level, table in tables.items())


def notes(columns: Sequence[Column]) -> str:
    """Notes that explain these columns, as a list."""
    return "".join(f"- {note}.\n" for note in dict.fromkeys(c.measure.note for c in columns) if note)


def _inline(value: Any) -> str:
    return f"`{value}`".replace("|", "\\|")

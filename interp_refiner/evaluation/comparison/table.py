"""The table of a comparison: settings and results of every run."""

from dataclasses import dataclass
from typing import Any

from interp_refiner.core import NOTHING, Interval, Measure
from interp_refiner.evaluation.comparison.compare import Comparison, Row, Verdict
from interp_refiner.evaluation.records import records

SPEED = Measure("samples_per_second", "samples/s", "higher", digits=1)


@dataclass(frozen=True)
class Cell:
    """One entry.

    Attributes:
        text: the displayed text.
        interval: ``0.771..0.808``, if there is one.
        mark: ``best``, ``near`` (not distinguishable from the best on these clips), or nothing.
        number: whether it is a number.
    """

    text: str
    interval: str = ""
    mark: str = ""
    number: bool = True

    def __str__(self) -> str:
        text = f"{self.text} ({self.interval})" if self.interval else self.text
        return f"**{text}**" if self.mark == "best" else text


@dataclass(frozen=True)
class Column:
    """A heading, the heading of its group, and one cell per row."""

    heading: str
    group: str
    cells: list[Cell]


def columns_of(comparison: Comparison) -> list[Column]:
    """Names, swept keys, status, the first lead at every level, others at the sparsest, throughput; none empty."""
    rows, levels = comparison.rows, comparison.levels
    columns = [_words("run", [row.run.name for row in rows])]
    columns += [_words(key, [_value(row.run.value(key)) for row in rows]) for key in comparison.swept]
    if len({row.method for row in rows} - {None}) > 1:
        columns.append(_words("sampler", [row.method or NOTHING for row in rows]))
    columns.append(_words("status", [row.run.status for row in rows]))
    first = comparison.leads[:1]
    columns += [_figures(comparison, one, level, f"level {level}", one.heading) for one in first for level in levels]
    for one in comparison.columns if levels else ():
        column = _figures(comparison, one, levels[-1], one.heading, f"level {levels[-1]}")
        if one not in first and any(cell.text != NOTHING for cell in column.cells):
            columns.append(column)
    columns.append(_words("steps", [f"{row.run.steps:,}" if row.run.steps else NOTHING for row in rows], number=True))
    columns.append(_words("samples/s", [SPEED.text(row.run.samples_per_second) for row in rows], number=True))
    return columns


def _words(heading: str, texts: list[str], number: bool = False) -> Column:
    return Column(heading, "", [Cell(text, number=number) for text in texts])


def _figures(comparison: Comparison, column: records.Column, level: int, heading: str, group: str) -> Column:
    verdict = comparison.verdict(column, level)
    return Column(heading, group, [_figure(row, column, level, verdict) for row in comparison.rows])


def _figure(row: Row, column: records.Column, level: int, verdict: Verdict | None) -> Cell:
    found = row.figure(column, level)
    if found is None or verdict is None:
        return Cell(NOTHING)
    alone = row is verdict.best and verdict.compared > 1 and not verdict.tied
    mark = "best" if alone else "near" if row in verdict.tied else ""
    return Cell(column.measure.text(found, interval=False), interval_text(found, column.measure), mark)


def interval_text(found: Interval, measure: Measure) -> str:
    """``0.771..0.808``, or nothing without an interval."""
    unit = "%" if measure.percent else ""
    return f"{measure.number(found.low)}{unit}..{measure.number(found.high)}{unit}" if found.bounded else ""


def _value(value: Any) -> str:
    return NOTHING if value is None else str(value)


def verdict_text(verdict: Verdict) -> str:
    """The best value, its lead, and whether the intervals overlap."""
    measure, value, second = verdict.column.measure, verdict.value, verdict.second_value
    text = f"{measure.text(value)}."
    if verdict.second is None or second is None or verdict.margin is None:
        return f"{text} No other run here has this figure."
    share = f" ({verdict.margin / abs(second.value):.1%})" if second.value else ""
    margin = f"{measure.text(verdict.margin)}{share}"
    text += f" That is {margin} ahead of the next, {verdict.second.label}, with {measure.text(second)}."
    if verdict.overlap is None:
        return f"{text} At least one of them has no interval; evaluate both to get intervals."
    if not verdict.overlap:
        return f"{text} Their intervals do not overlap, so the difference is not chance on these clips."
    others = verdict.compared - 1
    near = f" (as do those of {len(verdict.overlapping)} of the {others} others in all)" if others > 1 else ""
    return f"{text} Their intervals overlap{near}, so these clips do not separate them."

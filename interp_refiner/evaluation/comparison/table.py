"""The table of a comparison: what every run was, and what came out of it."""

import math
from dataclasses import dataclass
from typing import Any

from interp_refiner.evaluation.comparison.compare import Comparison, Row, Verdict, overlap
from interp_refiner.evaluation.comparison.measures import AT_KEYFRAMES, FRECHET, IMPROVED, IN_GAPS, MSE, Measure
from interp_refiner.evaluation.measures import Interval
from interp_refiner.evaluation.report import NOTHING, shown

AT_THE_SPARSEST = (IMPROVED, FRECHET, AT_KEYFRAMES, IN_GAPS)


@dataclass(frozen=True)
class Cell:
    """One entry.

    Attributes:
        text: the figure or the words.
        interval: ``0.771..0.808`` where it has one.
        mark: ``best``, ``near`` (its interval overlaps with the best one's), or nothing.
        number: whether it is a figure.
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
    """A heading, what it stands under, and one cell a row."""

    heading: str
    group: str
    cells: list[Cell]


def columns_of(comparison: Comparison) -> list[Column]:
    """Names, swept keys, status, errors at every level, the rest at the sparsest, throughput; none that is empty."""
    rows, levels = comparison.rows, comparison.levels
    columns = [_words("run", [row.run.name for row in rows])]
    columns += [_words(key, [_value(row.run.value(key)) for row in rows]) for key in comparison.swept]
    if len({row.method for row in rows} - {None}) > 1:
        columns.append(_words("sampler", [row.method or NOTHING for row in rows]))
    columns.append(_words("status", [row.run.status for row in rows]))
    columns += [_figures(comparison, MSE, level, f"level {level}", _label(comparison, MSE)) for level in levels]
    for measure in AT_THE_SPARSEST if levels else ():
        column = _figures(comparison, measure, levels[-1], _label(comparison, measure), f"level {levels[-1]}")
        if any(cell.text != NOTHING for cell in column.cells):
            columns.append(column)
    columns.append(_words("steps", [f"{row.run.steps:,}" if row.run.steps else NOTHING for row in rows], number=True))
    columns.append(_words("samples/s", [shown(row.run.samples_per_second, digits=1) for row in rows], number=True))
    return columns


def _label(comparison: Comparison, measure: Measure) -> str:
    return measure.label.format(base=comparison.base)


def _words(heading: str, texts: list[str], number: bool = False) -> Column:
    return Column(heading, "", [Cell(text, number=number) for text in texts])


def _figures(comparison: Comparison, measure: Measure, level: int, heading: str, group: str) -> Column:
    verdict = comparison.verdict(measure, level)
    return Column(heading, group, [_figure(row, measure, level, verdict) for row in comparison.rows])


def _figure(row: Row, measure: Measure, level: int, verdict: Verdict | None) -> Cell:
    found = row.figure(measure, level)
    if found is None or verdict is None:
        return Cell(NOTHING)
    near = verdict.compared > 1 and overlap(found, verdict.value)
    mark = "best" if row is verdict.best and verdict.compared > 1 else "near" if near else ""
    text = shown(found, measure.digits, measure.percent, interval=False)
    return Cell(text, interval_text(found, measure), mark)


def interval_text(found: Interval, measure: Measure) -> str:
    """``0.771..0.808``, or nothing for a figure without an interval."""
    if math.isnan(found.low) or math.isnan(found.high):
        return ""
    low, high = (shown(bound, measure.digits, measure.percent) for bound in (found.low, found.high))
    return f"{low}..{high}"


def _value(value: Any) -> str:
    return NOTHING if value is None else str(value)


def verdict_text(verdict: Verdict) -> str:
    """The best figure, by how much it is ahead, and whether that is sure."""
    measure, value, second = verdict.measure, verdict.value, verdict.second_value
    text = f"{_with_interval(value, measure)}."
    if verdict.second is None or second is None or verdict.margin is None:
        return f"{text} There is no other run to compare it with."
    share = f" ({verdict.margin / abs(second.value):.1%})" if second.value else ""
    margin = f"{shown(verdict.margin, measure.digits, measure.percent)}{share}"
    text += f" That is {margin} ahead of the next, {verdict.second.label}, with {_with_interval(second, measure)}."
    if verdict.overlap is None:
        return f"{text} Not both have an interval: evaluate them to know how sure that is."
    if not verdict.overlap:
        return f"{text} Their intervals do not overlap: the lead is more than chance among these clips."
    others = verdict.compared - 1
    near = f" (as do those of {len(verdict.overlapping)} of the {others} others in all)" if others > 1 else ""
    return f"{text} Their intervals overlap{near}: these clips do not tell them apart."


def _with_interval(found: Interval, measure: Measure) -> str:
    interval = interval_text(found, measure)
    text = shown(found, measure.digits, measure.percent, interval=False)
    return f"{text} ({interval})" if interval else text

"""Finds the best of several runs, its lead, and whether intervals overlap."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from interp_refiner.core import BadValue, Interval
from interp_refiner.evaluation.comparison.run_folder import SIGMA, RunFolder
from interp_refiner.evaluation.records import REFINED, Column

BASELINE = "linear"  # of figures from validation, whose base is the run's own interpolation
TELLING = 3  # keys that a run may be called after
PLACES = ("hydra", "paths", "ckpt_path", "resume", "logger", "callback", "evaluation")  # where and how, not what


@dataclass(frozen=True)
class Row:
    """One estimate (sampler) of a run.

    Attributes:
        run: the run.
        method: the estimate of its evaluation; None where there is none yet.
        label: distinguishes it from the others, ``dist, sigma=0.3``.
        series: the same without the value of ``against``.
        x: the value of ``against``, where it is a number.
    """

    run: RunFolder
    method: str | None
    label: str
    series: str
    x: float | None = None

    def figure(self, column: Column, level: int) -> Interval | None:
        """The figure at a level: of the evaluation, else of the last validation where the two mean the same."""
        found = self.run.figures.figure(column, self.method or REFINED, level=level)
        return found if found is not None and math.isfinite(found.value) else None


@dataclass(frozen=True)
class Verdict:
    """The best row in one column at one level.

    Attributes:
        column, level: by what.
        best, value: the row and its figure.
        second, second_value: the next best of another run; None where there is no other.
        overlapping: the other rows whose intervals overlap with the best one's.
        compared: rows with a figure, the best among them.
    """

    column: Column
    level: int
    best: Row
    value: Interval
    second: Row | None = None
    second_value: Interval | None = None
    overlapping: list[Row] = field(default_factory=list)
    compared: int = 1

    @property
    def overlap(self) -> bool | None:
        """Whether the intervals of the two best overlap; None where one of them has none."""
        return None if self.second_value is None else overlap(self.value, self.second_value)

    @property
    def tied(self) -> list[Row]:
        """The rows whose intervals overlap with the best one's, best figure first; empty if none does."""
        return [self.best, *self.overlapping] if self.overlapping else []

    @property
    def margin(self) -> float | None:
        """By how much the two best differ."""
        return None if self.second_value is None else abs(self.second_value.value - self.value.value)


def overlap(a: Interval, b: Interval) -> bool | None:
    """Whether two intervals have a point in common; None where one of the figures has no interval."""
    if not (a.bounded and b.bounded):
        return None
    return a.low <= b.high and b.low <= a.high


class Comparison:
    """Runs, the settings in which they differ, and their figures.

    Args:
        runs: in the order to be shown.
        against: the key that figures are plotted against; None for ``corruption.sigma`` where the runs differ in it,
            else the first key of the method of which every value is a number.

    Raises:
        BadValue: an ``against`` that the runs do not differ in.
    """

    def __init__(self, runs: Sequence[RunFolder], against: str | None = None):
        self.runs = list(runs)
        keys = dict.fromkeys(key for run in self.runs for key in run.overrides if key.split(".")[0] not in PLACES)
        self.swept = [key for key in keys if len({str(run.value(key)) for run in self.runs}) > 1]
        if against is not None and against not in self.swept:
            allowed = f"a key in which the runs differ: {' | '.join(self.swept) or 'there is none'}"
            raise BadValue("against", against, allowed, self.swept)
        of_method = [key for key in self.swept if not key.startswith("trainer.")]
        numeric = [key for key in of_method if all(_number(run.value(key)) is not None for run in self.runs)]
        self.against = against or (SIGMA if SIGMA in numeric else next(iter(numeric), None))

    @cached_property
    def rows(self) -> list[Row]:
        """One a run and estimate; duplicates, whose figures are their twins', have one without."""
        return [row for run in self.runs for row in self._rows_of(run)]

    def _rows_of(self, run: RunFolder) -> list[Row]:
        methods = run.evaluation.named("estimate") if run.evaluation is not None else []
        x = _number(run.value(self.against)) if self.against is not None else None
        others = [key for key in self.swept if key != self.against]
        label, series = self.label(run), self._named(run, others) or "all" if len(others) < TELLING else run.name
        if len(methods) <= 1:
            return [Row(run, next(iter(methods), None), label, series, x)]
        return [Row(run, method, f"{label} ({method})", f"{series} ({method})", x) for method in methods]

    def label(self, run: RunFolder) -> str:
        """Distinguishes a run from the others: its swept keys, or its name if those are too many or equal."""
        label = self._named(run, self.swept if len(self.swept) <= TELLING else [])
        originals = [other for other in self.runs if other.record.duplicate_of is None]
        twins = [other for other in originals if other is not run and self._named(other, self.swept) == label]
        return label if label and not twins else f"{label} ({run.name})" if label else run.name

    @staticmethod
    def _named(run: RunFolder, keys: Sequence[str]) -> str:
        named = [(key, run.value(key)) for key in keys]
        parts = [str(v) if key in run.choices else f"{leaf(key)}={v}" for key, v in named if v is not None]
        return ", ".join(parts)

    @cached_property
    def levels(self) -> list[int]:
        """The levels at which any row has a figure to be judged by, ascending."""
        found = {level for run in self.runs for level in run.figures.levels}
        return sorted(s for s in found if any(row.figure(c, s) is not None for c in self.leads for row in self.rows))

    @cached_property
    def columns(self) -> list[Column]:
        """What runs are compared in: the columns to show in short, of all of them."""
        found: dict[tuple[str, str | None], Column] = {}
        for run in self.runs:
            found = {column.key: column for column in run.figures.brief(self.base)} | found
        order = {name: place for run in self.runs for place, name in enumerate(m.name for m in run.figures.measures)}
        return sorted(found.values(), key=lambda column: order[column.measure.name])

    @property
    def leads(self) -> list[Column]:
        """The columns that rank runs first: error alone rewards blur, and realism alone rewards any video."""
        return [column for column in self.columns if column.measure.lead]

    def records(self) -> list[dict[str, Any]]:
        """Every figure as a flat record, one a row, measure and level, as pandas takes them.

        ``run``, the swept keys, ``status``, ``sampler``, ``measure``, ``level``, ``value``, ``low`` and ``high``.
        """
        return [
            {
                "run": row.run.name,
                **{key: row.run.value(key) for key in self.swept},
                "status": row.run.record.status,
                "sampler": row.method,
                "measure": column.heading,
                "level": level,
                **asdict(found),
            }
            for row in self.rows
            for column in self.columns
            for level in self.levels
            if (found := row.figure(column, level)) is not None
        ]

    @property
    def base(self) -> str:
        """The baseline of ratios."""
        return next((run.evaluation.baseline for run in self.runs if run.evaluation is not None), BASELINE)

    def verdict(self, column: Column, level: int) -> Verdict | None:
        """The best row at a level; None where none has the figure."""
        found = [(row, figure) for row in self.rows if (figure := row.figure(column, level)) is not None]
        if not found:
            return None
        found.sort(key=lambda pair: column.measure.cost(pair[1].value))
        best, value = found[0]
        others = [(row, figure) for row, figure in found[1:] if row.run is not best.run]
        second, second_value = others[0] if others else (None, None)
        near = [row for row, figure in others if overlap(value, figure)]
        return Verdict(column, level, best, value, second, second_value, near, compared=1 + len(others))


def leaf(key: str) -> str:
    """``sigma`` for ``corruption.sigma``."""
    return key.rpartition(".")[2]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

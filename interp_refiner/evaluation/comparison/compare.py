"""Finds the best of several runs, its lead, and whether intervals overlap."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from interp_refiner.core import BadValue, Interval
from interp_refiner.evaluation.comparison.run_folder import SIGMA, RunFolder
from interp_refiner.evaluation.records.records import REFINED, Column

BASELINE = "linear"  # for results from validation, whose base is the run's own interpolation
TELLING = 3  # largest number of keys in a run's label
# keys that say where and how a job runs, not what it computes
PLACES = ("hydra", "paths", "ckpt_path", "resume", "logger", "callback", "evaluation")


@dataclass(frozen=True)
class Row:
    """One estimate (sampler) of a run.

    Attributes:
        run: the run.
        method: the estimate in its evaluation; None if there is none yet.
        label: distinguishes it from the others, for example ``dist, sigma=0.3``.
        series: the label without the value of ``against``.
        x: the value of ``against``, if it is a number.
    """

    run: RunFolder
    method: str | None
    label: str
    series: str
    x: float | None = None

    def figure(self, column: Column, level: int) -> Interval | None:
        """The value at a level: from the evaluation, else from the last validation if it has the same meaning."""
        found = self.run.figures.figure(column, self.method or REFINED, level=level)
        return found if found is not None and math.isfinite(found.value) else None


@dataclass(frozen=True)
class Verdict:
    """The best row in one column at one level.

    Attributes:
        column, level: what is compared.
        best, value: the best row and its value.
        second, second_value: the next best row of another run; None if there is no other run.
        overlapping: the other rows whose intervals overlap with the best one's.
        compared: number of rows with a value, including the best.
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
        """Whether the intervals of the two best overlap; None if one of them has no interval."""
        return None if self.second_value is None else overlap(self.value, self.second_value)

    @property
    def tied(self) -> list[Row]:
        """The rows whose intervals overlap with the best one's, best figure first; empty if none does."""
        return [self.best, *self.overlapping] if self.overlapping else []

    @property
    def margin(self) -> float | None:
        """The difference between the two best."""
        return None if self.second_value is None else abs(self.second_value.value - self.value.value)


def overlap(a: Interval, b: Interval) -> bool | None:
    """Whether two intervals have a point in common; None if one value has no interval."""
    if not (a.bounded and b.bounded):
        return None
    return a.low <= b.high and b.low <= a.high


class Comparison:
    """Runs, the settings in which they differ, and their results.

    Args:
        runs: in display order.
        against: the key on the plots' x axis; None for ``corruption.sigma`` if the runs differ in it, else the first
            differing key whose values are all numbers.

    Raises:
        BadValue: the runs do not differ in ``against``.
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
        """One row per run and estimate; a duplicate, whose results are its twin's, has one row without results."""
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
        """The levels at which any row has a value to compare, ascending."""
        found = {level for run in self.runs for level in run.figures.levels}
        return sorted(s for s in found if any(row.figure(c, s) is not None for c in self.leads for row in self.rows))

    @cached_property
    def columns(self) -> list[Column]:
        """The columns in which runs are compared: the short tables' columns of all runs."""
        found: dict[tuple[str, str | None], Column] = {}
        for run in self.runs:
            found = {column.key: column for column in run.figures.brief(self.base)} | found
        order = {name: place for run in self.runs for place, name in enumerate(m.name for m in run.figures.measures)}
        return sorted(found.values(), key=lambda column: order[column.measure.name])

    @property
    def leads(self) -> list[Column]:
        """The main columns for ranking: error and realism. Error alone rewards blur, realism alone any real video."""
        return [column for column in self.columns if column.measure.lead]

    def records(self) -> list[dict[str, Any]]:
        """All values as flat records for pandas, one per row, measure and level.

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
        """The best row at a level; None if no row has the value."""
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

"""The results of an evaluation as tidy records; tables, plots, pages and cards are queries on them."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from interp_refiner.core import BadValue, Interval, Measure, check_kinds, one_fault, read_stored
from interp_refiner.evaluation.measures import Record, Role, SquaredError
from interp_refiner.training.missing_frame import level_rows

FILE = "evaluation.json"
REFINED = "refined"  # the name of validation's estimate
DIGITS = 7  # significant ones of a figure in a file: those of float32


@dataclass(frozen=True)
class Column:
    """A measure, of one method or of two.

    Attributes:
        measure: the measure.
        against: the method that others are compared with; None for a value of one method.
    """

    measure: Measure
    against: str | None = None

    @property
    def key(self) -> tuple[str, str | None]:
        """The column's identity, independent of the heading, which may differ between versions."""
        return self.measure.name, self.against

    @property
    def told(self) -> bool:
        """Whether tables show its interval: for comparisons and ratios, not for plain values with units."""
        return self.measure.neutral is not None or self.against is not None

    @property
    def heading(self) -> str:
        """The displayed heading."""
        return self.measure.heading.replace("{against}", str(self.against))


@dataclass
class Evaluation:
    """Results of several methods on the same held-out clips.

    Attributes:
        about: description of the evaluation, displayed unchanged: checkpoint, data, clips, sampler, seed, commit,
            command.
        methods: name and role of every method, in display order: ``estimate`` for the refiner's clips, ``baseline`` for
            interpolations, ``control`` for clips of known quality.
        baseline: the default method that ratios are relative to.
        measures: measures of the records, in display order.
        records: the values; ``pandas.DataFrame(evaluation.records)`` is a tidy table.
    """

    about: dict[str, Any]
    methods: dict[str, Role]
    baseline: str = "linear"
    measures: list[Measure] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    @cached_property
    def _index(self) -> dict[tuple[Any, ...], Record]:
        return {(r.measure, r.method, r.against, r.level, r.gap, r.offset): r for r in self.records}

    def record(self, name: str, method: str, against: str | None = None, **at: int) -> Record | None:
        """The record with exactly these keys among ``level``, ``gap`` and ``offset``; None if there is none."""
        place = (at.get("level"), at.get("gap"), at.get("offset"))
        return self._index.get((name, method, against, *place))

    def figure(self, column: Column, method: str, **at: int) -> Interval | None:
        """The value of a method in a column."""
        found = self.record(column.measure.name, method, column.against, **at)
        return None if found is None else Interval(found.value, found.low, found.high)

    @property
    def scored(self) -> str:
        """``4 of 64 clips`` if only some of the clips were decoded; else empty."""
        decoded, clips = self.about.get("clips decoded"), self.about.get("clips")
        return f"{decoded} of {clips} clips" if decoded not in (None, clips) else ""

    @property
    def levels(self) -> list[int]:
        """The levels that have records, ascending."""
        return sorted({r.level for r in self.records if r.level is not None})

    @property
    def gaps(self) -> list[int]:
        """The gaps that have records over all levels, ascending; 0 means frames outside the outermost keyframes."""
        return sorted({r.gap for r in self.records if r.gap is not None and r.level is None and r.offset is None})

    @property
    def baselines(self) -> list[str]:
        """The methods that others are compared with: :attr:`baseline`, and the run's own interpolation if different."""
        return sorted(self.named("baseline"), key=lambda method: method != self.baseline)

    @cached_property
    def columns(self) -> list[Column]:
        """Every measure that has records, with each method that it is compared with; :attr:`baselines` first."""
        found = dict.fromkeys((r.measure, r.against) for r in self.records)
        order = dict.fromkeys([None, *self.baselines, *(against for _, against in found)])
        return [Column(m, against) for m in self.measures for against in order if (m.name, against) in found]

    def brief(self, base: str | None = None) -> list[Column]:
        """The columns for short tables, compared with ``base`` (None: :attr:`baseline`) and with estimates."""
        wanted = (None, base or self.baseline, *self.named("estimate"))
        return [column for column in self.columns if column.measure.brief and column.against in wanted]

    @property
    def sections(self) -> list[str]:
        """The sections of the columns, in order."""
        return list(dict.fromkeys(column.measure.section for column in self.columns))

    def named(self, *roles: Role) -> list[str]:
        """The methods with one of these roles."""
        return [name for name, role in self.methods.items() if role in roles]

    def save(self, path: Path) -> None:
        """Writes a JSON file with one line per record; numbers that are not finite become null."""
        head = {"about": self.about, "methods": self.methods, "baseline": self.baseline, "columns": Record._fields}
        head["measures"] = [changed(measure) for measure in self.measures]
        lines = ",\n".join(json.dumps(finite(rounded(record))) for record in self.records)
        text = json.dumps(finite(head), indent=1, allow_nan=False)
        path.write_text(f'{text[:-2]},\n "records": [\n{lines}\n ]\n}}\n')

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Reads a file of :meth:`save`; raises :class:`BadValue` for a damaged file, or one of an older version."""
        found = read_stored(FILE, path, dict)
        if "columns" not in found:
            raise BadValue(FILE, path, "results of this version; an older version wrote this file, so evaluate again")
        with one_fault(FILE, path, "the results of an evaluation"):
            names, rows = found.pop("columns"), found.pop("records")
            records = [Record(**dict(zip(names, row, strict=True))) for row in rows]
            numbers = [r._replace(value=number(r.value), low=number(r.low), high=number(r.high)) for r in records]
            measures = [Measure(**measure) for measure in found.pop("measures")]
            return check_kinds(cls(**found, measures=measures, records=numbers))


def of_validation(metrics: Mapping[str, float | None], base: str) -> Evaluation:
    """The results of a run's last validation, ``val/level_<s>/<figure>``, without intervals.

    Args:
        metrics: by name.
        base: name of the run's own interpolation, which ratios are relative to.
    """
    error, ratio, better, _ = SquaredError.measures[0].family
    names = {"refined_mse": (error, None), "ratio": (ratio, base), "improved_share": (better, base)}
    records = [
        Record(names[figure][0].name, REFINED, value, math.nan, math.nan, names[figure][1], level=int(group[6:]))
        for group, figures in level_rows(metrics).items()
        for figure, value in figures.items()
        if figure in names and group.startswith("level_") and value is not None
    ]
    return Evaluation({}, {REFINED: "estimate", base: "baseline"}, base, [error, ratio, better], records)


def evaluations_of(run: Path) -> list[Path]:
    """The ``evaluation.json`` files of a run, the newest last.

    They are in the run folder, at most two folders deep, or in the folder ``evaluate`` beside the folder ``train``
    (``logs/evaluate/runs/...``) if they name a checkpoint of the run.
    """
    run = run.resolve()
    inside = [path for depth in ("", "*/", "*/*/") for path in run.glob(depth + FILE)]
    logs = next((parent.parent for parent in run.parents if parent.name == "train"), None)
    beside = [] if logs is None else [path for path in (logs / "evaluate").rglob(FILE) if _is_about(path, run)]
    return sorted(inside + beside, key=lambda path: path.stat().st_mtime)


def newest_evaluation(run: Path) -> tuple[Evaluation, Path] | None:
    """The newest readable evaluation of a run, and its file."""
    for path in reversed(evaluations_of(run)):
        try:
            return Evaluation.load(path), path
        except BadValue:  # half written, damaged, or of an older version
            continue
    return None


def _is_about(path: Path, run: Path) -> bool:
    """Whether an evaluation names a checkpoint of this run; False for an unfinished file."""
    try:
        checkpoint = json.loads(path.read_text())["about"]["checkpoint"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return run in Path(str(checkpoint)).resolve().parents


def finite(value: Any) -> Any:
    """``value`` with every number that is not finite replaced by None, as JSON needs."""
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(value: float | None) -> float:
    """A number from a file; null becomes NaN."""
    return math.nan if value is None else value


def rounded(record: Record) -> Record:
    """The record rounded to the precision of float32."""
    value, low, high = (float(f"{x:.{DIGITS}g}") for x in (record.value, record.low, record.high))
    return record._replace(value=value, low=low, high=high)


def changed(measure: Measure) -> dict[str, Any]:
    """The attributes that differ from their defaults."""
    plain = asdict(Measure(measure.name, measure.heading))
    always = ("name", "heading")
    return {name: value for name, value in asdict(measure).items() if name in always or value != plain[name]}

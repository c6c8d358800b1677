"""What an evaluation found, as plain data: the input of tables and plots, and what ``evaluation.json`` holds."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from interp_refiner.evaluation.measures import Interval, Record

Role = Literal["estimate", "baseline", "control"]
FILE = "evaluation.json"


@dataclass
class Evaluation:
    """Figures of several methods on the same held-out clips: records of the metrics, empty where not measured.

    Attributes:
        about: what was evaluated and how, shown as it is: checkpoint, data, clips, sampler, seed, commit, command.
        methods: name and role of every method, in the order to be shown: ``estimate`` for what the refiner made,
            ``baseline`` for interpolations, ``control`` for clips of known quality.
        baseline: the method that ratios are relative to.
        errors: of ``ErrorTable.compute()``.
        scores: of ``ScoreTable.compute()``.
        realism: of ``Realism.compute()``.
        frechet: ``{"level": s, "values": FrechetDistance.compute()}``, one per level.
        stochastic: of ``StochasticScores.compute()``, by method.
        contract: ``{"level": s, "values": KeyframeContract.compute()}``, one per level, by method.
        mazes: of ``MazeScores.compute()``.
        chosen: of metrics that were asked for by name, such as ``vmaf``, by that name.
    """

    about: dict[str, Any]
    methods: dict[str, Role]
    baseline: str = "linear"
    errors: list[Record] = field(default_factory=list)
    scores: list[Record] = field(default_factory=list)
    realism: list[Record] = field(default_factory=list)
    frechet: list[Record] = field(default_factory=list)
    stochastic: dict[str, list[Record]] = field(default_factory=dict)
    contract: dict[str, list[Record]] = field(default_factory=dict)
    mazes: list[Record] = field(default_factory=list)
    chosen: dict[str, list[Record]] = field(default_factory=dict)

    @property
    def levels(self) -> list[int]:
        """The levels with any figure, ascending."""
        lists = [self.errors, self.realism, self.frechet, self.mazes]
        return sorted({record["level"] for records in lists for record in records if "level" in record})

    @property
    def scored(self) -> str:
        """``4 of 64 clips``, where scores are of a part of the clips only; else empty."""
        decoded, clips = self.about.get("clips decoded"), self.about.get("clips")
        return f"{decoded} of {clips} clips" if decoded not in (None, clips) else ""

    @property
    def gaps(self) -> list[int]:
        """The gaps with errors over all levels, ascending; 0 stands for frames outside the outermost keyframes."""
        return sorted(r["gap"] for r in self.errors if "gap" in r and "level" not in r and "offset" not in r)

    @property
    def baselines(self) -> list[str]:
        """What the others are compared with: :attr:`baseline`, then the run's own interpolation if it is another."""
        return sorted(self.named("baseline"), key=lambda method: method != self.baseline)

    def named(self, *roles: Role) -> list[str]:
        """The methods with one of these roles."""
        return [name for name, role in self.methods.items() if role in roles]

    def save(self, path: Path) -> None:
        """Writes a file, ``evaluation.json``; what is not a finite number becomes null."""
        path.write_text(json.dumps(finite(asdict(self)), indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """What :meth:`save` wrote."""
        return cls(**json.loads(path.read_text()))


def evaluations_of(run: Path) -> list[Path]:
    """The ``evaluation.json`` files about a run folder, the newest last.

    They lie in the run folder itself, at most two folders deep, or in the ``evaluate`` folder beside the ``train``
    folder that it lies in (``logs/evaluate/runs/...``), where they name one of its checkpoints.
    """
    run = run.resolve()
    inside = [path for depth in ("", "*/", "*/*/") for path in run.glob(depth + FILE)]
    logs = next((parent.parent for parent in run.parents if parent.name == "train"), None)
    beside = [] if logs is None else [path for path in (logs / "evaluate").rglob(FILE) if _is_about(path, run)]
    return sorted(inside + beside, key=lambda path: path.stat().st_mtime)


def _is_about(path: Path, run: Path) -> bool:
    """Whether an evaluation names a checkpoint of this run; a file that is being written names none."""
    try:
        checkpoint = json.loads(path.read_text())["about"]["checkpoint"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return run in Path(str(checkpoint)).resolve().parents


def figure(records: Sequence[Record], name: str, **keys: int) -> Interval | None:
    """The figure called ``name`` in the record with exactly these keys among ``level``, ``gap`` and ``offset``.

    None where there is no such figure; NaN stands for what is not a number.
    """
    for record in records:
        if {k: record[k] for k in ("level", "gap", "offset") if k in record} == keys and name in record["values"]:
            return Interval(**{k: math.nan if v is None else v for k, v in record["values"][name].items()})
    return None


def finite(value: Any) -> Any:
    """``value`` with every number that is not finite replaced by None, as JSON needs."""
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

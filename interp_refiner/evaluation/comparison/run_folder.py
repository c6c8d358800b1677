"""Reads the folder of a finished or unfinished run; missing or half-written files count as absent."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp_refiner.core import BadValue, of_kind, read_stored
from interp_refiner.evaluation.comparison.curves import Curves, read_curves
from interp_refiner.evaluation.records.records import Evaluation, newest_evaluation, of_validation
from interp_refiner.training.record import STATUS_FILE, RunRecord, read_record, twin_folder, without_folders

MARKS = ("config.yaml", STATUS_FILE, "summary.json", "checkpoints")  # a folder with one of these is a run folder
EXPECTED = "a run folder, or a folder with runs in it such as a multirun's"
STATED = ("experiment", "command", "git_commit", "git_dirty", "device", "steps", "samples_per_second")  # in a summary
SIGMA = "corruption.sigma"
DEEPEST = 3  # levels below a given folder: logs/train/multiruns/<date>_<time>/<job> covers all sweeps of a program


@dataclass(frozen=True)
class RunFolder:
    """One run.

    Attributes:
        path: its folder.
        name: short, unique among the runs that are read together.
        record: its record.
        config: resolved; for a run that failed at its start, as Hydra composed it.
        choices: the chosen option of every config group.
        curves: its logged scalars by name: steps and values.
        evaluation: its newest evaluation.
        evaluated_in: the folder of that evaluation, with its clips.
    """

    path: Path
    name: str
    record: RunRecord
    config: DictConfig = field(default_factory=lambda: OmegaConf.create({}))
    choices: dict[str, str] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    evaluation: Evaluation | None = None
    evaluated_in: Path | None = None

    @cached_property
    def overrides(self) -> dict[str, str]:
        """The job's overrides by key, without ``+`` and ``~``."""
        pairs = (item.lstrip("+~").partition("=") for item in self.record.overrides)
        return {key.partition("@")[0]: value for key, _, value in pairs}

    def value(self, key: str) -> Any:
        """The value of ``key`` in this run: the option of a group, else the resolved value, else the override."""
        if key in self.choices:
            return self.choices[key]
        if key == SIGMA and self.choices.get("corruption") == "none":
            return 0.0  # this corruption has no noise, so the swept sigma does not apply
        try:
            found = OmegaConf.select(self.config, key)
        except OmegaConfBaseException:
            found = None
        if OmegaConf.is_config(found):
            found = str(OmegaConf.to_container(found, resolve=False))
        return found if found is not None else self.overrides.get(key)

    @cached_property
    def figures(self) -> Evaluation:
        """The results of the evaluation, else of the last validation."""
        return self.evaluation or of_validation(self.record.metrics, self.choices.get("interpolator", "linear"))

    @property
    def steps(self) -> int:
        """Optimizer steps done; for a running run, from the last log entry (training numbers steps from 0)."""
        logged, _ = self.curves.get("train/loss", ([], []))
        return self.record.steps or (logged[-1] + 1 if logged else 0)

    @property
    def samples_per_second(self) -> float | None:
        """Training speed over the whole run; for a running run, from the last log entry."""
        _, logged = self.curves.get("samples_per_s", ([], []))
        return self.record.samples_per_second or (logged[-1] if logged else None)

    @property
    def status(self) -> str:
        """The displayed status: ``finished``, ``failed: <why>``, ``running: step 120 of 800``, ``duplicate of 0``."""
        record, name = self.record, self.record.status
        if record.duplicate_of is not None:
            return f"duplicate of {Path(record.duplicate_of).name}"
        if name == "running":
            limit = self.value("trainer.max_steps")
            end = f" of {limit}" if isinstance(limit, int) and limit > 0 else ""
            return f"running: step {self.steps}{end}"
        if not record.error or name == "finished":
            return name
        why = record.error.partition("; ")[0] if name == "interrupted" else record.error  # no hint on resuming
        return f"{name}: {without_folders(why)}"


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The run folders at or below the paths, numbered jobs in numerical order, each folder once.

    Raises:
        BadValue: no paths, no such folder, or no run in it.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise BadValue("runs", path, f"{EXPECTED}: no such folder")
        inside = _runs_below(path.resolve(), DEEPEST)
        if not inside:
            raise BadValue("runs", path, f"{EXPECTED}: there is none")
        found += inside
    if not found:
        raise BadValue("runs", "[]", EXPECTED)
    return list(dict.fromkeys(found))


def _runs_below(folder: Path, depth: int) -> list[Path]:
    if _is_run(folder):
        return [folder]
    if depth == 0:
        return []
    inside = sorted((path for path in folder.iterdir() if path.is_dir()), key=_natural)
    return [run for path in inside for run in _runs_below(path, depth - 1)]


def _is_run(folder: Path) -> bool:
    if any((folder / mark).exists() for mark in MARKS):
        return True
    return _hydra(folder, "job").get("name") == "train"  # failed at its start


def _natural(path: Path) -> list[Any]:
    """Sort key that puts ``job 9`` before ``job 10``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path.name) if part]


def read_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """Reads the folders, and gives them their shortest unique names."""
    depth = next(d for d in range(1, 99) if len({path.parts[-d:] for path in folders}) == len(folders))
    runs = [read_run(path, "/".join(path.parts[-depth:])) for path in folders]
    return [run if run.record.duplicate_of is None else _as_twin(run, folders) for run in runs]


def read_run(folder: Path, name: str | None = None) -> RunFolder:
    """Reads a folder; its name is the default name of the run."""
    config = _yaml(folder / "config.yaml") or _yaml(folder / ".hydra/config.yaml")
    choices = _hydra(folder, "runtime", "choices")
    evaluation, file = newest_evaluation(folder) or (None, None)
    return RunFolder(
        path=folder,
        name=name or folder.name,
        record=_record(folder),
        config=config,
        choices={str(group): str(option) for group, option in choices.items() if option is not None},
        curves=read_curves(folder),
        evaluation=evaluation,
        evaluated_in=file and file.parent,
    )


def _as_twin(run: RunFolder, folders: Sequence[Path]) -> RunFolder:
    """A duplicate with the results of its twin, unless the twin is also in the report."""
    folder = twin_folder(run.path, run.record)
    if folder in folders or not folder.is_dir():
        return run
    twin = read_run(folder)
    run.record.metrics, run.record.steps = twin.record.metrics, twin.steps
    run.record.samples_per_second = twin.samples_per_second
    return replace(run, curves=twin.curves, evaluation=twin.evaluation, evaluated_in=twin.evaluated_in)


def _record(folder: Path) -> RunRecord:
    """The run's record; for an old folder without one, reconstructed from its other files."""
    try:
        record = read_record(folder)
    except BadValue:
        record = None
    if record is not None:
        return record
    summary = _json(folder / "summary.json")
    overrides = cast(list[Any], OmegaConf.to_container(_yaml(folder / ".hydra/overrides.yaml", "[]")))
    kinds = get_type_hints(RunRecord)
    return RunRecord(
        identity="",
        status="finished" if summary else "interrupted",
        overrides=[str(item) for item in overrides],
        metrics={name: value for name, value in summary.items() if name.startswith("val/") and of_kind(value, float)},
        **{name: summary[name] for name in STATED if name in summary and of_kind(summary[name], kinds[name])},
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_stored("runs", path, dict)
    except BadValue:
        return {}


def _hydra(folder: Path, *keys: str) -> dict[str, Any]:
    """A mapping in Hydra's own settings of a run; empty if it is not there."""
    found: Any = OmegaConf.to_container(_yaml(folder / ".hydra/hydra.yaml"))
    for key in ("hydra", *keys):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _yaml(path: Path, empty: str = "{}") -> Any:
    default = OmegaConf.create(empty)
    try:
        return read_stored("runs", path, type(default), lambda content: OmegaConf.create(content.decode()))
    except BadValue:
        return default

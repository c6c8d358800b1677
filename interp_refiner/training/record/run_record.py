"""The record of a run, ``status.json`` in its folder.

It exists from the start of the run, also if the run fails, and is always written atomically:

    {"identity": "9f2c...", "status": "finished", "experiment": "gt_keyframes", "overrides": ["corruption=dist"], ...,
     "metrics": {"val/level_1/ratio": 0.81, ...}}

The folder also has ``config.yaml`` (resolved), the logger's files, ``summary.json`` after the run has finished, and
with ``evaluation=[...]`` results with intervals in ``evaluation/evaluation.json``.
"""

import json
import math
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from interp_refiner.core import from_stored, one_fault, read_stored
from interp_refiner.training.checkpoint import write_whole

STATUS_FILE = "status.json"
Status = Literal["running", "finished", "failed", "interrupted", "duplicate"]


@dataclass
class RunRecord:
    """One run.

    Attributes:
        identity: hash of its normalised resolved config; runs of one identity compute the same result.
        experiment: ``experiment_name``.
        status: ``running``; ``finished``; ``failed`` (``error`` says why); ``interrupted`` by a signal and resumable;
            ``duplicate`` of the run in ``duplicate_of``, so nothing was computed here.
        started, ended: ISO 8601 with the offset from UTC; ``ended`` is None while it runs.
        command: as typed.
        overrides: Hydra's overrides of this job, including the swept values in a sweep.
        settings: differences to the program's defaults, by dotted key.
        git_commit, git_dirty: of the checkout; None outside of one.
        versions: of Python and the packages that affect the results.
        device, hostname, world_size, pid: where it runs; ``pid`` is the process id of rank zero.
        job: the scheduler's job; None if no scheduler has started the processes.
        error: one line.
        duplicate_of: the other run's folder, relative to this one's.
        data: ``pattern`` (where the shards are), ``shards``, ``samples``.
        checkpoints: the weights that the run started from, by config key.
        steps: number of optimizer steps done.
        samples_per_second: of training, over all processes.
        peak_memory_gb: of rank zero: GPU memory if it has a GPU, else memory of the process.
        metrics: of the last validation, on all held-out clips: ``refined_mse``, ``interpolation_mse``, their ``ratio``
            and ``improved_share``, for every level (``val/level_<s>/``) and averaged (``val/mean/``).
    """

    identity: str
    experiment: str = ""
    status: Status = "running"
    started: str = ""
    ended: str | None = None
    command: str = ""
    overrides: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    git_commit: str | None = None
    git_dirty: bool | None = None
    versions: dict[str, str | None] = field(default_factory=dict)
    device: str = ""
    hostname: str = field(default_factory=platform.node)
    world_size: int = 1
    pid: int = field(default_factory=os.getpid)
    job: str | None = None
    error: str | None = None
    duplicate_of: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    checkpoints: dict[str, str] = field(default_factory=dict)
    steps: int = 0
    samples_per_second: float | None = None
    peak_memory_gb: float | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)


def write_record(folder: Path, record: RunRecord) -> None:
    """Writes ``status.json``; numbers that are not finite become null."""
    plain = asdict(record)
    plain["metrics"] = {k: v if v is not None and math.isfinite(v) else None for k, v in record.metrics.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with write_whole(folder / STATUS_FILE) as file:
        file.write(json.dumps(plain, indent=2).encode() + b"\n")


def read_record(folder: Path) -> RunRecord | None:
    """The record of a run folder; None if there is none.

    If a record says "running" on this machine but its process no longer exists, the run was killed; its status becomes
    ``interrupted``.

    Raises:
        BadValue: the file is not a record.
    """
    path = folder / STATUS_FILE
    if not path.exists():
        return None
    found = read_stored(STATUS_FILE, path, dict)
    with one_fault(STATUS_FILE, path, "the record of a run"):
        record = from_stored(RunRecord, found)
    if record.status == "running" and record.hostname == platform.node() and not _alive(record.pid):
        record.status, record.error = "interrupted", f"process {record.pid} ended without a report"
    return record


def twin_folder(folder: Path, record: RunRecord) -> Path:
    """The folder with a run's results: for a duplicate, the folder of the original run."""
    return (folder / record.duplicate_of).resolve() if record.duplicate_of is not None else folder


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process exists but belongs to another user
        return True
    return True

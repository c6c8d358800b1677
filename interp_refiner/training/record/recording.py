"""The life of a run: claimed by one process, recorded while it runs, entered in the log book when it ends."""

import copy
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import lightning as L
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from interp_refiner.config import build, run_metadata
from interp_refiner.config.launch import Program
from interp_refiner.config.nodes import walk
from interp_refiner.config.refusal import MISTAKES, later_process, locate, one_line, short_names
from interp_refiner.core import Stopped, forget_peak_memory, peak_memory
from interp_refiner.data import ShardedDataModule
from interp_refiner.training.callback import EXIT_INTERRUPTED, EXIT_PREEMPTED, Throughput
from interp_refiner.training.record import (
    STATUS_FILE,
    Claimed,
    LogBook,
    RunRecord,
    Status,
    claim,
    read_record,
    twin_folder,
    write_record,
)
from interp_refiner.training.record.portable import changed, identity

log = logging.getLogger(__name__)

WEIGHTS = ("checkpoint", "pretrained", "ckpt_path", "initial_weights")  # config keys of initial weights


@dataclass
class Recording:
    """Records a run. After :meth:`start`, it reads everything from the trainer.

    Attributes:
        folder: of the run.
        record: written there as ``status.json`` at the start and at the end, by rank zero.
        book: the log book that gets an entry when the run ends; None for no entry.
        writes: whether this process is rank zero.
    """

    folder: Path
    record: RunRecord
    book: LogBook | None = None
    writes: bool = True
    trainer: L.Trainer | None = field(default=None, repr=False)

    def start(self, trainer: L.Trainer, data: ShardedDataModule) -> None:
        """Call this just before training begins."""
        forget_peak_memory(trainer.strategy.root_device)
        self.trainer, self.record.world_size = trainer, trainer.world_size
        self.record.data = data.describe()
        self.write()

    def end(self, status: Status, error: str | None = None) -> None:
        """Call this when the run has ended; adds the entry to the log book, also if the run failed at its start."""
        self.record.status, self.record.error, self.record.ended = status, error, now()
        if self.trainer is not None:
            self._collect(self.trainer)
        try:  # a full disk must neither fail a finished run nor hide the error of a failed one
            self.write()
        except OSError as problem:
            log.warning("status.json could not be updated: %s", problem)
        if self.book is None or not self.writes:
            return
        try:
            log.info("log book: %s", self.book.enter(self.record, self.folder))
        except OSError as problem:
            log.warning("log book: no entry (%s)", problem)

    def write(self) -> None:
        """Writes the current ``status.json``."""
        if self.writes:
            write_record(self.folder, self.record)

    def _collect(self, trainer: L.Trainer) -> None:
        record, callbacks = self.record, trainer.callbacks  # type: ignore[attr-defined]
        throughput = next((c for c in callbacks if isinstance(c, Throughput)), None)
        record.steps, record.peak_memory_gb = trainer.global_step, peak_memory(trainer.strategy.root_device) / 1e9
        record.samples_per_second = (throughput and throughput.samples_per_second) or None
        figures = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        record.metrics = {name: float(value) for name, value in figures.items()}


@contextmanager
def recorded(cfg: DictConfig, program: Program) -> Iterator[Recording]:
    """Records the run in the ``with`` block; in a sweep, also claims its identity.

    If the folder already contains a run, its record is kept until training starts, because the command may be refused.

    Args:
        cfg: the run's config.
        program: the program that runs; the record lists the differences to its default config.

    Raises:
        Claimed: in a sweep, another run of the same identity is finished or running (``duplicates=run`` runs it again).
    """
    folder = Path(cfg.paths.output_dir)
    if later_process():
        follow(folder)
        yield Recording(folder, RunRecord(""), writes=False)
        return
    recording = Recording(folder, new_record(cfg, program), LogBook.at(cfg.log_book, dict(cfg.paths)))
    repeat = not sweeping() or cfg.duplicates == "run"
    resumes = not sweeping() and (folder / STATUS_FILE).exists()
    with claim(Path(cfg.paths.log_dir) / "claims", recording.record.identity, folder, repeat):
        if not resumes:
            recording.write()
        try:
            with short_names(cfg):
                yield recording
        except BaseException as error:
            status, reason = ending(error, cfg, recording.trainer)
            if recording.trainer is None and isinstance(error, MISTAKES):  # a mistake in the config: nothing has run
                recording.book = None
                if not sweeping():
                    if not resumes:  # an empty folder is removed
                        (folder / STATUS_FILE).unlink(missing_ok=True)
                    raise
            recording.end(status, reason)
            raise
        recording.end("finished")


def follow(folder: Path, patience: float = 600.0) -> None:
    """Makes all ranks but zero wait for rank zero's decision, in a sweep whose processes a scheduler started.

    Raises:
        Claimed: rank zero has found another run of the same identity.
        Stopped: rank zero has not begun within ``patience`` seconds.
    """
    job, deadline = scheduler_job(), time.monotonic() + patience
    if job is None or not sweeping():
        return
    while (record := read_record(folder)) is None or record.job != job:
        if time.monotonic() > deadline:
            raise Stopped(f"{folder}: the first process of the job has not begun after {patience:.0f} s")
        time.sleep(0.2)
    if record.status == "duplicate":
        raise Claimed(twin_folder(folder, record))


def scheduler_job() -> str | None:
    """The SLURM or torchrun job of this process (a restart gives a new one); None outside of both."""
    for scheduler, job in (("TORCHELASTIC", "RUN_ID"), ("SLURM", "JOB_ID")):
        if (name := os.environ.get(f"{scheduler}_{job}")) is not None:
            return f"{name}.{os.environ.get(f'{scheduler}_RESTART_COUNT', 0)}"
    return None


def sweeping() -> bool:
    """Whether this is a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def ending(error: BaseException, cfg: DictConfig, trainer: L.Trainer | None) -> tuple[Status, str]:
    """The status and the error message of a run that did not finish."""
    on_request = isinstance(error, Stopped) and error.exit_code in (EXIT_PREEMPTED, EXIT_INTERRUPTED)
    by_hand = isinstance(error, KeyboardInterrupt) or (trainer is not None and trainer.interrupted)
    expected = isinstance(error, (Stopped, *MISTAKES))
    reason = (
        str(locate(error, cfg)) if expected and isinstance(error, Exception) else f"{type(error).__name__}: {error}"
    )
    return "interrupted" if on_request or by_hand else "failed", one_line(reason)


def duplicate(cfg: DictConfig, program: Program, twin: Path) -> float | None:
    """Records a job as a duplicate of ``twin``, a finished or running run.

    Returns:
        The twin's ``optimized_metric`` for the sweeper; NaN if it is not known yet; None if none is set.
    """
    folder = Path(cfg.paths.output_dir)
    of_twin, own = read_record(twin), read_record(folder)
    print(f"duplicate of {twin} ({of_twin.status if of_twin else 'starting'})")
    if not later_process() and (own is None or own.status != "finished"):
        record = new_record(cfg, program)
        record.status, record.ended = "duplicate", record.started
        record.duplicate_of = os.path.relpath(twin, folder)
        write_record(folder, record)
    if cfg.optimized_metric is None:
        return None
    value = of_twin.metrics.get(cfg.optimized_metric) if of_twin and of_twin.status == "finished" else None
    return float("nan") if value is None else value


def new_record(cfg: DictConfig, program: Program) -> RunRecord:
    """The record of a run before it begins."""
    about, exact = run_metadata(), normalised(cfg)
    found = {key: str(node[name]) for key, node, name in walk(cfg) if name in WEIGHTS and isinstance(node[name], str)}
    return RunRecord(
        identity=identity(exact),
        experiment=cfg.experiment_name,
        started=now(),
        job=scheduler_job(),
        overrides=list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else [],
        settings=changed(exact, program.compose()),
        checkpoints=found,
        **{name: about[name] for name in ("command", "git_commit", "git_dirty", "versions", "device", "hostname")},
    )


def normalised(cfg: DictConfig) -> DictConfig:
    """The effective config: ``corruption=none`` has no noise, so its sigma is set to 0."""
    cfg = copy.deepcopy(cfg)
    with warnings.catch_warnings(action="ignore"):
        cfg.corruption.sigma = build(cfg.corruption.noise).amplitude(float(cfg.corruption.sigma))
    return cfg


def now() -> str:
    """The time, to the second, with its offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")

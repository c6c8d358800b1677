"""Ends a run on a signal, with a checkpoint."""

import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, final

import lightning as L
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from interp_refiner.core import EXIT_INTERRUPTED, EXIT_PREEMPTED, BadValue, Stopped
from interp_refiner.training.checkpoint import RollingCheckpoint

log = logging.getLogger(__name__)


@final
class Preemption(Checkpoint):  # a Checkpoint, so that Lightning calls it after callbacks that change the saved state
    """On a signal: finishes the optimizer step, saves a checkpoint, ends with exit code 75 (130 after Ctrl-C).

    The handler only sets a flag. After every optimizer step, and before and after a validation, the processes check
    together whether any of them has the flag, so any process may get the signal. A second Ctrl-C ends at once.

    Args:
        signals: names of the signals.
        requeue: whether to requeue the SLURM job, except after Ctrl-C.

    Raises:
        Stopped: to end the run.
    """

    def __init__(self, signals: Sequence[str] = ("SIGTERM", "SIGUSR1", "SIGINT"), requeue: bool = True):
        for name in signals:
            if name not in signal.Signals.__members__:
                raise BadValue("signals", name, "names of signals", signal.Signals.__members__)
        self.signals, self.requeue = [signal.Signals[name] for name in signals], requeue
        self.received: signal.Signals | None = None
        self.seen_step = 0
        self.handlers: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen_step = trainer.global_step
        # here, because Lightning has just set its own handlers, which save inside the handler
        self.handlers = {number: signal.signal(number, self._receive) for number in self.signals}

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, Stopped):
            self._restore()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        between_steps, self.seen_step = trainer.global_step != self.seen_step, trainer.global_step
        if between_steps:
            self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rolling = _rolling(trainer)
        if trainer.state.fn == TrainerFn.FITTING and (rolling is None or rolling.between_steps):
            self._stop_if_asked(trainer)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def _restore(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}

    def _stop_if_asked(self, trainer: L.Trainer) -> None:
        agree = trainer.strategy.reduce_boolean_decision
        if not agree(self.received is not None, all=False):
            return
        interrupted = agree(self.received == signal.SIGINT, all=False)
        rolling = _rolling(trainer)
        saved = rolling.save(trainer) if rolling is not None else None
        name = self.received.name if self.received is not None else "a signal to another process"
        message = f"{name}: stopped after step {trainer.global_step}; {resume_hint(saved)}"
        if self.requeue and not interrupted and SLURMEnvironment.detect() and trainer.is_global_zero:
            message += f"; {requeue_job()}"
        raise Stopped(message, EXIT_INTERRUPTED if interrupted else EXIT_PREEMPTED)


def _rolling(trainer: L.Trainer) -> RollingCheckpoint | None:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next((c for c in callbacks if isinstance(c, RollingCheckpoint)), None)


def resume_hint(saved: Path | None) -> str:
    """How to resume, for the message."""
    return f"the same command with ckpt_path={saved} resumes it" if saved is not None else "nothing is saved"


def requeue_job() -> str:
    """Requeues this SLURM job, or this task of a job array; returns the outcome as a message."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        return f"SLURM job {job} could not be requeued: {error}"
    return f"SLURM job {job} is requeued"

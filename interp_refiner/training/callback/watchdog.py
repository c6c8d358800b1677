"""Ends a run that hangs, and reports what it was waiting for."""

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any, final

import lightning as L
import torch

from interp_refiner.core import Corrupted, Stopped, positive

log = logging.getLogger(__name__)

EXIT_HUNG = 3
SHOWN_KEYS = 8  # largest number of a batch's keys in a message


@final
class Watchdog(L.Callback):
    """Ends a process that makes no progress for too long, with one line that says what it was waiting for.

    Every process has its own watchdog. If one process hangs, it and the processes that wait for it each print where
    they are, so the log shows which one hangs. Errors of collectives (a lost process, or a timeout of the process
    group) are reported in the same way.

    Args:
        timeout: seconds without a step, a validation batch or a checkpoint; None: no limit. It must be longer than the
            first step of a compiled model.

    Raises:
        BadValue: a timeout that is not positive.
        Stopped: another process was lost.
    """

    def __init__(self, timeout: float | None = 1800.0):
        if timeout is not None:
            positive("timeout", timeout, "seconds, or null")
        self.timeout = timeout
        self.waiting_for, self.since = "", 0.0
        self.ended = threading.Event()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._moved(f"the first batch, step {trainer.global_step + 1}")
        if self.timeout is not None:
            self.ended.clear()
            threading.Thread(target=self._watch, args=(trainer, self.timeout), name="watchdog", daemon=True).start()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Corrupted, batch_idx: int
    ) -> None:
        keys = ", ".join(batch.clip.keys[:SHOWN_KEYS])
        self._moved(f"its computation, or another process, in step {trainer.global_step + 1} (samples {keys})")

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._moved(f"another process, a checkpoint or the next batch, after step {trainer.global_step}")

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Corrupted, batch_idx: int, *_: Any
    ) -> None:
        self._moved(f"validation batch {batch_idx} after step {trainer.global_step}")

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._moved(f"the next validation batch, or another process, after step {trainer.global_step}")

    def on_save_checkpoint(self, trainer: L.Trainer, *_: Any) -> None:
        self._moved(f"the disk, for the checkpoint of step {trainer.global_step}")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.ended.set()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.ended.set()
        if trainer.world_size > 1 and is_of_collective(exception):
            reason = str(exception).splitlines()[0]
            raise Stopped(f"{self._line(trainer)}: {reason}", EXIT_HUNG, agreed=False) from exception

    def _moved(self, waiting_for: str) -> None:
        self.waiting_for, self.since = waiting_for, time.monotonic()

    def _line(self, trainer: L.Trainer) -> str:
        waited = time.monotonic() - self.since
        process = f"process {trainer.global_rank} of {trainer.world_size}"
        return f"{process} has waited {waited:.0f} s for {self.waiting_for}"

    def _watch(self, trainer: L.Trainer, timeout: float) -> None:
        while not self.ended.wait(min(timeout / 4, 10.0)):
            if time.monotonic() - self.since > timeout:
                faulthandler.dump_traceback(sys.stderr)
                print(f"{self._line(trainer)}, at {main_place()}", file=sys.stderr, flush=True)
                if (launcher := trainer.strategy.launcher) is not None:
                    launcher.kill(signal.SIGKILL)  # kills the processes that this one has started
                os._exit(EXIT_HUNG)  # nothing else ends a thread that is inside a collective


def main_place() -> str:
    """The Python line that the main thread is executing."""
    stack = traceback.extract_stack(sys._current_frames()[threading.main_thread().ident or 0])
    return f"{stack[-1].filename}:{stack[-1].lineno} in {stack[-1].name}"


def is_of_collective(error: BaseException) -> bool:
    """Whether an error comes from torch.distributed: one of its own classes, or a plain RuntimeError of gloo."""
    distributed = isinstance(error, torch.distributed.DistError) if torch.distributed.is_available() else False
    return distributed or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())

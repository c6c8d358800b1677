"""Keeps the last checkpoints of a run, for an exact resume."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any, final

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from interp_refiner.core import at_least
from interp_refiner.training.checkpoint.partial import PARTIAL
from interp_refiner.training.checkpoint.whole import LAST

log = logging.getLogger(__name__)


@final
class RollingCheckpoint(Checkpoint):
    """Saves a checkpoint every ``every_n_steps`` optimizer steps and at the end, and keeps the newest ones.

    Files are called ``step_<n>.ckpt``; ``last.ckpt`` links to the newest one. They are written only between optimizer
    steps, when no accumulated gradient is pending. So a resumed run equals the uninterrupted one bit for bit. After a
    validation at such a step the file is written again, because the validation changes the state.

    Args:
        folder: folder of the checkpoints.
        every_n_steps: number of optimizer steps between checkpoints.
        keep_last: number of checkpoints to keep.
        save_optimizer: whether to save the optimizer's state. Without it files are a third to a half as large, and a
            resumed run starts with fresh moments.
    """

    def __init__(self, folder: str, every_n_steps: int = 100, keep_last: int = 2, save_optimizer: bool = True):
        at_least(1, every_n_steps=every_n_steps, keep_last=keep_last)
        self.folder, self.every_n_steps, self.keep_last = Path(folder), every_n_steps, keep_last
        self.save_optimizer = save_optimizer
        self.saved_step = self.seen_step = 0
        self.between_steps = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.saved_step = self.seen_step = trainer.global_step
        if trainer.is_global_zero:
            for left_over in self.folder.glob(f"*{PARTIAL}"):  # left by a run that was killed while writing
                shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        self.between_steps, self.seen_step = step != self.seen_step, step
        if self.between_steps and (step % self.every_n_steps == 0 or step == trainer.max_steps):
            self.save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fitting and self.between_steps and self.saved_step == trainer.global_step:
            self.save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.saved_step != trainer.global_step:
            self.save(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self.save_optimizer:
            checkpoint["optimizer_states"] = []

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if not checkpoint.get("optimizer_states"):
            log.warning("the checkpoint has no optimizer state: moments start from zero, so the resume is not exact")

    def save(self, trainer: L.Trainer) -> Path:
        """Writes a checkpoint now; all processes must call it."""
        path = self.folder / f"step_{trainer.global_step:06d}.ckpt"
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return path
        trainer.save_checkpoint(path, weights_only=False)
        self.saved_step = trainer.global_step
        if trainer.is_global_zero:
            link(self.folder / LAST, path)
            for old in sorted(self.folder.glob("step_*.ckpt"), key=os.path.getmtime)[: -self.keep_last]:
                trainer.strategy.remove_checkpoint(old)
        return path


def link(name: Path, target: Path) -> None:
    """Makes ``name`` a link to ``target`` in the same folder, atomically."""
    new = name.with_name(name.name + PARTIAL)
    new.unlink(missing_ok=True)
    new.symlink_to(target.name)
    os.replace(new, name)

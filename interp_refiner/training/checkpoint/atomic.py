"""Writes Lightning's checkpoint files atomically."""

import logging
from pathlib import Path
from typing import Any, final

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from interp_refiner.core import Stopped
from interp_refiner.training.checkpoint.partial import write_whole
from interp_refiner.training.checkpoint.sharded import read_checkpoint
from interp_refiner.training.checkpoint.whole import last_whole

log = logging.getLogger(__name__)


@final
class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's checkpoint files completely or not at all (temporary name, fsync, rename); local paths only.

    It also reads the folders of sharded checkpoints, so that a run can resume with another strategy.

    Raises:
        Stopped: a checkpoint cannot be written (no space, a quota, a lost mount); names the last good one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with write_whole(path) as file:
                torch.save(checkpoint, file)
        except OSError as error:
            good = last_whole(path.parent)
            kept = f"the last good one is {good}" if good is not None else "there is none yet"
            raise Stopped(f"checkpoint {path}: {error.strerror}; {kept}", agreed=False) from error
        log.info("checkpoint %s: %.1f MB", path, path.stat().st_size / 1e6)

    def load_checkpoint(self, path: Any, *arguments: Any, **named: Any) -> dict[str, Any]:
        if "://" not in str(path) and Path(path).is_dir():
            return read_checkpoint(Path(path))
        return super().load_checkpoint(path, *arguments, **named)

"""Writing a file whole or not at all."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, final

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from interp_refiner.checkpoint.whole import last_whole
from interp_refiner.core import Stopped

log = logging.getLogger(__name__)

PARTIAL = ".partial"  # ending of a file that is being written


@contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that gets its name once all of it is on the disk; on an error nothing is left of it.

    Raises:
        OSError: of the system, also where a library in between made another error of it.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)  # the name too has to survive a loss of power
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        of_system = error.__context__ if isinstance(error.__context__, OSError) else None
        if isinstance(error, RuntimeError) and of_system is not None:  # torch.save, when its file cannot be written
            raise of_system from None
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@final
class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, whole or absent: temporary name, fsync, rename. Remote paths are left to Lightning.

    Raises:
        Stopped: a checkpoint cannot be written (no space, a quota, a mount that went away); it names the last good one.
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

"""Writes a file atomically."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial"  # ending of a file that is being written


@contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """A temporary file that is renamed to ``path`` when it is completely on the disk, and is removed on an error.

    Raises:
        OSError: the system's error, even if torch has replaced it by a RuntimeError.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)  # so that the new name survives a power failure
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        of_system = error.__context__ if isinstance(error.__context__, OSError) else None
        if isinstance(error, RuntimeError) and of_system is not None:  # of torch.save, if it cannot write
            raise of_system from None
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

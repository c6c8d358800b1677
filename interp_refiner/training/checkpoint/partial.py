"""Writes a file atomically."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

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

"""Claims, which prevent two processes from computing the same run.

A claim is a lock (``flock``) on the file ``<folder>/<identity>``, which contains the path of the run folder. The kernel
releases the lock when its process ends for any reason, so there are no stale claims. The file itself stays; after the
run has finished, it tells where the result is.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from interp_refiner.core import BadValue
from interp_refiner.training.record.run_record import read_record

PATIENCE = 5.0  # seconds that a new holder has to write its name


class Claimed(Exception):
    """Another run of the same identity is finished or running.

    Attributes:
        run: its folder.
    """

    def __init__(self, run: Path):
        super().__init__(f"duplicate of {run}")
        self.run = run


@contextmanager
def claim(folder: Path, identity: str, run: Path, repeat: bool = False) -> Iterator[None]:
    """Holds the claim to an identity while the block runs.

    Args:
        folder: folder of the claims; shared by all launchers, on a file system with locks.
        identity: the run's identity.
        run: its folder; it must contain the run's record before the claim is released, unless the run was refused. A
            claim whose folder does not exist counts as free.
        repeat: whether to run even if another run of the same identity is finished or running; in the second case the
            block runs without a claim.

    Raises:
        Claimed: another run is finished or holds the claim, and ``repeat`` is false.
        BadValue: the file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / identity
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+") as file:
        if not _locked(file):
            if repeat:
                yield
                return
            raise Claimed(_holder(file))
        before = _name(file)
        if before is not None and _finished(before):
            if not repeat:
                raise Claimed(before)
        else:
            _write(file, run)
        yield
        if _finished(run):
            _write(file, run)


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP):
            raise
        raise BadValue("log_dir", file.name, f"a file system with locks ({error.strerror})") from error
    return True


def _holder(file: TextIO) -> Path:
    """The run that holds the claim; a holder writes its name just after it gets the lock."""
    deadline = time.monotonic() + PATIENCE
    while (name := _name(file)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return name or Path("a run that is starting")


def _name(file: TextIO) -> Path | None:
    file.seek(0)
    text = file.read()
    return Path(text.strip()) if text.endswith("\n") else None


def _write(file: TextIO, run: Path) -> None:
    file.seek(0)
    file.truncate()
    file.write(f"{run}\n")
    file.flush()


def _finished(run: Path) -> bool:
    record = read_record(run)
    return record is not None and record.status == "finished"

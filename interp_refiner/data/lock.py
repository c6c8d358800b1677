"""Processes that share a folder: one of them writes at a time, and runs that would disturb one another are refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Waits for the lock file beside ``root``, and holds it."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.parent / f".{root.name}.lock"):
        yield

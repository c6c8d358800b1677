"""A lock for processes that share a folder: one process writes at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Waits for the lock file beside ``root``, links resolved, and holds it while the block runs."""
    root = root.resolve()
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.parent / f".{root.name}.lock"):
        yield

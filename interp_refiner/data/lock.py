"""One process of a machine writes a folder, the others wait and then find it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Holds the lock file beside ``root``."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with open(root.parent / f".{root.name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

"""Tracks running reads, so that a timeout can say what the program was waiting for."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Read(NamedTuple):
    """A read of bytes ``start`` to ``stop`` of a shard, started at ``since`` (:func:`time.monotonic`)."""

    shard: str
    start: int
    stop: int
    since: float

    def __str__(self) -> str:
        waited = time.monotonic() - self.since
        return f"bytes {self.start} to {self.stop} of {self.shard}, for {waited:.1f} s"


class Underway:
    """The running reads of all threads, at most one per thread."""

    def __init__(self) -> None:
        self._reads: dict[int, Read] = {}

    @contextmanager
    def __call__(self, shard: str, start: int, stop: int) -> Iterator[None]:
        """Registers a read while the block runs."""
        thread = threading.get_ident()
        self._reads[thread] = Read(shard, start, stop, time.monotonic())
        try:
            yield
        finally:
            del self._reads[thread]

    def oldest(self) -> Read | None:
        """The read that has been running the longest; None if there is none."""
        return min(list(self._reads.values()), key=lambda read: read.since, default=None)

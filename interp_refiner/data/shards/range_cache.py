"""A local cache of byte ranges read from a remote store, with one size limit for all processes of a machine."""

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import final

from interp_refiner.core import at_least
from interp_refiner.data.shards.storage import Buffer, ShardStat, Storage

log = logging.getLogger(__name__)

WRITING = ".writing"
ABANDONED = 3600.0  # seconds; an older unfinished file was left by a process that died


@final
class RangeCache:
    """Keeps byte ranges as files of a local folder, ``max_bytes`` in all. When it is full, it adds and evicts nothing.

    Every epoch reads every sample once in a new order. So a full cache without eviction answers a share
    ``p = max_bytes / size`` of all reads. A cache that evicts the least recently used range answers only ``p^2 / 2``,
    because it evicts most ranges before they are read again.

    Safe for many processes: a lock guards the reservation of space, a file has its full length from the start, and it
    gets its final name after it is completely on the disk.

    Args:
        folder: a local folder.
        max_bytes: limit for all files in it together.
    """

    def __init__(self, folder: Path | str, max_bytes: int):
        at_least(1, max_bytes=max_bytes)
        self.folder, self.max_bytes, self.full = Path(folder), max_bytes, False
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked() as total:
            self._note(total, self._measured())

    def read_into(self, name: str, buffers: Sequence[Buffer]) -> bool:
        """Fills the buffers from the range called ``name``; False if it is missing or has another length."""
        try:
            descriptor = os.open(self.folder / name, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return os.preadv(descriptor, buffers, 0) == sum(len(buffer) for buffer in buffers)
        finally:
            os.close(descriptor)

    def keep(self, name: str, buffers: Sequence[Buffer]) -> bool:
        """Keeps a range if there is space for it; if the disk refuses it, logs a warning."""
        path = self.folder / name
        partial = path.with_name(f"{path.name}.{os.getpid()}-{time.monotonic_ns()}{WRITING}")
        size, reserved = sum(len(buffer) for buffer in buffers), 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = self._reserve(partial, size)
            if descriptor is None:
                return False
            reserved = size
            try:
                if os.pwritev(descriptor, buffers, 0) < size:
                    raise OSError("the disk is full")
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(partial, path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
                self._release(reserved)
            log.warning("%s is not cached: %s", path, error)
            return False
        return True

    def _reserve(self, partial: Path, size: int) -> int | None:
        """An open file of ``size`` bytes; None if they do not fit."""
        with self._locked() as total:
            used = int(os.pread(total, 32, 0) or b"0")
            if used + size > self.max_bytes:
                if not self.full:
                    log.info("%s is full: %d of %d bytes; nothing more is cached", self.folder, used, self.max_bytes)
                self.full = True
                return None
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            os.truncate(descriptor, size)
            self._note(total, used + size)
            return descriptor

    def _release(self, size: int) -> None:
        """Gives reserved bytes back."""
        with self._locked() as total:
            self._note(total, max(0, int(os.pread(total, 32, 0) or b"0") - size))

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file that stores the number of used bytes, locked against other threads and processes."""
        total = os.open(self.folder / ".total", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(total, fcntl.LOCK_EX)
            yield total
        finally:
            os.close(total)

    @staticmethod
    def _note(total: int, used: int) -> None:
        os.pwrite(total, f"{used:<32d}".encode(), 0)

    def _measured(self) -> int:
        """The number of bytes in the folder, after removing files that dead processes have left."""
        used = 0
        for path in self.folder.rglob("*"):
            if path.name == ".total" or (stat := _stat(path)) is None or not S_ISREG(stat.st_mode):
                continue
            if path.name.endswith(WRITING) and time.time() - stat.st_mtime > ABANDONED:
                path.unlink(missing_ok=True)
                continue
            used += stat.st_size
        return used


def _stat(path: Path) -> os.stat_result | None:
    """None if another process has just renamed or removed the file."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


@final
class CachedFolder(Storage):
    """A folder of shards that caches the byte ranges it has read.

    A range is cached for one version of its shard; a shard that was rewritten is read again.

    Args:
        folder: the shards.
        cache: for ranges of at least ``granule`` bytes; smaller ones are tar headers, which the index already keeps.
    """

    def __init__(self, folder: Storage, cache: RangeCache):
        self.folder, self.cache, self.name, self.granule = folder, cache, folder.name, folder.granule
        self._stats: dict[str, ShardStat] = {}

    def holds_shards(self) -> bool:
        return self.folder.holds_shards()

    def read_file(self, name: str) -> bytes | None:
        return self.folder.read_file(name)

    def shards(self) -> dict[str, ShardStat]:
        self._stats = self.folder.shards()
        return self._stats

    def strays(self) -> list[str]:
        return self.folder.strays()

    def read_into(self, shard: str, offset: int, buffers: Sequence[Buffer]) -> None:
        size = sum(len(buffer) for buffer in buffers)
        if shard not in self._stats or size <= self.granule:
            return self.folder.read_into(shard, offset, buffers)
        version = f"{self.name}\0{self._stats[shard]}"
        name = f"{hashlib.blake2b(version.encode(), digest_size=8).hexdigest()}/{shard}/{offset}-{size}"
        if not self.cache.read_into(name, buffers):
            self.folder.read_into(shard, offset, buffers)
            self.cache.keep(name, buffers)
        return None

    def close(self) -> None:
        self.folder.close()

"""Storage of shards: lists shards and reads byte ranges of them."""

import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, final

Buffer = bytearray | memoryview


class ShardStat(NamedTuple):
    """Size in bytes and modification time in nanoseconds; they change when a shard is rewritten.

    Both are -1 if the name is not that of a file, but of a folder or a broken link.
    """

    size: int
    modified: int


class Span(NamedTuple):
    """The byte range of a member of a shard, and the checksum in its tar header (None if there is none)."""

    shard: str
    offset: int
    size: int
    crc: int | None = None


class Storage(ABC):
    """A folder of shards, read by byte ranges from any number of threads."""

    name: str
    """The folder, for messages and for naming what is derived from it."""

    granule: int = 512
    """How many bytes are worth reading in one request: more than a tar header where requests are slow."""

    @abstractmethod
    def holds_shards(self) -> bool:
        """Whether the folder exists and has at least one shard."""

    @abstractmethod
    def read_file(self, name: str) -> bytes | None:
        """A small file beside the shards; None if it does not exist."""

    @abstractmethod
    def shards(self) -> dict[str, ShardStat]:
        """The shards by name, sorted."""

    @abstractmethod
    def strays(self) -> list[str]:
        """Names of tars in the folder that are not named like shards; they are never read."""

    @abstractmethod
    def read_into(self, shard: str, offset: int, buffers: Sequence[Buffer]) -> None:
        """Fills the buffers in order, from ``offset`` on; raises EOFError if the shard ends too early."""

    def read(self, shard: str, offset: int, size: int) -> bytearray:
        """``size`` bytes from ``offset``; raises EOFError if the shard ends too early."""
        content = bytearray(size)
        self.read_into(shard, offset, [content])
        return content

    def close(self) -> None:  # noqa: B027
        """Closes open files; the next read opens them again."""


def is_shard(name: str) -> bool:
    """Whether a name is like ``shard-00000.tar`` or ``shard_000000.tar``."""
    return name.startswith(("shard-", "shard_")) and name.endswith(".tar")


def is_stray(name: str) -> bool:
    """Whether a name looks like a tar but not like a shard: ``train-00000.tar``, ``.shard-00000.tar.part``."""
    return ".tar" in name and not is_shard(name)


def holds_shards(folder: Path) -> bool:
    """Whether ``folder`` exists and contains a shard (not in a subfolder)."""
    return folder.is_dir() and any(is_shard(entry.name) for entry in folder.iterdir())


@final
class LocalFolder(Storage):
    """Shards in a folder of a file system, which may be read-only.

    Args:
        root: the folder.
        max_open: files held open between reads.
    """

    def __init__(self, root: Path | str, max_open: int = 64):
        self.root, self.name = Path(root), str(root)
        self._files = _OpenFiles(self.root, max_open)

    def holds_shards(self) -> bool:
        return holds_shards(self.root)

    def read_file(self, name: str) -> bytes | None:
        path = self.root / name
        return path.read_bytes() if path.is_file() else None

    def shards(self) -> dict[str, ShardStat]:
        with os.scandir(self.root) as entries:
            found = {entry.name: _stat(Path(entry.path)) for entry in entries if is_shard(entry.name)}
        return dict(sorted(found.items()))

    def strays(self) -> list[str]:
        return sorted(filter(is_stray, os.listdir(self.root)))

    def read_into(self, shard: str, offset: int, buffers: Sequence[Buffer]) -> None:
        wanted = sum(len(buffer) for buffer in buffers)
        with self._files.descriptor(shard) as descriptor:
            done = os.preadv(descriptor, buffers, offset)
            while done < wanted:  # one system call may return fewer bytes than requested, 2 GiB at most
                count = os.preadv(descriptor, _after(buffers, done), offset + done)
                if count == 0:
                    raise EOFError(f"ends at byte {offset + done}, expected {offset + wanted}")
                done += count

    def close(self) -> None:
        self._files.close()


def _stat(path: Path) -> ShardStat:
    if not path.is_file():
        return ShardStat(-1, -1)
    stat = path.stat()
    return ShardStat(stat.st_size, stat.st_mtime_ns)


def _after(buffers: Sequence[Buffer], done: int) -> list[memoryview]:
    """The rest of the buffers after their first ``done`` bytes."""
    left = []
    for buffer in buffers:
        skipped = min(done, len(buffer))
        left.append(memoryview(buffer)[skipped:])
        done -= skipped
    return left


class _OpenFiles:
    """Files of a folder that stay open between reads; beyond ``limit`` the least recently used idle one is closed."""

    def __init__(self, root: Path, limit: int):
        self.root, self.limit, self._lock = root, limit, threading.Lock()
        self._open: OrderedDict[str, tuple[int, int]] = OrderedDict()  # name -> (descriptor, number of active readers)

    @contextmanager
    def descriptor(self, name: str) -> Iterator[int]:
        with self._lock:
            descriptor, readers = (
                self._open[name] if name in self._open else (os.open(self.root / name, os.O_RDONLY), 0)
            )
            self._open[name] = descriptor, readers + 1
            self._open.move_to_end(name)
        try:
            yield descriptor
        finally:
            with self._lock:
                self._open[name] = descriptor, self._open[name][1] - 1
                self._close_idle(self.limit)

    def close(self) -> None:
        with self._lock:
            self._close_idle(0)

    def _close_idle(self, limit: int) -> None:
        for name, (descriptor, readers) in list(self._open.items()):
            if len(self._open) <= limit:
                return
            if readers == 0:
                del self._open[name]
                os.close(descriptor)

    def __len__(self) -> int:
        return len(self._open)

    def __del__(self) -> None:
        self.close()

"""Where shards lie: listing them and reading byte ranges of them."""

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
    """Enough to tell that a shard was written anew: its size in bytes and when it was modified, in nanoseconds."""

    size: int
    modified: int


class Span(NamedTuple):
    """Where a member of a shard lies, and the checksum that its tar header gives; None where it gives none."""

    shard: str
    offset: int
    size: int
    crc: int | None = None


class Storage(ABC):
    """A folder of shards, read by byte ranges from any number of threads."""

    name: str
    """The folder, for messages and for naming what is derived from it."""

    granule: int = 512
    """Bytes that are worth reading at once: where asking takes longer than reading, more than a tar header."""

    @abstractmethod
    def holds_shards(self) -> bool:
        """Whether the folder exists and has at least one shard."""

    @abstractmethod
    def read_file(self, name: str) -> bytes | None:
        """A small file beside the shards; None where there is none."""

    @abstractmethod
    def shards(self) -> dict[str, ShardStat]:
        """The shards by name, sorted."""

    @abstractmethod
    def strays(self) -> list[str]:
        """Names beside the shards that look like tars and are none of them: nothing reads them."""

    @abstractmethod
    def read_into(self, shard: str, offset: int, buffers: Sequence[Buffer]) -> None:
        """Fills the buffers one after the other from ``offset`` on; raises EOFError where the shard ends before."""

    def read(self, shard: str, offset: int, size: int) -> bytearray:
        """``size`` bytes from ``offset``; raises EOFError where the shard ends before."""
        content = bytearray(size)
        self.read_into(shard, offset, [content])
        return content

    def close(self) -> None:  # noqa: B027
        """Closes what is open; reading again opens it again."""


def is_shard(name: str) -> bool:
    """``shard-00000.tar`` or ``shard_000000.tar``."""
    return name.startswith(("shard-", "shard_")) and name.endswith(".tar")


def is_stray(name: str) -> bool:
    """``train-00000.tar``, ``shard-00000.tar.gz``, ``.shard-00000.tar.part``: not the names of shards."""
    return ".tar" in name and not is_shard(name)


def holds_shards(folder: Path) -> bool:
    """Whether ``folder`` is there and has a shard directly in it."""
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
            stats = {e.name: e.stat() for e in entries if is_shard(e.name)}
        return {name: ShardStat(stats[name].st_size, stats[name].st_mtime_ns) for name in sorted(stats)}

    def strays(self) -> list[str]:
        return sorted(filter(is_stray, os.listdir(self.root)))

    def read_into(self, shard: str, offset: int, buffers: Sequence[Buffer]) -> None:
        wanted = sum(len(buffer) for buffer in buffers)
        with self._files.descriptor(shard) as descriptor:
            done = os.preadv(descriptor, buffers, offset)
            while done < wanted:  # the system may return less than asked, 2 GiB at most at once
                count = os.preadv(descriptor, _after(buffers, done), offset + done)
                if count == 0:
                    raise EOFError(f"ends at byte {offset + done}, expected {offset + wanted}")
                done += count

    def close(self) -> None:
        self._files.close()


def _after(buffers: Sequence[Buffer], done: int) -> list[memoryview]:
    """What is left of the buffers once their first ``done`` bytes are filled."""
    left = []
    for buffer in buffers:
        skipped = min(done, len(buffer))
        left.append(memoryview(buffer)[skipped:])
        done -= skipped
    return left


class _OpenFiles:
    """Files of a folder kept open between reads; beyond ``limit`` the least recently used idle one is closed."""

    def __init__(self, root: Path, limit: int):
        self.root, self.limit, self._lock = root, limit, threading.Lock()
        self._open: OrderedDict[str, tuple[int, int]] = OrderedDict()  # name -> (descriptor, readers at work)

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

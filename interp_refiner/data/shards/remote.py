"""Shards in a remote store, read by byte ranges through fsspec: ``s3://``, ``hf://``, ``https://`` and others."""

import asyncio
import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, final

import fsspec
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem, sync

from interp_refiner.core import BadValue, MissingExtra, check_least, non_negative, positive
from interp_refiner.data.shards.bad_sample import Unavailable
from interp_refiner.data.shards.storage import Buffer, ShardStat, Storage, is_shard, is_stray

log = logging.getLogger(__name__)

T = TypeVar("T")
SHARD_LIST = "shards.txt"
EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs")}
PASSING = (408, 425, 429)  # HTTP errors worth another attempt; the other 4xx are permanent


@dataclass(frozen=True)
class Retries:
    """How often requests to a remote store are repeated, and after which waits.

    Attributes:
        attempts: largest number of attempts, including the first.
        first_wait: seconds before the second attempt; doubles with each further attempt, up to ``longest_wait``. Each
            wait is shortened by a random part of up to a half, so that many readers do not retry at the same moment.
        longest_wait: seconds.
        timeout: seconds for one attempt.
    """

    attempts: int = 5
    first_wait: float = 0.5
    longest_wait: float = 30.0
    timeout: float = 60.0

    def __post_init__(self) -> None:
        check_least(self, attempts=1)
        for name in ("first_wait", "longest_wait"):
            non_negative(name, getattr(self, name), "in seconds")
        positive("timeout", self.timeout, "in seconds")

    def wait(self, failed: int) -> float:
        """Seconds to wait after ``failed`` failed attempts."""
        return min(self.longest_wait, self.first_wait * 2 ** (failed - 1)) * random.uniform(0.5, 1)


def is_url(root: object) -> bool:
    """Whether ``root`` names a remote store rather than a local folder."""
    return "://" in str(root)


@final
class RemoteFolder(Storage):
    """A folder of shards at a URL.

    The store must support requests for byte ranges. If it cannot list its files, a file ``shards.txt`` beside the
    shards must name them, one per line. If ``shards.txt`` exists, it is used instead of the listing.

    Args:
        url: URL of the folder.
        options: of the fsspec file system, for example ``{"anon": True}``.
        retries: how failed requests are repeated.
        threads: number of parallel requests for shard sizes.

    Attributes:
        retried: number of repeated requests so far.

    Raises:
        MissingExtra: the store needs a package that is not installed.
        BadValue: no file system for this URL.
        Unavailable: the file system connects at once, and nothing answers.
    """

    granule = 1 << 16

    def __init__(
        self, url: str, options: Mapping[str, Any] | None = None, retries: Retries | None = None, threads: int = 16
    ):
        self.name, self.retries, self.threads, self.retried = url.rstrip("/"), retries or Retries(), threads, 0
        self._fs, self._path = _file_system(self.name, dict(options or {}), self.retries.timeout)
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def holds_shards(self) -> bool:
        return bool(self._names())

    def read_file(self, name: str) -> bytes | None:
        try:
            return self._persist(name, lambda: bytes(self._call("cat_file", self._of(name))))
        except FileNotFoundError:
            return None

    def shards(self) -> dict[str, ShardStat]:
        names = self._names()
        with ThreadPoolExecutor(self.threads) as pool:
            stats = dict(zip(names, pool.map(self._stat, names), strict=True))
        self._sizes = {name: stat.size for name, stat in stats.items()}
        return stats

    def strays(self) -> list[str]:
        return sorted(filter(is_stray, self._list())) if self.read_file(SHARD_LIST) is None else []

    def read_into(self, shard: str, offset: int, buffers: Sequence[Buffer]) -> None:
        wanted = sum(len(buffer) for buffer in buffers)
        if (size := self._size(shard)) < offset + wanted:
            raise EOFError(f"ends at byte {size}, expected {offset + wanted}")
        content = memoryview(self._range(shard, offset, offset + wanted))
        start = 0
        for buffer in buffers:
            memoryview(buffer)[:] = content[start : start + len(buffer)]
            start += len(buffer)

    def _range(self, shard: str, start: int, stop: int) -> bytes:
        def fetch() -> bytes:
            content = self._call("cat_file", self._of(shard), start=start, end=stop)
            if len(content) != stop - start:
                raise OSError(f"{len(content)} bytes came, expected {stop - start}")
            return content

        try:
            return self._persist(f"bytes {start} to {stop}", fetch, shard)
        except FileNotFoundError as error:
            raise Unavailable(shard, "", f"{self.name} no longer has it") from error

    def _names(self) -> list[str]:
        if (listed := self.read_file(SHARD_LIST)) is not None:
            return sorted({line.strip() for line in listed.decode().splitlines() if is_shard(line.strip())})
        return sorted(filter(is_shard, self._list()))

    def _list(self) -> set[str]:
        """All names in the folder; none if the folder does not exist."""

        def fetch() -> list[str]:
            self._fs.invalidate_cache()
            return self._call("ls", self._path, detail=False)

        try:
            entries = self._persist("its list of shards", fetch)
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {entry.rstrip("/").rpartition("/")[2] for entry in entries}

    def _stat(self, shard: str) -> ShardStat:
        try:
            info = self._persist("its size", lambda: self._call("info", self._of(shard)), shard)
        except FileNotFoundError as error:
            raise Unavailable(shard, "", f"{self.name} no longer has it") from error
        if info.get("size") is None:
            raise Unavailable(shard, "", f"{self.name} does not report its size")
        version = [str(info.get(name)) for name in ("ETag", "etag", "sha256", "LastModified", "last_modified", "mtime")]
        digest = hashlib.blake2b("\0".join(version).encode(), digest_size=8).digest()
        return ShardStat(int(info["size"]), int.from_bytes(digest, "big") >> 1)

    def _size(self, shard: str) -> int:
        if shard not in self._sizes:
            self._sizes[shard] = self._stat(shard).size
        return self._sizes[shard]

    def _of(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}"

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        """One attempt; on an asynchronous file system (most remote ones are), it is limited by the timeout."""
        if isinstance(self._fs, AsyncFileSystem) and self._fs.async_impl:
            function = getattr(self._fs, f"_{method}")
            return sync(self._fs.loop, function, path, timeout=self.retries.timeout, **arguments)
        if getattr(type(self._fs), method) is AbstractFileSystem.cat_file:  # opens a file and reads ahead
            arguments["cache_type"] = "none"
        return getattr(self._fs, method)(path, **arguments)

    def _persist(self, what: str, request: Callable[[], T], shard: str = "") -> T:
        """The result of a request, repeated after temporary failures.

        Raises:
            FileNotFoundError: at once, without further attempts.
            Unavailable: all attempts failed; names the request, the number of attempts and the last failure.
        """
        for attempt in range(1, self.retries.attempts + 1):
            try:
                return request()
            except FileNotFoundError:
                raise
            except Exception as error:
                cause = f"{what}: {_cause(error, self.retries.timeout)}"
                if not _may_pass(error) or attempt == self.retries.attempts:
                    times = f" ({attempt} attempts)" if attempt > 1 else ""
                    raise Unavailable(shard or self.name, "", cause + times) from error
            with self._lock:
                self.retried += 1
            log.debug("%s/%s: %s: attempt %d follows", self.name, shard, cause, attempt + 1)
            time.sleep(self.retries.wait(attempt))
        raise AssertionError  # the last attempt returns or raises


def _file_system(url: str, options: dict[str, Any], timeout: float) -> tuple[Any, str]:
    scheme = url.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        package, extra = EXTRAS.get(scheme, (str(error.name or error), scheme))
        raise MissingExtra(f"root={url}", package, extra) from error
    except ValueError as error:
        raise BadValue("root", url, f"a folder or the URL of a store that fsspec knows: {error}") from error
    except Exception as error:  # some file systems connect at once, such as FTP's
        raise Unavailable(url, "", _cause(error, timeout)) from error


def _may_pass(error: Exception) -> bool:
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return not 400 <= status < 500 or status in PASSING
    return not isinstance(error, PermissionError | NotADirectoryError | IsADirectoryError | ImportError | TypeError)


def _cause(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError | asyncio.TimeoutError):  # fsspec's has no message
        return f"no answer within {timeout:g} s"
    if isinstance(status := getattr(error, "status", None), int):
        return f"HTTP {status} {getattr(error, 'message', '')}".strip()
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

"""Opens folders of shards: local, remote, or remote with a local cache."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interp_refiner.core import BadValue, non_negative
from interp_refiner.data.shards.range_cache import CachedFolder, RangeCache
from interp_refiner.data.shards.remote import RemoteFolder, Retries, is_url
from interp_refiner.data.shards.storage import LocalFolder, Storage


@dataclass(frozen=True)
class Stores:
    """How folders of shards are opened. A URL (``s3://``, ``hf://``, ``https://``) is read by byte ranges.

    Attributes:
        attempts: largest number of attempts per request to a remote store.
        first_wait: seconds before the second attempt; doubles with each further attempt.
        timeout: seconds for one attempt.
        options: of the store's fsspec file system, for example ``{"anon": True}``.
        cache_dir: a local folder that caches what is read from remote stores.
        cache_gb: size of the cache in 1e9 bytes, over all processes of a machine; 0 turns it off.
    """

    attempts: int = 5
    first_wait: float = 0.5
    timeout: float = 60.0
    options: Mapping[str, Any] = field(default_factory=dict)
    cache_dir: str | None = None
    cache_gb: float = 0.0

    def __post_init__(self) -> None:
        self.retries()
        non_negative("cache_gb", self.cache_gb, "in 10^9 bytes")
        if self.cache_gb > 0 and self.cache_dir is None:
            raise BadValue("cache_dir", None, "a local folder, because cache_gb caches files there")

    @staticmethod
    def idle(settings: Mapping[str, Any]) -> dict[str, str]:
        """The settings without effect, see :class:`SaysIdle`."""
        return {} if settings.get("cache_gb") else {"cache_dir": "cache_gb=0 turns the cache off"}

    def retries(self) -> Retries:
        """How failed requests are repeated."""
        return Retries(self.attempts, self.first_wait, timeout=self.timeout)

    def open(self, root: Path | str) -> Storage:
        """The storage of a local folder or a URL; raises :class:`BadValue` and :class:`MissingExtra`."""
        if not is_url(root):
            return LocalFolder(Path(root).expanduser())
        folder = RemoteFolder(str(root), self.options, self.retries())
        if self.cache_gb == 0 or self.cache_dir is None:
            return folder
        return CachedFolder(folder, RangeCache(self.cache_dir, int(self.cache_gb * 1e9)))


def inside(root: Path | str, name: str) -> str:
    """A folder below a local folder or a URL."""
    return f"{str(root).rstrip('/')}/{name}"

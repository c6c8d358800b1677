"""The index: byte offsets of every sample's members. Shards are scanned once, then read by offset.

The index is kept in a cache folder and rebuilt for every shard whose size or modification time changed. Nothing is
written beside the shards, which may be on a read-only mount.
"""

import hashlib
import logging
import os
import re
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from interp_refiner.core import at_least
from interp_refiner.data.shards.bad_sample import BadSample
from interp_refiner.data.shards.storage import ShardStat, Span, Storage
from interp_refiner.data.shards.tar import KINDS, TarIndex, index_tar

log = logging.getLogger(__name__)

FORMAT = 3  # version of the cached index
TEXTS = ("shards", "damage", "keys")
NUMBERS = ("stats", "counts", "spans")
NUMBERED = re.compile(r"shard[-_](\d+)\.tar")


@dataclass(frozen=True)
class ShardIndex:
    """Every sample of a folder of shards, in the order of shards and members.

    Attributes:
        shards: names of the shards.
        stats: ``[S, (size, modified)]``, to detect which shards changed.
        counts: number of samples in each shard.
        damage: damage of each shard as a whole, "" for none.
        keys: keys of the N samples.
        spans: ``[N, kind, (offset, size, crc)]``, kinds as in :data:`KINDS`; -1 if a member, or its crc, is absent.
    """

    shards: list[str]
    stats: np.ndarray
    counts: np.ndarray
    damage: list[str]
    keys: list[str]
    spans: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def shard_of(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.shards)), self.counts)

    def members(self, sample: int) -> dict[str, Span]:
        """The byte ranges of one sample's members, by kind."""
        shard, spans = self.shards[self.shard_of[sample]], self.spans[sample].tolist()
        return {
            kind: Span(shard, offset, size, crc if crc >= 0 else None)
            for kind, (offset, size, crc) in zip(KINDS, spans, strict=True)
            if offset >= 0
        }

    def locate(self, sample: int, kind: str) -> Span:
        """The byte range of one member of one sample; raises KeyError if it is absent."""
        return self.members(sample)[kind]

    def faults(self, required: Sequence[str]) -> dict[int, BadSample]:
        """The faults that the index alone shows: samples that lack a member, and keys that are used twice."""
        faults = {}
        columns = [KINDS.index(kind) for kind in required]
        for row in np.flatnonzero((self.spans[:, columns, 0] < 0).any(1)).tolist():
            absent = [k for k, c in zip(required, columns, strict=True) if self.spans[row, c, 0] < 0]
            faults[row] = self._fault(row, f"no {' and no '.join(absent)} member")
        first: dict[str, int] = {}
        if len(set(self.keys)) < len(self):
            for row, key in enumerate(self.keys):
                if first.setdefault(key, row) != row:
                    faults[row] = self._fault(
                        row, f"its key is already used in {self.shards[self.shard_of[first[key]]]}"
                    )
        return faults

    def _fault(self, row: int, reason: str) -> BadSample:
        shard = int(self.shard_of[row])
        return BadSample(self.shards[shard], self.keys[row], reason + (f" ({d})" if (d := self.damage[shard]) else ""))

    def damaged_shards(self) -> list[BadSample]:
        return [BadSample(s, "", damage) for s, damage in zip(self.shards, self.damage, strict=True) if damage]


def unread(storage: Storage, index: ShardIndex) -> list[str]:
    """Warnings from the file names of a folder: tars that are not named like shards, and gaps in the numbers."""
    strays = storage.strays()
    numbers = {int(found[1]) for name in index.shards if (found := NUMBERED.fullmatch(name))}
    gaps = sorted(set(range(min(numbers, default=0), max(numbers, default=0))) - numbers)
    said = [f"ignored, not named like a shard: {_some(strays)}"] if strays else []
    return said + ([f"missing shard numbers: {_some(gaps)}"] if gaps else [])


def _some(names: Sequence[object]) -> str:
    return ", ".join(map(str, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def build_index(storage: Storage, cache_dir: Path | str | None = None, threads: int = 8) -> ShardIndex:
    """The index of a folder; entries of unchanged shards come from ``cache_dir``.

    Args:
        storage: the folder.
        cache_dir: a local folder for the index; None keeps nothing. Nothing is ever written beside the shards.
        threads: shards scanned at the same time.

    Raises:
        BadValue: fewer than one thread.
    """
    at_least(1, index_threads=threads)
    found = storage.shards()
    path = cache_path(storage, cache_dir) if cache_dir is not None else None
    cached = _load(path) if path is not None else None
    known = _by_shard(cached) if cached is not None else {}
    fresh = {name: known[name][1] for name, stat in found.items() if name in known and known[name][0] == stat}
    stale = [name for name in found if name not in fresh]
    if cached is not None and not stale and len(fresh) == len(cached.shards):
        return cached
    log.info("indexing %d of %d shards of %s", len(stale), len(found), storage.name)
    with ThreadPoolExecutor(threads) as pool:
        fresh |= zip(stale, pool.map(lambda name: index_tar(storage, name, found[name].size), stale), strict=True)
    index = _join(found, fresh)
    if path is not None:
        _save(index, path)
    return index


def _join(found: dict[str, ShardStat], parts: dict[str, TarIndex]) -> ShardIndex:
    tars = [parts[name] for name in found]
    return ShardIndex(
        shards=list(found),
        stats=np.array(list(found.values()), np.int64).reshape(-1, 2),
        counts=np.array([len(tar.keys) for tar in tars], np.int64),
        damage=[tar.damage for tar in tars],
        keys=[key for tar in tars for key in tar.keys],
        spans=np.concatenate([tar.spans for tar in tars] or [np.empty((0, len(KINDS), 3), np.int64)]),
    )


def _by_shard(index: ShardIndex) -> dict[str, tuple[ShardStat, TarIndex]]:
    parts, start = {}, 0
    for row, (name, count) in enumerate(zip(index.shards, index.counts.tolist(), strict=True)):
        rows = slice(start, start + count)
        tar = TarIndex(index.keys[rows], index.spans[rows], index.damage[row])
        parts[name] = ShardStat(*index.stats[row].tolist()), tar
        start += count
    return parts


def cache_path(storage: Storage, cache_dir: Path | str) -> Path:
    """The file that keeps the index of ``storage``: one file per folder of shards."""
    digest = hashlib.blake2b(storage.name.encode(), digest_size=8).hexdigest()
    return Path(cache_dir) / f"{Path(storage.name).name}-{digest}.npz"


def _save(index: ShardIndex, path: Path) -> None:
    """Writes the index under a temporary name, then renames it; if that fails, logs a warning."""
    arrays: dict[str, Any] = {name: getattr(index, name) for name in NUMBERS} | {"format": np.array(FORMAT)}
    arrays |= {name: np.frombuffer("\0".join(getattr(index, name)).encode(), np.uint8) for name in TEXTS}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, path)
    except OSError as error:
        log.warning("the shard index could not be saved and will be rebuilt next time: %s", error)


def _load(path: Path) -> ShardIndex | None:
    """The kept index; None if there is none or it is unreadable."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if int(arrays["format"]) != FORMAT:
                return None
            numbers = {name: arrays[name] for name in NUMBERS}
            texts = {name: arrays[name].tobytes().decode().split("\0") for name in TEXTS}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s is unreadable and will be rebuilt: %s", path, error)
        return None
    texts = {name: lines if len(lines) > 1 or lines[0] else [] for name, lines in texts.items()}
    texts["damage"] = texts["damage"] or [""] * len(texts["shards"])
    index = ShardIndex(**texts, **numbers)
    whole = len(index.keys) == len(index.spans) == index.counts.sum() and len(index.damage) == len(index.shards)
    return index if whole else None

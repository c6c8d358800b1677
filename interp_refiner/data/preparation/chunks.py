"""A data set that is being made: chunks of videos, each of them written whole or not at all.

    <output>.partial/encode.json        settings, statistics: the same for every process
    <output>.partial/chunks/00007.json  what became of the videos of chunk 7: there once its shards are
    <output>.partial/train/shard-00007.tar

At the end the records go into ``encode.json``, every split gets its ``dataset.json``, and the folder its own name.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from interp_refiner.core import BadValue, derived_seed
from interp_refiner.data.preparation.cut import SPLITS
from interp_refiner.data.preparation.decoding import Done
from interp_refiner.data.preparation.videos import Video
from interp_refiner.data.shards import DatasetMetadata, Sample, ShardWriter

SETTINGS_FILE = "encode.json"
Record = dict[str, Any]


@dataclass(frozen=True)
class Encoded:
    """What was written.

    Attributes:
        clips: of every split.
        skipped: why videos were left out, by their paths below the source.
        remarks: what was converted or ignored of the others, see :attr:`Film.remarks`.
        still_gap: see :func:`still_gap`.
        missing: chunks that other processes still work on; the last of them makes the data set whole.
    """

    clips: dict[str, int]
    skipped: dict[str, str]
    remarks: dict[str, list[str]]
    still_gap: dict[str, list[float]]
    missing: int = 0

    @classmethod
    def of(cls, state: dict[str, Any], missing: int = 0) -> "Encoded":
        """What the records in a folder's state say together."""
        chunks = [state["chunks"][number] for number in sorted(state["chunks"])]
        skipped = {name: reason for chunk in chunks for name, reason in sorted(chunk["skipped"].items())}
        remarks = {name: found for chunk in chunks for name, found in sorted(chunk["remarks"].items())}
        clips = {split: sum(chunk["clips"][split] for chunk in chunks) for split in SPLITS}
        return cls(clips, skipped, remarks, state["still_gap"], missing)


@final
class Chunks:
    """The folder of a data set, whole or not.

    Args:
        output: of the data set.
    """

    def __init__(self, output: Path):
        self.output = output
        self.partial = output.with_name(f"{output.name}.partial")

    @property
    def is_whole(self) -> bool:
        """Whether the data set is there, or something else in its place."""
        return self.output.is_dir() and any(self.output.iterdir())

    @property
    def is_begun(self) -> bool:
        return (self.partial / SETTINGS_FILE).is_file()

    def state(self) -> dict[str, Any]:
        """What the folder says of itself, with the records of all chunks that are done."""
        folder = self.output if self.is_whole else self.partial
        file = folder / SETTINGS_FILE
        if not file.is_file():
            raise BadValue("output", folder, "a new or empty folder: it holds files already")
        state = json.loads(file.read_text())
        records = {int(path.stem): json.loads(path.read_text()) for path in (folder / "chunks").glob("*.json")}
        return {**state, "chunks": {int(number): found for number, found in state["chunks"].items()} | records}

    def begin(self, state: dict[str, Any]) -> None:
        """Makes the folder; ``state`` has no chunks."""
        for folder in (*SPLITS, "chunks"):
            (self.partial / folder).mkdir(parents=True, exist_ok=True)
        _save(self.partial / SETTINGS_FILE, state)

    def is_done(self, number: int) -> bool:
        """Whether the chunk has been written."""
        return self._record(number).is_file()

    def save(self, number: int, record: Record) -> None:
        """The chunk is done: its shards are there."""
        _save(self._record(number), record)

    def finish(self, metadata: DatasetMetadata) -> None:
        """Makes the data set whole; killed on its way, it goes on when called again."""
        state = self.state()
        counts = Encoded.of(state).clips
        _save(self.partial / SETTINGS_FILE, {**state, "chunks": dict(sorted(state["chunks"].items()))})
        for split, count in counts.items():
            for number, shard in enumerate(sorted((self.partial / split).glob("shard-*.tar"))):
                os.rename(shard, shard.with_name(_shard(number)))  # chunks without clips of the split leave no gap
            replace(metadata, num_samples=count).save(self.partial / split)
        shutil.rmtree(self.partial / "chunks", ignore_errors=True)
        for lock in self.partial.glob(".*.lock"):
            lock.unlink()
        if self.output.is_dir():
            self.output.rmdir()  # empty
        os.rename(self.partial, self.output)

    def _record(self, number: int) -> Path:
        return self.partial / "chunks" / f"{number:05d}.json"


@final
class ChunkWriter:
    """The shards of one chunk, one a split, and its record.

    Args:
        folder: of the splits.
        number: of the chunk.
        metadata: of the samples.
    """

    def __init__(self, folder: Path, number: int, metadata: DatasetMetadata):
        self.folder, self.number, self.metadata = folder, number, metadata
        self.shards: dict[str, ShardWriter] = {}
        self.marks: dict[str, tuple[int, int]] = {}
        self.record: Record = {"clips": dict.fromkeys(SPLITS, 0), "skipped": {}, "remarks": {}}

    def take(self, items: Sequence[tuple[Video, str, Sample] | tuple[Video, Done]]) -> None:
        """Writes samples, each with its split; a video that ends with a fault takes its samples back."""
        for item in items:
            if len(item) == 2:
                self._end(*item)
            else:
                _, split, sample = item
                self._shard(split).add(sample)

    def close(self) -> Record:
        """The shards are on the disk under their names; returns the record."""
        for split, shard in self.shards.items():
            shard.close()
            self.record["clips"][split] = len(shard.added)
            if shard.added:
                os.replace(shard.path, self.folder / split / _shard(self.number))
            else:
                shard.path.unlink()
        return self.record

    def _shard(self, split: str) -> ShardWriter:
        if split not in self.shards:
            path = (self.folder / split / _shard(self.number)).with_suffix(".part")
            self.shards[split] = ShardWriter(path, self.metadata, set())
        return self.shards[split]

    def _end(self, video: Video, done: Done) -> None:
        if done.fault:
            self.record["skipped"][video.name] = done.fault
            for split, shard in self.shards.items():
                shard.back_to(self.marks.get(split, (0, 0)))
        elif done.remarks:
            self.record["remarks"][video.name] = done.remarks
        self.marks = {split: shard.mark() for split, shard in self.shards.items()}


def dealt(videos: Sequence[Video], size: int) -> list[list[Video]]:
    """Chunks of ``size`` videos in an order drawn from their keys: the same for every process, with long and short ones
    in each."""
    ordered = sorted(videos, key=lambda video: derived_seed("chunk", video.key))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _shard(number: int) -> str:
    return f"shard-{number:05d}.tar"


def _save(file: Path, content: dict[str, Any]) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, file)

"""An unfinished data set: chunks of videos, each written completely or not at all.

    <output>.partial/encode.json        settings and statistics, the same for every process
    <output>.partial/chunks/00007.json  the record of chunk 7, written after its shards
    <output>.partial/train/shard-00007.tar

At the end the records are copied into ``encode.json``, every split gets its ``dataset.json``, and the folder is renamed
to ``<output>``.
"""

import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, final

from interp_refiner.core import BadValue, derived_seed, of_kind, read_stored
from interp_refiner.data.preparation.cut import SPLITS
from interp_refiner.data.preparation.decoding import Done
from interp_refiner.data.preparation.quality import Measures
from interp_refiner.data.preparation.report import counted, write_report
from interp_refiner.data.preparation.videos import Video
from interp_refiner.data.shards import BUCKETS_FILE, DatasetMetadata, Sample, ShardWriter

SETTINGS_FILE = "encode.json"
STATE = {"fingerprint": str, "source": str, "settings": dict, "statistics": list, "still_gap": dict}
STATE |= {"chunks": dict[str, dict[str, Any]]}
LONE_SIZE = "no training clip has their size, and their video is held out"
CHUNK = {"clips": dict[str, int], "skipped": dict[str, str], "rows": list}
Record = dict[str, Any]


@dataclass(frozen=True)
class Encoded:
    """The result of encoding.

    Attributes:
        clips: number of clips by split.
        left_out: number of clips left out, by reason.
        skipped: why a video was left out, by its path relative to the source.
        remarks: what was converted or ignored of the other videos, see :attr:`Film.remarks`.
        still_gap: see :func:`still_gap`.
        missing: chunks that other processes still work on; the process that finishes last completes the data set.
    """

    clips: dict[str, int]
    left_out: dict[str, int]
    skipped: dict[str, str]
    remarks: dict[str, list[str]]
    still_gap: dict[str, list[float]]
    missing: int = 0

    @classmethod
    def of(cls, state: dict[str, Any], missing: int = 0) -> "Encoded":
        """The sum of all chunk records in a folder's state."""
        chunks = [{"left_out": {}, "remarks": {}} | state["chunks"][number] for number in sorted(state["chunks"])]
        skipped = {name: reason for chunk in chunks for name, reason in sorted(chunk["skipped"].items())}
        remarks = {name: found for chunk in chunks for name, found in sorted(chunk["remarks"].items())}
        clips = dict.fromkeys(SPLITS, 0)
        for folder, count in ((folder, count) for chunk in chunks for folder, count in chunk["clips"].items()):
            clips[folder.partition("/")[0]] += count
        left_out = sum((Counter(chunk["left_out"]) for chunk in chunks), Counter[str]())
        return cls(clips, dict(left_out.most_common()), skipped, remarks, state["still_gap"], missing)


@final
class Chunks:
    """The folder of a data set, finished or not.

    Args:
        output: the final folder.
    """

    def __init__(self, output: Path):
        self.output = output
        self.partial = output.with_name(f"{output.name}.partial")

    @property
    def is_whole(self) -> bool:
        """Whether the final folder exists and is not empty (it may hold something else)."""
        return self.output.is_dir() and any(self.output.iterdir())

    @property
    def is_begun(self) -> bool:
        return (self.partial / SETTINGS_FILE).is_file()

    def state(self) -> dict[str, Any]:
        """The saved state, with the records of all finished chunks.

        Raises:
            BadValue: the folder holds something else, or a record is damaged.
        """
        folder = self.output if self.is_whole else self.partial
        file = folder / SETTINGS_FILE
        if not file.is_file():
            raise BadValue("output", folder, "a new or empty folder: it holds files already")
        state = _read(file, STATE)
        records = {int(path.stem): _read(path, CHUNK) for path in (folder / "chunks").glob("*.json")}
        return {**state, "chunks": {int(number): found for number, found in state["chunks"].items()} | records}

    def begin(self, state: dict[str, Any]) -> None:
        """Creates the folder; ``state`` has no chunks yet."""
        (self.partial / "chunks").mkdir(parents=True, exist_ok=True)
        _save(self.partial / SETTINGS_FILE, state)

    def is_done(self, number: int) -> bool:
        """Whether the chunk has been written."""
        return self._record(number).is_file()

    def save(self, number: int, record: Record) -> None:
        """Marks the chunk as done. Call it after its shards are written."""
        _save(self._record(number), record)

    def finish(self, metadata: Mapping[str, DatasetMetadata]) -> None:
        """Completes the data set with the ``metadata`` of every folder. It can be called again after a kill."""
        state = trainable(self.state())
        for given, folder in state.get("moved", {}).items():
            if (self.partial / given).is_dir():
                os.rename(self.partial / given, self.partial / folder)
        for folder in state.get("dropped", ()):
            shutil.rmtree(self.partial / folder, ignore_errors=True)
        chunks, skipped = dict(sorted(state["chunks"].items())), Encoded.of(state).skipped
        write_report(self.partial, [row for chunk in chunks.values() for row in chunk["rows"]], skipped)
        names: defaultdict[str, list[str]] = defaultdict(list)
        for folder in sorted(set().union(*(chunk["clips"] for chunk in chunks.values()))):
            for number, shard in enumerate(sorted((self.partial / folder).glob("shard-*.tar"), key=_number)):
                os.rename(shard, shard.with_name(_shard(number)))  # no gaps for chunks without clips in this folder
            count = sum(chunk["clips"].get(folder, 0) for chunk in chunks.values())
            replace(metadata[folder], num_samples=count).save(self.partial / folder)
            split, _, size = folder.partition("/")
            if size:
                names[split].append(size)
        for split, sizes in names.items():
            _save(self.partial / split / BUCKETS_FILE, sizes)
        brief = {number: {**chunk, "rows": []} for number, chunk in chunks.items()}
        _save(self.partial / SETTINGS_FILE, {**state, "chunks": brief})
        for lock in self.partial.glob(".*.lock"):
            lock.unlink()
        if self.output.is_dir():
            self.output.rmdir()  # empty
        os.rename(self.partial, self.output)
        shutil.rmtree(self.output / "chunks", ignore_errors=True)

    def _record(self, number: int) -> Path:
        return self.partial / "chunks" / f"{number:05d}.json"


class Made(NamedTuple):
    """A clip that was encoded, or left out for its quality.

    Attributes:
        folder: folder of its shard, relative to the output.
        key: key of the sample.
        sample: None if the clip is left out.
        measures: its quality measures.
        fault: why it is left out; empty if it is kept.
    """

    folder: str
    key: str
    sample: Sample | None
    measures: Measures
    fault: str

    @property
    def row(self) -> list[Any]:
        """Its row in the report's table."""
        return [self.key, self.folder, *self.measures, self.fault]


@final
class ChunkWriter:
    """Writes the shards of one chunk, one per folder, and makes its record.

    Args:
        root: parent of the folders.
        number: number of the chunk.
        metadata: metadata of the samples, by folder.
    """

    def __init__(self, root: Path, number: int, metadata: Mapping[str, DatasetMetadata]):
        self.root, self.number, self.metadata = root, number, metadata
        self.shards: dict[str, ShardWriter] = {}
        self.marks: dict[str, tuple[int, int]] = {}
        self.rows: list[list[Any]] = []  # of the current video
        self.record: Record = {"clips": {}, "left_out": {}, "skipped": {}, "remarks": {}, "rows": []}

    def take(self, items: Sequence[tuple[Video, Made | Done]]) -> None:
        """Writes clips. If a video ends with a fault, its clips are removed again."""
        for video, item in items:
            if isinstance(item, Done):
                self._end(video, item)
            else:
                self.rows.append(item.row)
                if item.sample is not None:
                    self._shard(item.folder).add(item.sample)

    def close(self) -> Record:
        """Closes the shards and gives them their final names; returns the record."""
        for folder, shard in self.shards.items():
            shard.close()
            if shard.added:
                os.replace(shard.path, self.root / folder / _shard(self.number))
                self.record["clips"][folder] = len(shard.added)
            else:
                shard.path.unlink()
        self.record["left_out"] = counted(self.record["rows"])
        return self.record

    def _shard(self, folder: str) -> ShardWriter:
        if folder not in self.shards:
            path = (self.root / folder / _shard(self.number)).with_suffix(".part")
            path.parent.mkdir(parents=True, exist_ok=True)
            self.shards[folder] = ShardWriter(path, self.metadata[folder], set())
        return self.shards[folder]

    def _end(self, video: Video, done: Done) -> None:
        if done.fault:
            self.record["skipped"][video.name] = done.fault
            for folder, shard in self.shards.items():
                shard.back_to(self.marks.get(folder, (0, 0)))
        else:
            self.record["rows"] += self.rows
            self.record["remarks"] |= {video.name: done.remarks} if done.remarks else {}
        self.rows = []
        self.marks = {folder: shard.mark() for folder, shard in self.shards.items()}


def trainable(state: dict[str, Any]) -> dict[str, Any]:
    """The state without clip sizes that only held-out clips have, because training refuses such a data set.

    Clips of such a size become training clips; ``moved`` names their folders. A video that is held out as a whole must
    not be in both splits. So if it has clips of such a size and other clips that stay held out, the folder of that size
    is left out; ``dropped`` names it.
    """
    train, val = SPLITS
    chunks = state["chunks"].values()
    made = set().union(*(chunk["clips"] for chunk in chunks))
    held_out = {folder: train + folder.removeprefix(val) for folder in sorted(made) if folder.startswith(f"{val}/")}
    alone = {folder: own for folder, own in held_out.items() if own not in made}
    if not alone or len(held_out) == len(made):  # without training clips, the data set is refused
        return state
    folders: defaultdict[str, set[str]] = defaultdict(set)  # by video
    for key, folder, *_, fault in (row for chunk in chunks for row in chunk["rows"]):
        if not fault:
            folders[_video_key(key)].add(folder)
    whole = [own for own in folders.values() if own <= held_out.keys() and not own <= alone.keys()]
    dropped = alone.keys() & set().union(*whole)
    moved = {folder: own for folder, own in alone.items() if folder not in dropped}

    def changed(chunk: Record) -> Record:
        rows = [
            [key, moved.get(folder, folder), *measures, fault or (LONE_SIZE if folder in dropped else "")]
            for key, folder, *measures, fault in chunk["rows"]
        ]
        clips = {moved.get(folder, folder): n for folder, n in chunk["clips"].items() if folder not in dropped}
        return {**chunk, "clips": clips, "rows": rows, "left_out": counted(rows)}

    changes = {"moved": moved, "dropped": sorted(dropped)}
    return {**state, "chunks": {number: changed(chunk) for number, chunk in state["chunks"].items()}, **changes}


def training_videos(state: dict[str, Any]) -> set[str]:
    """The keys of the videos that have training clips."""
    rows = (row for chunk in state["chunks"].values() for row in chunk["rows"])
    return {_video_key(key) for key, folder, *_, fault in rows if not fault and folder.startswith(SPLITS[0])}


def dealt(videos: Sequence[Video], size: int) -> list[list[Video]]:
    """Chunks of ``size`` videos, ordered by a hash of their keys.

    The chunks are the same for every process, and each mixes long and short videos.
    """
    ordered = sorted(videos, key=lambda video: derived_seed("chunk", video.key))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _video_key(key: str) -> str:
    """The key of the video that a clip's key begins with."""
    return key.rsplit("-", 3)[0]


def _shard(number: int) -> str:
    return f"shard-{number:05d}.tar"


def _number(shard: Path) -> int:
    return int(shard.stem.removeprefix("shard-"))


def _read(file: Path, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """A file of :func:`_save`; raises :class:`BadValue`, with its name, if it is damaged."""
    found = read_stored("output", file, dict)
    if wrong := [name for name, kind in kinds.items() if not of_kind(found.get(name), kind)]:
        raise BadValue("output", file, f"a file that prepare encode wrote: {wrong[0]} is missing or has the wrong type")
    return found


def _save(file: Path, content: Any) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, file)

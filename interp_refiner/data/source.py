"""The clips of a data set: where they are, how they are read, and what they are."""

import logging
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.data.anchors import Anchors, AnchorShards
from interp_refiner.data.dataset import ShardDataset, check_declaration, check_fingerprints
from interp_refiner.data.lock import locked
from interp_refiner.data.mirror import Mirror
from interp_refiner.data.mixed import Dataset, MixedDataset, bucket_names, mixed, spec_of
from interp_refiner.data.shards import DATASET_FILE, BadSample, DatasetMetadata
from interp_refiner.data.shards.remote import is_url
from interp_refiner.data.stores import Stores, inside
from interp_refiner.data.text_dropout import TextDropout

log = logging.getLogger(__name__)


@runtime_checkable
class Writer(Protocol):
    """Makes a data set that is computed rather than collected."""

    def write(self, root: Path) -> None:
        """Writes ``<root>/train`` and ``<root>/val``; returns at once where they stand."""


@dataclass(frozen=True)
class Reading:
    """How shards are read.

    Attributes:
        cache_dir: a local folder for what is derived from shards (their index); None keeps nothing.
        on_bad_sample: ``"error"`` stops at a bad sample, ``"skip"`` goes on without it; both name it.
        threads: samples read at the same time, for training and for validation each.
        read_ahead: batches read beyond the one that is waited for.
        timeout: seconds after which a sample that does not arrive is an error.
        seed: of the order of training samples.
        index_threads: shards indexed at the same time; a remote store that is slow to answer wants more.
        checksums: hold all that is read against its checksums, which takes longer than reading it from memory.
    """

    cache_dir: str | None = None
    on_bad_sample: Literal["error", "skip"] = "error"
    threads: int = 4
    read_ahead: int = 2
    timeout: float = 600.0
    seed: int = 0
    index_threads: int = 8
    checksums: bool = False


@dataclass(frozen=True)
class ClipSource:
    """What ``data=...`` says of a data set; :meth:`open` gives its clips.

    Attributes:
        root: a folder with ``train/`` and ``val/``, each with shards and, unless ``metadata`` declares them, a
            ``dataset.json``; or a folder that holds the shards itself, of which ``held_out`` samples become ``val``.
            Either may be the URL of a remote store.
        batch_size: training samples a process.
        val_batch_size: (sample, level) pairs in a batch of validation.
        val_samples: validate on so many of the held-out clips, always the same ones; None for all.
        val_split: the folder below ``root`` that is validated on.
        held_out: of a folder that is not split: samples kept out of training, chosen by their keys.
        metadata: shapes and normalisation, for shards without a ``dataset.json``.
        writer: makes the data set in ``root`` if it is not there.
        reading: how shards are read.
        anchors: where proposals are, for scheduled sampling or a schedule that needs them; not looked at otherwise.
        text_dropout: takes prompts from some training clips.
        mirror: shows some training clips in mirror.
        still_keyframes: share of the given keyframes that are encoded from stills in training.
        fingerprint: of the settings that the data set was made with; None takes any.
        stores: how remote stores are reached.

    Raises:
        BadValue: a size below 1, or a share outside 0..1.
    """

    root: str
    batch_size: int = 8
    val_batch_size: int = 16
    val_samples: int | None = None
    val_split: str = "val"
    held_out: int = 64
    metadata: DatasetMetadata | None = None
    writer: Writer | None = None
    reading: Reading = field(default_factory=Reading)
    anchors: Anchors | None = None
    text_dropout: TextDropout = field(default_factory=lambda: TextDropout(0.0))
    mirror: Mirror = field(default_factory=Mirror)
    still_keyframes: float = 0.0
    fingerprint: str | None = None
    stores: Stores = field(default_factory=Stores)

    def __post_init__(self) -> None:
        for name in ("batch_size", "val_batch_size", "held_out"):
            if (size := getattr(self, name)) < 1:
                raise BadValue(name, size, "at least 1")
        if not 0 <= self.still_keyframes <= 1:
            raise BadValue("still_keyframes", self.still_keyframes, "a probability from 0 to 1")

    @property
    def place(self) -> Path | str:
        """The root as a local folder, or as a URL."""
        return self.root if is_url(self.root) else Path(self.root).expanduser()

    @property
    def splits(self) -> tuple[str, str]:
        """The folders of training and of validation."""
        return "train", self.val_split

    def is_split(self) -> bool:
        """Whether training and validation have folders of their own."""
        return all(self._buckets(split) for split in self.splits)

    def validate(self) -> None:
        """Refuses, with :class:`BadValue`, a root without data that nothing makes; cheap."""
        place = self.place
        if self.writer is not None and not isinstance(place, Path):
            raise BadValue("root", place, "a local folder, because the data set is written there")
        if self.writer is None and not self.is_split() and not self._holds_shards(place):
            expected = "a folder with train/ and val/, each with shards (shard-00000.tar ...)"
            absent = isinstance(place, Path) and not place.is_dir()
            raise BadValue("root", place, expected + (": no such folder" if absent else ""))

    def open(self) -> "Clips":
        """The clips: written first if there is a writer and no data, then indexed. Safe in many processes at once.

        Raises:
            BadValue: there is no data, it is not what is declared, or it was made with other settings.
        """
        self.validate()
        place = self.place
        if self.writer is not None and isinstance(place, Path):
            whole = all((place / split / DATASET_FILE).exists() for split in self.splits)
            with nullcontext() if whole else locked(place):
                self.writer.write(place)
        try:
            train, val = self._datasets()
        except BadSample as fault:
            raise BadValue("root", place, f"whole samples, or reading.on_bad_sample=skip: {fault}") from fault
        for dataset in (train, val):
            for part in dataset.parts if isinstance(dataset, MixedDataset) else [dataset]:
                check_declaration(part)
        shapes = [(d.shapes, d.metadata.text_shape, d.metadata.context_shape) for d in (train, val)]
        if shapes[0][1:] != shapes[1][1:] or not set(shapes[1][0]) <= set(shapes[0][0]):
            raise BadValue("root", place, "train and val of one shape, not {} {}".format(*shapes))
        check_fingerprints(self.fingerprint, train.metadata, val.metadata)
        log.info("%s: %d samples in %d shards to train on, %d held out", place, len(train), train.num_shards, len(val))
        return Clips(self, train, val)

    def _datasets(self) -> tuple[Dataset, Dataset]:
        if not self.is_split():
            return self._dataset(self.place).split(self.held_out)
        train, val = (mixed([self._dataset(folder) for folder in self._buckets(split)]) for split in self.splits)
        return train, val

    def _dataset(self, folder: Path | str) -> ShardDataset:
        reading = self.reading
        return ShardDataset(
            self.stores.open(folder),
            self.metadata,
            reading.cache_dir,
            reading.on_bad_sample,
            reading.index_threads,
            checksums=reading.checksums,
        )

    def _buckets(self, split: str) -> list[Path | str]:
        """The folders with the shards of a split: its own, or one for every size of clips."""
        folder = inside(self.place, split)
        if self._holds_shards(folder):
            return [folder]
        return [inside(folder, name) for name in bucket_names(self.stores.open(folder))]

    def _holds_shards(self, folder: Path | str) -> bool:
        return self.stores.open(folder).holds_shards()


@dataclass(frozen=True)
class Clips:
    """An opened data set.

    Attributes:
        source: what it was opened from.
        train: the training clips.
        val: the held-out clips.
    """

    source: ClipSource
    train: Dataset
    val: Dataset

    @property
    def spec(self) -> ClipSpec:
        """What other parts get to know of the clips."""
        return spec_of(self.train)

    def anchors(self) -> tuple[AnchorShards, AnchorShards]:
        """The proposals of the training and of the held-out clips, made first if there is a source.

        Raises:
            BadValue: nobody says where they are, there are none, or they are not of these clips.
        """
        anchors = self.source.anchors
        if anchors is None:
            allowed = "a node with root=<folder of anchor shards>: scheduled sampling or the schedule needs proposals"
            raise BadValue("data.anchors", None, allowed)
        if not isinstance(self.train, ShardDataset) or not isinstance(self.val, ShardDataset):
            raise BadValue("data.anchors", anchors.root, "null with clips of several sizes: they have no proposals yet")
        anchors.validate()
        cache_dir, (train, val) = self.source.reading.cache_dir, self.source.splits
        return anchors.open(train, self.train, cache_dir), anchors.open(val, self.val, cache_dir)

    def describe(self) -> dict[str, Any]:
        """What is trained on: ``pattern`` of the shards, and how many ``shards`` and ``samples`` there are."""
        source = self.source
        place = inside(source.place, source.splits[0]) if source.is_split() else str(source.place)
        return {"pattern": f"{place}/shard*.tar", "shards": self.train.num_shards, "samples": len(self.train)}

"""The settings of a data set, and its opened clips."""

import logging
import os
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from interp_refiner.core import BadValue, ClipSpec, check_least
from interp_refiner.data.anchors import Anchors, AnchorShards
from interp_refiner.data.dataset import ShardDataset
from interp_refiner.data.declaration import check_declaration, check_fingerprints
from interp_refiner.data.generated import refuse_foreign
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
    """Writes a synthetic data set."""

    def write(self, root: Path) -> None:
        """Writes ``<root>/train`` and ``<root>/val``; returns at once if they exist."""


@dataclass(frozen=True)
class Reading:
    """How shards are read.

    Attributes:
        cache_dir: a local folder for the index of the shards; None keeps no index.
        on_bad_sample: ``"error"`` stops at a bad sample, ``"skip"`` continues without it; both name it.
        threads: samples read at the same time, separately for training and validation.
        read_ahead: number of batches to read in advance.
        timeout: seconds after which a sample that does not arrive is an error.
        seed: of the order of training samples.
        index_threads: shards indexed at the same time; use more for a remote store with slow responses.
        checksums: compare everything that is read with its checksum; this takes longer than reading it from memory.
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
    """The settings of a data set (config group ``data``); :meth:`open` returns its clips.

    Attributes:
        root: a folder with ``train/`` and ``val/``, each with shards and, unless ``metadata`` declares them, a
            ``dataset.json``; or a folder that holds the shards itself, of which ``held_out`` samples become ``val``.
            Either may be the URL of a remote store.
        batch_size: training samples per process.
        val_batch_size: (sample, level) pairs per validation batch.
        val_samples: number of held-out clips used for validation, always the same ones; None for all.
        val_split: the folder below ``root`` with the validation clips.
        held_out: for a folder without splits: number of samples kept for validation, chosen by their keys.
        metadata: shapes and normalisation, for shards without a ``dataset.json``.
        writer: makes the data set in ``root`` if it is missing.
        reading: how shards are read.
        anchors: where the proposals are; used only if scheduled sampling or the schedule needs them.
        text_dropout: removes the prompts of some training clips.
        mirror: mirrors some training clips.
        still_keyframes: share of the given keyframes that training encodes from stills.
        fingerprint: required fingerprint of the data set's settings; None accepts any.
        stores: how remote stores are accessed.

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
        check_least(self, batch_size=1, val_batch_size=1, held_out=1)
        if not 0 <= self.still_keyframes <= 1:
            raise BadValue("still_keyframes", self.still_keyframes, "a probability from 0 to 1")

    @property
    def place(self) -> Path | str:
        """The root as a local folder, or as a URL."""
        return self.root if is_url(self.root) else Path(self.root).expanduser()

    @property
    def written_shape(self) -> tuple[int, ...] | None:
        """The shape of the clips that the writer makes; None without a writer, or with one that does not say."""
        shape = getattr(self.writer, "latent_shape", None)
        return None if shape is None else tuple(shape)

    @property
    def splits(self) -> tuple[str, str]:
        """The names of the training and validation folders."""
        return "train", self.val_split

    def is_split(self) -> bool:
        """Whether training and validation clips are in separate folders."""
        return all(self._buckets(split) for split in self.splits)

    def validate(self) -> None:
        """Raises :class:`BadValue` if there is no data and no writer, or if a writer would write beside other shards.

        A quick check: it opens no shard.
        """
        place = self.place
        if self.writer is not None:
            if not isinstance(place, Path):
                raise BadValue("root", place, "a local folder, because the data set is written there")
            refuse_foreign(place, self.splits)
        if self.writer is None and not self.is_split() and not self._holds_shards(place):
            expected = "a folder with train/ and val/, each with shards (shard-00000.tar ...)"
            absent = isinstance(place, Path) and not place.is_dir()
            why = ": this is a file" if os.path.isfile(place) else ": no such folder" if absent else ""
            raise BadValue("root", place, expected + why)

    def open(self) -> "Clips":
        """Writes the data set if it is missing and there is a writer, then indexes it. Safe in many processes at once.

        Raises:
            BadValue: there is no data, it contradicts its declaration, or it was made with other settings.
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
            raise BadValue("root", place, f"undamaged samples, or reading.on_bad_sample=skip: {fault}") from fault
        for dataset in (train, val):
            for part in dataset.parts if isinstance(dataset, MixedDataset) else [dataset]:
                check_declaration(part)
        shapes = [(d.shapes, d.metadata.text_shape, d.metadata.context_shape) for d in (train, val)]
        if shapes[0][1:] != shapes[1][1:] or not set(shapes[1][0]) <= set(shapes[0][0]):
            allowed = "train and val of one shape, not {} {}: set cut.held_out_videos or cut.buckets of prepare encode"
            raise BadValue("root", place, allowed.format(*shapes))
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
        """The folders with the shards of a split: the split's own folder, or one per clip size."""
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
        source: its settings.
        train: the training clips.
        val: the held-out clips.
    """

    source: ClipSource
    train: Dataset
    val: Dataset

    @property
    def spec(self) -> ClipSpec:
        """Shapes and statistics of the clips, for other parts of the project."""
        return spec_of(self.train)

    def anchors(self) -> tuple[AnchorShards, AnchorShards]:
        """The proposals of the training and of the held-out clips; an anchor source makes missing ones first.

        Raises:
            BadValue: no ``data.anchors`` setting, no anchors there, or anchors of other clips.
        """
        anchors = self.source.anchors
        if anchors is None:
            allowed = "a node with root=<folder of anchor shards>: scheduled sampling or the schedule needs proposals"
            raise BadValue("data.anchors", None, allowed)
        if not isinstance(self.train, ShardDataset) or not isinstance(self.val, ShardDataset):
            raise BadValue("data.anchors", anchors.root, "null with clips of several sizes: they have no proposals yet")
        anchors.validate()
        reading, (train, val) = self.source.reading, self.source.splits
        return (
            anchors.open(train, self.train, reading.cache_dir, reading.checksums),
            anchors.open(val, self.val, reading.cache_dir, reading.checksums),
        )

    def describe(self) -> dict[str, Any]:
        """The training data: the shards' ``pattern``, and the numbers of ``shards`` and ``samples``."""
        source = self.source
        place = inside(source.place, source.splits[0]) if source.is_split() else str(source.place)
        return {"pattern": f"{place}/shard*.tar", "shards": self.train.num_shards, "samples": len(self.train)}

"""The data module: finds or makes the shards, deals them out, and corrupts clips on their device."""

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import lightning as L
import torch

from interp_refiner.core import BadValue, Clip, Corrupted
from interp_refiner.data.anchors import Anchors, AnchorShards
from interp_refiner.data.batch_reader import BatchReader
from interp_refiner.data.codec import Codec
from interp_refiner.data.dataset import ShardDataset, check_declaration, check_fingerprints
from interp_refiner.data.loader import EvalLoader, TrainLoader
from interp_refiner.data.lock import locked
from interp_refiner.data.order import fixed_order
from interp_refiner.data.shards import DATASET_FILE, BadSample, DatasetMetadata
from interp_refiner.data.shards.remote import is_url
from interp_refiner.data.still_keyframes import check_still_keyframes, with_still_keyframes
from interp_refiner.data.stores import Stores, inside
from interp_refiner.data.text_dropout import TextDropout
from interp_refiner.forward.corruption import TRAIN_STREAM, Corruption

if TYPE_CHECKING:
    from interp_refiner.evaluation.medium import Medium

log = logging.getLogger(__name__)

EVALUATION_STREAM = "val"


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


class ShardedDataModule(L.LightningDataModule):
    """Shards -> :class:`Clip` -> (on the device) :class:`Corrupted`.

    Training clips come in an endless shuffled order, corrupted under the stream ``"train"`` with their epochs. Held-out
    clips come once at every level 1..S, corrupted under ``"val"``: the same in every run of validation.

    Args:
        root: a folder with ``train/`` and ``val/``, each with shards and, unless ``metadata`` declares them, a
            ``dataset.json``; or a folder that holds the shards itself, of which ``held_out`` samples become ``val``.
            Either may be the URL of a remote store.
        corruption: applied on the device, without gradient.
        batch_size: training samples a process.
        val_batch_size: (sample, level) pairs in a batch of validation.
        val_samples: validate on so many of the held-out clips, always the same ones; None for all.
        val_split: the folder below ``root`` that is validated on.
        held_out: of a folder that is not split: samples kept out of training, chosen by their keys.
        metadata: shapes and normalisation, for shards without a ``dataset.json``.
        writer: makes the data set in ``root`` if it is not there.
        reading: how shards are read.
        anchors: where proposals are, for scheduled sampling or a schedule that needs them; not looked at otherwise.
        text_dropout: takes prompts from some training clips; None for never.
        still_keyframes: share of the given keyframes that are encoded from stills in training.
        fingerprint: of the settings that the data set was made with; None takes any.
        stores: how remote stores are reached.

    Raises:
        BadValue: from :meth:`validate` and :meth:`prepare_data` where there is no data, or not the data declared.
    """

    def __init__(
        self,
        root: str,
        corruption: Corruption,
        batch_size: int = 8,
        val_batch_size: int = 16,
        val_samples: int | None = None,
        val_split: str = "val",
        held_out: int = 64,
        metadata: DatasetMetadata | None = None,
        writer: Writer | None = None,
        reading: Reading | None = None,
        anchors: Anchors | None = None,
        text_dropout: TextDropout | None = None,
        still_keyframes: float = 0.0,
        fingerprint: str | None = None,
        stores: Stores | None = None,
    ):
        super().__init__()
        for name, size in {"batch_size": batch_size, "val_batch_size": val_batch_size, "held_out": held_out}.items():
            if size < 1:
                raise BadValue(name, size, "at least 1")
        self.root, self.corruption = root if is_url(root) else Path(root).expanduser(), corruption
        self.batch_size, self.val_batch_size = batch_size, val_batch_size
        self.val_samples, self.held_out = val_samples, held_out
        self.splits = ("train", val_split)
        self.anchors = anchors
        self.declared, self.writer = metadata, writer
        self.reading, self.stores = reading or Reading(), stores or Stores()
        self.text_dropout = text_dropout or TextDropout(0.0)
        check_still_keyframes(still_keyframes, None)
        self.still_keyframes, self.fingerprint = still_keyframes, fingerprint
        self.codec: Codec  # of the latents; see use_codec
        self.medium: Medium  # what the clips are, for pictures and metrics; the program sets it
        self._readers: dict[str, BatchReader] = {}
        self._loader: TrainLoader | None = None  # of training

    @property
    def metadata(self) -> DatasetMetadata:
        """Shapes, codec and normalisation of the training set; known once :meth:`prepare_data` has run."""
        self.prepare_data()
        return self._readers["train"].clips.metadata

    def use_codec(self, codec: Codec) -> None:
        """The codec of the latents, for pictures and for stills; refuses one that cannot make the stills asked for."""
        check_still_keyframes(self.still_keyframes, codec)
        self.codec = codec

    def validate(self) -> None:
        """Refuses a root without data, or a method that needs other data; cheap, for before anything is built."""
        if self.writer is not None and not isinstance(self.root, Path):
            raise BadValue("root", self.root, "a local folder, since the data set is written there")
        if self.writer is None and not self._is_split() and not self._holds_shards(self.root):
            expected = "a folder with train/ and val/, each with shards (shard-00000.tar ...)"
            absent = isinstance(self.root, Path) and not self.root.is_dir()
            raise BadValue("root", self.root, expected + (": no such folder" if absent else ""))
        if self._needs_anchors:
            if self.anchors is None:
                allowed = (
                    "a node with root=<folder of anchor shards>: scheduled sampling or the schedule needs proposals"
                )
                raise BadValue("data.anchors", None, allowed)
            self.anchors.validate()

    def prepare_data(self) -> None:
        """Makes the data set if there is a writer and no data, and indexes it. Safe in many processes at once."""
        if self._readers:
            return
        self.validate()
        if self.writer is not None and isinstance(self.root, Path):
            whole = all((self.root / split / DATASET_FILE).exists() for split in self.splits)
            with nullcontext() if whole else locked(self.root):
                self.writer.write(self.root)
        try:
            datasets = self._datasets()
        except BadSample as fault:
            raise BadValue("root", self.root, f"whole samples, or reading.on_bad_sample=skip: {fault}") from fault
        for dataset in datasets:
            check_declaration(dataset)
        train, val = (dataset.metadata for dataset in datasets)
        shapes = [(m.latent_shape, m.text_shape, m.context_shape) for m in (train, val)]
        if shapes[0] != shapes[1]:
            raise BadValue("root", self.root, "train and val of one shape, not {} {}".format(*shapes))
        check_fingerprints(self.fingerprint, train, val)
        self.corruption.check(train.latent_shape)
        self._readers = {
            name: BatchReader(dataset, self.reading.threads, self.reading.timeout, self._anchors_of(split, dataset))
            for name, split, dataset in zip(("train", "val"), self.splits, datasets, strict=True)
        }

    def setup(self, stage: str) -> None:
        """Opens the data set in this process."""
        self.prepare_data()

    def train_dataloader(self) -> TrainLoader:
        """This process's part of the endless shuffled stream."""
        rank, world_size = self._process()
        reader = self._readers["train"]
        if overfit := int(getattr(self.trainer, "overfit_batches", 0)):
            few = fixed_order(len(reader.clips), overfit * self.batch_size * world_size)
            reader = reader.subset(few)
        dealt = (self.batch_size, self.reading.seed, rank, world_size, self.reading.read_ahead)
        self._loader = TrainLoader(reader, *dealt, accumulated=getattr(self.trainer, "accumulate_grad_batches", 1))
        return self._loader

    def val_dataloader(self) -> EvalLoader:
        """This process's part of the held-out clips at every level."""
        rank, world_size = self._process()
        reader = self._readers["val"]
        num_levels = self.corruption.num_levels(reader.clips.metadata.num_frames)
        return EvalLoader(
            reader, self.val_batch_size, num_levels, self.val_samples, rank, world_size, self.reading.read_ahead
        )

    def test_dataloader(self) -> EvalLoader:
        """As :meth:`val_dataloader`."""
        return self.val_dataloader()

    def predict_dataloader(self) -> EvalLoader:
        """As :meth:`val_dataloader`."""
        return self.val_dataloader()

    def transfer_batch_to_device(self, batch: Clip, device: torch.device, dataloader_idx: int) -> Clip:
        """Copies a batch to the device, where training clips are looked at for numbers that are not finite."""
        if batch.epochs is None or self._loader is None:
            return batch.to(device, non_blocking=True)
        return self._loader.to_device(batch, device)

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: Clip, dataloader_idx: int) -> Corrupted:
        """Corrupts a batch on its device, in the precision of the run (stored half precision becomes float32)."""
        stored = {name: getattr(batch, name) for name in ("latents", "text", "proposals", "context")}
        clip = replace(batch, **{name: value.float() for name, value in stored.items() if value is not None})
        clip = self.text_dropout(clip)
        if self.trainer is not None:
            clip = self.trainer.precision_plugin.convert_input(clip)
        if clip.epochs is None:
            return self.corruption(clip, EVALUATION_STREAM)
        step = self.trainer.global_step if self.trainer is not None else None
        corrupted = self.corruption(replace(clip, step=step), TRAIN_STREAM)
        if self.still_keyframes == 0:
            return corrupted
        codec = self.codec.to(clip.latents.device)
        return with_still_keyframes(corrupted, self.corruption, codec, self.still_keyframes)

    def describe(self) -> dict[str, Any]:
        """What is trained on: ``pattern`` of the shards, and how many ``shards`` and ``samples`` there are."""
        self.prepare_data()
        clips = self._readers["train"].clips
        place = inside(self.root, self.splits[0]) if self._is_split() else str(self.root)
        return {"pattern": f"{place}/shard*.tar", "shards": len(clips.index.shards), "samples": len(clips)}

    @property
    def skipped(self) -> int:
        """Bad samples left out so far, over training and validation of this process."""
        return sum(reader.skipped for reader in self._readers.values())

    def teardown(self, stage: str) -> None:
        """Closes the files; they open again when they are read again."""
        for reader in self._readers.values():
            reader.close_files()

    def _process(self) -> tuple[int, int]:
        """(rank, number) among the processes that see different data."""
        strategy = getattr(self.trainer, "strategy", None)
        dealt = getattr(strategy, "distributed_sampler_kwargs", {"rank": 0, "num_replicas": 1})
        return dealt["rank"], dealt["num_replicas"]

    def _datasets(self) -> tuple[ShardDataset, ShardDataset]:
        reading = self.reading
        folders = [inside(self.root, split) for split in self.splits] if self._is_split() else [str(self.root)]
        datasets = [
            ShardDataset(
                self.stores.open(folder),
                self.declared,
                reading.cache_dir,
                reading.on_bad_sample,
                reading.index_threads,
                checksums=reading.checksums,
            )
            for folder in folders
        ]
        return (datasets[0], datasets[1]) if len(datasets) > 1 else datasets[0].split(self.held_out)

    @property
    def _needs_anchors(self) -> bool:
        return self.corruption.needs_anchors or (self.anchors is not None and self.anchors.always)

    def _anchors_of(self, split: str, clips: ShardDataset) -> AnchorShards | None:
        if not self._needs_anchors or self.anchors is None:
            return None
        return self.anchors.open(split, clips, self.reading.cache_dir)

    def _is_split(self) -> bool:
        return all(self._holds_shards(inside(self.root, split)) for split in self.splits)

    def _holds_shards(self, folder: Path | str) -> bool:
        return self.stores.open(folder).holds_shards()

"""The data module: loads clips and corrupts them on the device."""

import copy
from dataclasses import replace
from typing import Any

import lightning as L
import torch

from interp_refiner.core import BadValue, Clip, ClipSpec, Corrupted
from interp_refiner.data.batch_reader import BatchReader
from interp_refiner.data.codec import Codec
from interp_refiner.data.loader import EvalLoader, TrainLoader
from interp_refiner.data.medium import Medium
from interp_refiner.data.order import fixed_order
from interp_refiner.data.source import Clips
from interp_refiner.data.still_keyframes import check_still_keyframes, with_still_keyframes
from interp_refiner.forward.corruption import TRAIN_STREAM, Corruption

EVALUATION_STREAM = "val"


def check_levels(corruption: Corruption, spec: ClipSpec) -> None:
    """Refuses clip lengths with different numbers of levels: a level must mean the same for all clips."""
    levels = {shape[1]: corruption.num_levels(shape[1]) for shape in spec.latent_shapes}
    if len(set(levels.values())) > 1:
        said = ", ".join(f"{count} for {frames} frames" for frames, count in sorted(levels.items()))
        raise BadValue("num_levels", said, "a schedule with the same number of levels for every clip length")


class ShardedDataModule(L.LightningDataModule):
    """Shards -> :class:`Clip` -> (on the device) :class:`Corrupted`.

    Training clips come in an endless shuffled order; their corruption is drawn from the stream ``"train"`` and the
    epoch. Held-out clips come once at every level 1..S; their corruption is drawn from ``"val"``, so it is the same in
    every validation.

    Args:
        clips: the opened data set.
        corruption: applied on the device, without gradient.
        codec: of the latents, for keyframes that are encoded from stills; may be None if there are no such keyframes.
        medium: shows the clips as pictures; None if none are made.

    Raises:
        BadValue: clips that the corruption does not accept, a codec that cannot encode the requested stills, or missing
            proposals that the corruption needs.
    """

    def __init__(self, clips: Clips, corruption: Corruption, codec: Codec | None = None, medium: Medium | None = None):
        super().__init__()
        self.clips, self.source, self.corruption, self.medium = clips, clips.source, corruption, medium
        check_still_keyframes(self.source.still_keyframes, codec)
        self.source.mirror.check(codec)
        self.reflections = codec.reflections() if codec is not None else ()
        self.codec = codec
        for shape in clips.spec.latent_shapes:
            corruption.check(shape)
        check_levels(corruption, clips.spec)
        anchors, reading = self.source.anchors, self.source.reading
        wanted = corruption.needs_anchors or (anchors is not None and anchors.always)
        proposals = clips.anchors() if wanted else (None, None)
        self._loader: TrainLoader | None = None  # of training
        self._train, self._val = (
            BatchReader(dataset, reading.threads, reading.timeout, of_split)
            for dataset, of_split in zip((clips.train, clips.val), proposals, strict=True)
        )

    def __str__(self) -> str:
        """For notebooks; Lightning's own text needs loaders of its own kind."""
        train, val = (len(reader.clips) for reader in (self._train, self._val))
        return f"{type(self).__name__}({train} training clips and {val} held-out clips {list(self.spec.latent_shape)})"

    @property
    def spec(self) -> ClipSpec:
        """Shapes and statistics of the clips."""
        return self.clips.spec

    def validating(self, samples: int | None = None, batch_size: int | None = None) -> "ShardedDataModule":
        """The same data module, with another number of held-out clips for validation.

        Args:
            samples: number of held-out clips; None for all.
            batch_size: (sample, level) pairs per batch; None keeps the current size.
        """
        other = copy.copy(self)
        size = batch_size or self.source.val_batch_size
        other.source = replace(self.source, val_samples=samples, val_batch_size=size)
        return other

    def train_dataloader(self) -> TrainLoader:
        """This process's part of the endless shuffled stream."""
        rank, world_size = self._process()
        source, reader = self.source, self._train
        if overfit := int(getattr(self.trainer, "overfit_batches", 0)):
            few = fixed_order(len(reader.clips), overfit * source.batch_size * world_size)
            reader = reader.subset(few)
        dealt = (source.batch_size, source.reading.seed, rank, world_size, source.reading.read_ahead)
        self._loader = TrainLoader(reader, *dealt, accumulated=getattr(self.trainer, "accumulate_grad_batches", 1))
        return self._loader

    def val_dataloader(self) -> EvalLoader:
        """This process's part of the held-out clips at every level."""
        source, num_levels = self.source, self.corruption.num_levels(self.spec.num_frames)
        shown = (source.val_batch_size, num_levels, source.val_samples)
        return EvalLoader(self._val, *shown, *self._process(), source.reading.read_ahead)

    def test_dataloader(self) -> EvalLoader:
        """As :meth:`val_dataloader`."""
        return self.val_dataloader()

    def predict_dataloader(self) -> EvalLoader:
        """As :meth:`val_dataloader`."""
        return self.val_dataloader()

    def transfer_batch_to_device(self, batch: Clip, device: torch.device, dataloader_idx: int) -> Clip:
        """Copies a batch to the device and, for training clips, checks there that all numbers are finite."""
        if batch.epochs is None or self._loader is None:
            return batch.to(device, non_blocking=True)
        return self._loader.to_device(batch, device)

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: Clip, dataloader_idx: int) -> Corrupted:
        """Corrupts a batch on its device, in the run's precision (half precision from the shards becomes float32)."""
        stored = {name: getattr(batch, name) for name in ("latents", "text", "proposals", "context")}
        clip = replace(batch, **{name: value.float() for name, value in stored.items() if value is not None})
        clip = self.source.text_dropout(clip)
        if self.trainer is not None:
            clip = self.trainer.precision_plugin.convert_input(clip)
        if clip.epochs is None:
            return self.corruption(clip, EVALUATION_STREAM)
        step = self.trainer.global_step if self.trainer is not None else None
        corrupted = self.corruption(replace(clip, step=step), TRAIN_STREAM)
        if self.codec is None or self.source.still_keyframes == self.source.mirror.probability == 0:
            return corrupted
        codec = self.codec.to(clip.latents.device)
        if self.source.still_keyframes:
            corrupted = with_still_keyframes(corrupted, self.corruption, codec, self.source.still_keyframes)
        return self.source.mirror(corrupted, self.reflections)

    def describe(self) -> dict[str, Any]:
        """The training data, see :meth:`Clips.describe`."""
        return self.clips.describe()

    @property
    def skipped(self) -> int:
        """The number of bad samples that this process has skipped so far, in training and validation."""
        return self._train.skipped + self._val.skipped

    def teardown(self, stage: str) -> None:
        """Closes the files; the next read opens them again."""
        for reader in (self._train, self._val):
            reader.close_files()

    def _process(self) -> tuple[int, int]:
        """(rank, number of processes), counting the processes that get different data."""
        strategy = getattr(self.trainer, "strategy", None)
        dealt = getattr(strategy, "distributed_sampler_kwargs", {"rank": 0, "num_replicas": 1})
        return dealt["rank"], dealt["num_replicas"]

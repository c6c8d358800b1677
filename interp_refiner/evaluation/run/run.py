"""A trained model together with its config, data and codec."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import lightning as L
from omegaconf import DictConfig, OmegaConf

from interp_refiner.config import build
from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.data import ShardedDataModule
from interp_refiner.data.codec import Codec
from interp_refiner.data.medium import Medium
from interp_refiner.data.text import TextEncoder
from interp_refiner.evaluation.records.records import Evaluation, newest_evaluation
from interp_refiner.training import KeyframeGenerator, Refiner, sampler_notes
from interp_refiner.training.perceptual import PERCEPTUAL


@dataclass
class Run:
    """A model (trained or about to be trained) with everything that belongs to it.

    Attributes:
        config: resolved; for an exported folder, from ``model_index.json``.
        module: the LightningModule.
        codec: converts between its latents and pixels.
        spec: of its clips.
        loader: the data module; None for an exported folder, see :attr:`data`.
        folder: the run folder or exported folder; None for new weights.
        checkpoint: the file of the weights, or the exported folder; None for new weights.
    """

    config: DictConfig
    module: L.LightningModule
    codec: Codec
    spec: ClipSpec
    loader: ShardedDataModule | None = None
    folder: Path | None = None
    checkpoint: Path | None = None

    @property
    def data(self) -> ShardedDataModule:
        """The data module: ``run.data.val_dataloader()`` gives held-out clips.

        Raises:
            BadValue: an exported folder has no data.
        """
        if self.loader is None:
            raise BadValue("checkpoint", self.checkpoint, "a run folder: an exported folder has no data")
        return self.loader

    @property
    def medium(self) -> Medium:
        """The medium of its clips; raises :class:`BadValue` if there is none."""
        if self.data.medium is None:
            raise BadValue("medium", None, "what the clips are: video | maze")
        return self.data.medium

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """The newest result of ``interp_refiner.evaluate``; None if it was not evaluated."""
        found = newest_evaluation(self.folder) if self.folder is not None else None
        return None if found is None else found[0]

    @property
    def perceptual(self) -> bool:
        """Whether a perceptual loss was added to the objective's."""
        own, stored = (OmegaConf.select(self.config, key) for key in ("training.perceptual", "trained"))
        return own is not None or (stored or {}).get(PERCEPTUAL) is not None

    def sampler_notes(self) -> list[str]:
        """Where its refiner's sampler differs from what the refiner was trained for."""
        refiner = self.refiner
        return sampler_notes(refiner.objective, refiner.sampler, refiner.corruption, self.perceptual)

    @property
    def refiner(self) -> Refiner:
        """The module, if the run trained a refiner; else raises :class:`BadValue`."""
        if not isinstance(self.module, Refiner):
            raise BadValue("checkpoint", self.checkpoint, f"a refiner's run, not {self._trained}")
        return self.module

    @property
    def generator(self) -> KeyframeGenerator:
        """The module, if the run trained a keyframe generator; else raises :class:`BadValue`.

        ``run.generator.source(sampler)`` makes keyframes.
        """
        if not isinstance(self.module, KeyframeGenerator):
            raise BadValue("keyframes", self.checkpoint, f"a run of +experiment=keyframes, not {self._trained}")
        return self.module

    @property
    def _trained(self) -> str:
        return f"one of {type(self.module).__name__}"

    def showing(self, clips: int | None, batch_size: int | None = None) -> "Run":
        """The same run with another number of validation clips; see :meth:`ShardedDataModule.validating`."""
        return replace(self, loader=self.data.validating(clips, batch_size))

    def in_batches(self, clips: int) -> "Run":
        """The same run with at least ``clips`` clips, at all their levels, in every validation batch.

        No batch has a single clip, because keyframes are shuffled among the clips of a batch.

        Raises:
            BadValue: fewer than 2 held-out clips of some size.
        """
        loader = self.data.val_dataloader()
        held_out = {sample for batch in loader.batches for sample, _ in batch}
        counts = [sum(sample in rows for sample in held_out) for rows in loader.reader.clips.buckets]
        size = clips_per_batch(clips, [count for count in counts if count])
        return self.showing(self.data.source.val_samples, self.num_levels * size)

    def to(self, device: str) -> "Run":
        """Moves the networks; returns itself."""
        self.module.to(device)
        self.medium.to(device)
        return self

    @property
    def held_out_pairs(self) -> int:
        """The number of (clip, level) pairs in validation."""
        return sum(map(len, self.data.val_dataloader().batches))

    @property
    def num_levels(self) -> int:
        """S, the sparsest level of its clips."""
        return self.refiner.corruption.num_levels(self.spec.num_frames)


def clips_per_batch(least: int, counts: Sequence[int]) -> int:
    """The smallest number of clips per batch, at least ``least``, with which no batch has a single clip.

    Args:
        least: 2 or more.
        counts: the number of clips of every size; a batch has clips of one size.

    Raises:
        BadValue: there is no clip, or a single one of some size.
    """
    if min(counts, default=0) < 2:
        raise BadValue("clips", sum(counts), "at least 2 held-out clips of every size")
    return next(size for size in range(least, least + max(counts)) if all(count % size != 1 for count in counts))


def load_text_encoder(run: Run) -> TextEncoder:
    """The run's prompt encoder: ``encoder.encode(["a cat"])`` gives a ``Clip``'s ``text``.

    It is built only on request, because training reads stored embeddings and Wan's umT5 is 11 GB. Set the folder of its
    weights with ``load_run(path, overrides={"text": node})``.

    Raises:
        BadValue: the data set has no prompts, its encoder needs a folder, or the encoder differs from the data set's.
    """
    if run.spec.text_shape is None:
        raise BadValue("text", "declared", "no prompt, because the data set has no prompt embeddings")
    return build(run.config.text, spec=run.spec)


def text_or_none(run: Run) -> TextEncoder | None:
    """The encoder of the run's prompts; None without prompts, or if it needs weights and was not configured."""
    if run.spec.text_shape is None:
        return None
    try:
        return load_text_encoder(run)
    except BadValue as error:
        if error.value == "declared":
            return None
        raise

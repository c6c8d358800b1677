"""A trained model with everything it was trained with."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import lightning as L
from omegaconf import DictConfig

from interp_refiner.config import build
from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.data import ShardedDataModule
from interp_refiner.data.codec import Codec
from interp_refiner.data.medium import Medium
from interp_refiner.data.text import TextEncoder
from interp_refiner.evaluation.records import Evaluation, newest_evaluation
from interp_refiner.training import KeyframeGenerator, Refiner


@dataclass
class Run:
    """A trained model, or one that is about to be trained, with everything that belongs to it.

    Attributes:
        config: resolved; of an exported folder what ``model_index.json`` says.
        module: what is trained, or was.
        codec: between its latents and pixels.
        spec: of its clips.
        loader: the data module; None for an exported folder, see :attr:`data`.
        folder: where the run or the export lies; None for fresh weights, as ``checkpoint``.
        checkpoint: the file that the weights came from, or the exported folder.
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
            BadValue: of an exported folder, which has no data.
        """
        if self.loader is None:
            raise BadValue("checkpoint", self.checkpoint, "a run folder: an exported folder has no data")
        return self.loader

    @property
    def medium(self) -> Medium:
        """What its clips are to people; raises :class:`BadValue` where there are none to look at."""
        if self.data.medium is None:
            raise BadValue("medium", None, "what the clips are: video | maze")
        return self.data.medium

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """What ``interp_refiner.evaluate`` last found out about it; None where it was not evaluated."""
        found = newest_evaluation(self.folder) if self.folder is not None else None
        return None if found is None else found[0]

    @property
    def refiner(self) -> Refiner:
        """The module, of a run that trained a refiner; raises :class:`BadValue` for any other."""
        if not isinstance(self.module, Refiner):
            raise BadValue("checkpoint", self.checkpoint, f"a refiner's run, not {self._trained}")
        return self.module

    @property
    def generator(self) -> KeyframeGenerator:
        """The module, of a run that trained a generator of keyframes; raises :class:`BadValue` for any other.

        ``run.generator.source(sampler)`` makes keyframes.
        """
        if not isinstance(self.module, KeyframeGenerator):
            raise BadValue("keyframes", self.checkpoint, f"a run of +experiment=keyframes, not {self._trained}")
        return self.module

    @property
    def _trained(self) -> str:
        return f"one of {type(self.module).__name__}"

    def showing(self, clips: int | None, batch_size: int | None = None) -> "Run":
        """The same run, validated on so many held-out clips; see :meth:`ShardedDataModule.validating`."""
        return replace(self, loader=self.data.validating(clips, batch_size))

    def in_batches(self, clips: int) -> "Run":
        """The same run with at least so many clips, at all their levels, in every batch of validation.

        None is left alone in the last one, where no keyframes could be shuffled among clips.

        Raises:
            BadValue: fewer than 2 held-out clips.
        """
        held_out = self.held_out_pairs // self.num_levels
        if held_out < 2:
            raise BadValue("clips", held_out, "at least 2 held-out clips")
        size = next(size for size in range(clips, clips + held_out) if held_out % size != 1)
        return self.showing(self.data.source.val_samples, self.num_levels * size)

    def to(self, device: str) -> "Run":
        """Moves the networks; returns itself."""
        self.module.to(device)
        self.medium.to(device)
        return self

    @property
    def held_out_pairs(self) -> int:
        """How many (clip, level) pairs validation takes."""
        return sum(map(len, self.data.val_dataloader().batches))

    @property
    def num_levels(self) -> int:
        """S, the sparsest level of its clips."""
        return self.refiner.corruption.num_levels(self.spec.num_frames)


def load_text_encoder(run: Run) -> TextEncoder:
    """The encoder for prompts of this run's own kind: ``encoder.encode(["a cat"])`` is a ``Clip``'s ``text``.

    It is built when it is asked for, since training reads embeddings and Wan's umT5 is 11 GB. A run is told where the
    weights are by ``load_run(path, overrides={"text": node})``.

    Raises:
        BadValue: the data set has no prompts, its encoder needs a folder, or the embeddings would be of another kind.
    """
    if run.spec.text_shape is None:
        raise BadValue("text", "declared", "no prompt, because the data set has no prompt embeddings")
    return build(run.config.text, spec=run.spec)


def text_or_none(run: Run) -> TextEncoder | None:
    """The encoder of the run's prompts; None without prompts, or where it needs weights and nobody chose it."""
    if run.spec.text_shape is None:
        return None
    try:
        return load_text_encoder(run)
    except BadValue as error:
        if error.value == "declared":
            return None
        raise

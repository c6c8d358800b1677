"""The LightningModule of phase 1: keyframes from captions."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp_refiner.core import Corrupted, Draws, derived_seed, take_frames
from interp_refiner.forward.corruption import TRAIN_STREAM, Corruption
from interp_refiner.model.backbone import Backbone
from interp_refiner.model.keyframes import GeneratedKeyframes, KeyframeFlow, KeyframeRequest, Keyframes, KeyframeSampler
from interp_refiner.training.backbone_module import BackboneModule
from interp_refiner.training.optimizer import OptimizerRecipe


class KeyframeGenerator(BackboneModule):
    """Trains a backbone to generate the keyframes of a clip from its caption, by flow matching.

    The keyframes are those of the corruption's plan; the rest of the corruption is not used. All clips of a training
    step have the same number of keyframes, at a level drawn from (seed, step); their positions differ.

    Args:
        backbone: the network, without interpolation inputs.
        flow: defines the meaning of its output, and the loss.
        optimizer: optimizer and learning-rate schedule.
        sampler: samples keyframes, for pictures and prediction.
        corruption: the run's corruption; its schedule selects the keyframes.
        saves_frozen: see :class:`BackboneModule`.
    """

    def __init__(
        self,
        backbone: Backbone,
        flow: KeyframeFlow,
        optimizer: OptimizerRecipe,
        sampler: KeyframeSampler,
        corruption: Corruption,
        saves_frozen: bool = False,
    ):
        super().__init__(backbone, optimizer, saves_frozen)
        if flow.zero_start:
            backbone.zero_output()
        self.flow, self.sampler, self.corruption = flow, sampler, corruption

    def seen_shape(self, corrupted: Corrupted) -> torch.Size:
        b, c, t, *space = corrupted.x.shape
        return torch.Size((b, c, self.corruption.schedule.counts_for(t)[self.step_level(corrupted)], *space))

    def step_level(self, corrupted: Corrupted) -> int:
        """The level of all clips of a training step."""
        levels = corrupted.plan.num_levels if self.corruption.level is None else 1
        drawn = 1 + derived_seed(self.corruption.seed, TRAIN_STREAM, corrupted.clip.step, "level") % levels
        return self.corruption.level or drawn

    def training_step(self, corrupted: Corrupted, batch_index: int) -> Tensor:
        clip = corrupted.clip
        level = torch.full_like(corrupted.level, self.step_level(corrupted))
        count = self.seen_shape(corrupted)[2]
        of = keyframes_of(corrupted, corrupted.plan.mask_at(level), count)
        self.flow.measure(of.latents, self.trainer.strategy.reduce)  # reduce: mean over processes
        draws = Draws(self.corruption.seed, TRAIN_STREAM, clip.keys, clip.epochs)
        loss = self.flow.loss(self.backbone, of, draws, self.flow.draw_given(draws, count, clip.latents.device)).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=clip.batch_size)
        return loss

    def validation_step(self, corrupted: Corrupted, batch_index: int) -> None:
        """Logs the loss at random times, with and without captions. The difference shows how much captions help."""
        for count, rows in by_count(corrupted.known):
            some = corrupted.clip.select(rows)
            of = keyframes_of(corrupted, corrupted.known, count, rows)
            draws = Draws(self.corruption.seed, "val", some.keys)
            none = torch.zeros_like(of.positions, dtype=torch.bool)
            figures = {"val/loss": self.flow.loss(self.backbone, of, draws, none)}
            if of.text is not None:
                unconditional = Keyframes(of.latents, of.positions, torch.zeros_like(of.text))
                figures["val/loss_without_caption"] = self.flow.loss(self.backbone, unconditional, draws, none)
            means = {name: loss.mean() for name, loss in figures.items()}
            self.log_dict(means, on_epoch=True, batch_size=len(rows), sync_dist=True, prog_bar=True)

    def predict_step(self, corrupted: Corrupted, batch_index: int) -> list[Tensor]:
        """The keyframes of every clip at its level, generated from its caption alone."""
        made: list[Tensor] = [torch.empty(0)] * len(corrupted.known)
        for count, rows in by_count(corrupted.known):
            of = keyframes_of(corrupted, corrupted.known, count, rows)
            keys = [corrupted.clip.keys[row] for row in rows]
            latents = self.source()(request_of(of, corrupted.clip.num_frames), self.draws(keys))
            for row, keyframes in zip(rows, latents, strict=True):
                made[row] = keyframes
        return made

    def source(self, sampler: KeyframeSampler | None = None) -> GeneratedKeyframes:
        """A keyframe source with this network, with the module's own sampler or another one."""
        return GeneratedKeyframes(self.backbone, self.flow, sampler or self.sampler)

    def draws(self, keys: list[str]) -> Draws:
        """The random draws of these samples."""
        return Draws(self.corruption.seed, "sample", keys)


def by_count(known: Bool[Tensor, "b t"]) -> list[tuple[int, list[int]]]:
    """Groups samples by their number of keyframes: (number of keyframes, indices of samples)."""
    counts = known.sum(1).tolist()
    return [(count, [row for row, own in enumerate(counts) if own == count]) for count in sorted(set(counts))]


def positions_of(known: Bool[Tensor, "b t"], count: int) -> Int[Tensor, "b k"]:
    """The frame numbers of the keyframes of clips that have ``count`` each; no host sync."""
    return known.int().argsort(dim=1, descending=True, stable=True)[:, :count]


def keyframes_of(
    corrupted: Corrupted, known: Bool[Tensor, "b t"], count: int, rows: list[int] | None = None
) -> Keyframes:
    """The true keyframes of a batch, or of some of its samples; each sample has ``count``."""
    clip = corrupted.clip
    latents, text = clip.latents, clip.text
    if rows is not None:
        latents, text, known = latents[rows], text[rows] if text is not None else None, known[rows]
    positions = positions_of(known, count)
    return Keyframes(take_frames(latents, positions), positions, text)


def request_of(of: Keyframes, num_frames: int) -> KeyframeRequest:
    """A request for keyframes at these positions; none is given."""
    return KeyframeRequest(of.positions, num_frames, of.latents, torch.zeros_like(of.positions).bool(), of.text)

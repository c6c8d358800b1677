"""The LightningModule that trains an interpolator."""

import math
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torchmetrics import MeanMetric

from interp_refiner.core import (
    BadValue,
    ClipSpec,
    Corrupted,
    Draws,
    choice,
    frame_mean,
    masked_mean,
    neighbours,
    non_negative,
)
from interp_refiner.forward.corruption import TRAIN_STREAM, Corruption
from interp_refiner.forward.interpolator import Interpolation, Interpolator, Learned
from interp_refiner.training.missing_frame import MissingFrameError
from interp_refiner.training.optimizer import OptimizerRecipe

LONGEST_GAP = 8  # default largest gap in training; validation reports errors by gap up to it
TERMS = ("l1", "confidence")  # of the loss, in addition to the error and the interpolator's own penalties


def chain(draws: Draws, num_frames: int, max_gap: int, device: torch.device) -> Bool[Tensor, "b t"]:
    """Keyframes at random distances of 2..``max_gap``, including the first and the last frame.

    Every missing frame forms a training triplet with its two keyframes. The last gap is the rest of the clip.
    """
    most = max(1, math.ceil((num_frames - 1) / 2))
    gap = 2 + (draws.uniform("chain", most, device) * (max_gap - 1)).long()
    frame = torch.arange(num_frames, device=device)
    known = (gap.cumsum(1).unsqueeze(2) == frame).any(1)
    return known | (frame == 0) | (frame == num_frames - 1)


class InterpolatorFit(L.LightningModule):
    """Trains an interpolator on clean clips, with random gaps between keyframes.

    With ``e = zbar - z0`` in latent units and the interpolator's confidence k, the loss over missing frames is

        mean e^2 + w_l1 mean |e| + w_confidence mean (k - 1 / (1 + e^2))^2 + sum_p w_p penalty_p

    In the confidence term ``e^2`` is averaged over channels and gets no gradient. The interpolator defines the
    penalties. Validation compares it with the corruption's own interpolator, by level and by gap from 2 to ``max_gap``,
    and reports the unweighted penalties on held-out clips.

    Args:
        interpolator: the interpolator to train.
        optimizer: optimizer and learning-rate schedule.
        corruption: the run's corruption; its schedule gives the keyframes of validation.
        spec: of the clips.
        weights: w by name of the term: ``l1``, ``confidence`` and the interpolator's ``penalised``; 0 if left out.
        max_gap: largest distance between two keyframes, in frames.
        seed: seed of the gaps.

    Raises:
        BadValue: a negative weight or an unknown term, a gap below 2, or an interpolator without trainable weights.
    """

    def __init__(
        self,
        interpolator: Interpolator,
        optimizer: OptimizerRecipe,
        corruption: Corruption,
        spec: ClipSpec,
        weights: Mapping[str, float],
        max_gap: int = LONGEST_GAP,
        seed: int = 0,
    ):
        super().__init__()
        if not isinstance(interpolator, Learned) or interpolator.frozen:
            raise BadValue("interpolator", type(interpolator).__name__, "one with weights and no checkpoint")
        for name, weight in weights.items():
            choice("weights", name, (*TERMS, *interpolator.penalised))
            non_negative(f"weights.{name}", weight, "a weight")
        if max_gap < 2:
            raise BadValue("max_gap", max_gap, "at least 2, so that a gap has a missing frame")
        self.interpolator, self.recipe = interpolator, optimizer
        self.weights, self.max_gap, self.seed = dict(weights), max_gap, seed
        self.validation_error = MissingFrameError(corruption.num_levels(spec.num_frames))
        self.gap_error = MissingFrameError(max_gap)
        self.held_out = nn.ModuleDict({name: MeanMetric() for name in interpolator.penalised})

    def loss(self, clean: Float[Tensor, "b c t *space"], known: Bool[Tensor, "b t"]) -> dict[str, Tensor]:
        """The terms of the loss by name, already weighted; their sum is minimised."""
        filled = self.interpolator(clean, known)
        error = filled.latents - clean
        missing = ~known
        terms = {
            "error": masked_mean(frame_mean(error.square()), missing).mean(),
            "l1": masked_mean(frame_mean(error.abs()), missing).mean(),
            "confidence": calibration(filled, error, missing),
            **self.interpolator.penalties(clean, known, filled),
        }
        weights = {"error": 1.0, **self.weights}
        return {name: weights[name] * term for name, term in terms.items() if name in weights}

    def training_step(self, corrupted: Corrupted, batch_index: int) -> Tensor:
        clip = corrupted.clip
        draws = Draws(self.seed, TRAIN_STREAM, clip.keys, clip.epochs)
        terms = self.loss(corrupted.clean, chain(draws, clip.num_frames, self.max_gap, clip.latents.device))
        total = torch.stack(list(terms.values())).sum()
        self.log("train/loss", total, prog_bar=True, batch_size=clip.batch_size)
        self.log_dict({f"train/{name}": term for name, term in terms.items()}, batch_size=clip.batch_size)
        return total

    def validation_step(self, corrupted: Corrupted, batch_index: int) -> Float[Tensor, "b c t *space"]:
        filled = self.interpolator(corrupted.values, corrupted.known)
        for name, penalty in self.interpolator.penalties(corrupted.clean, corrupted.known, filled).items():
            self.held_out[name].update(penalty, weight=corrupted.clip.batch_size)  # type: ignore[operator]
        compared = (filled.latents, corrupted.interpolation, corrupted.clean)
        self.validation_error.update(*compared, corrupted.missing, corrupted.level)
        gap = neighbours(corrupted.known).gap
        counted = corrupted.missing & (gap > 0) & (gap <= self.max_gap)
        # every frame counts as a sample whose level is its gap
        estimate, base, clean = (version.transpose(1, 2).flatten(0, 1).unsqueeze(2) for version in compared)
        self.gap_error.update(estimate, base, clean, counted.flatten().unsqueeze(1), gap.flatten())
        return filled.latents

    def on_validation_epoch_end(self) -> None:
        by_gap = {name.replace("level", "gap"): value for name, value in self.gap_error.compute().items()}
        results = {name: value for name, value in by_gap.items() if "mean" not in name}
        results |= self.validation_error.compute()
        results |= {name: mean.compute() for name, mean in self.held_out.items()}  # type: ignore[operator]
        for metric in (self.gap_error, self.validation_error, *self.held_out.values()):
            metric.reset()  # type: ignore[operator]
        self.log_dict({f"val/{name}": value for name, value in results.items()})

    def configure_optimizers(self) -> Any:
        return self.recipe.configure(self, self.trainer.max_steps)


def calibration(
    filled: Interpolation, error: Float[Tensor, "b c t *space"], missing: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    """Mean squared difference between the confidence and ``1 / (1 + e^2)``, over missing frames."""
    right = 1 / (1 + error.detach().square().mean(1))
    difference = (filled.confidence - right).square().flatten(2).mean(2)
    return masked_mean(difference, missing).mean()

"""The LightningModule that trains the network of a learned schedule."""

from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, ClipSpec, Corrupted, Draws, KeyframePlan
from interp_refiner.forward.corruption import ClipContent, Corruption
from interp_refiner.forward.schedule import DynamicProgramming, Learned, Schedule, Uniform, log_likelihood
from interp_refiner.training.missing_frame import ErrorByLevel, missing_frame_mse
from interp_refiner.training.optimizer import OptimizerRecipe


class SelectorFit(L.LightningModule):
    """Trains a selector to predict the keyframes of dynamic programming from its schedule's preview of the clip.

    The selector's costs define a distribution over keyframe sets, ``p ~ exp(-cost)``. With ``M_s`` the keyframes of
    ``schedule=dp`` at level s, and ``M_{S+1}`` the forced frames, the loss is

        mean over s of -log p(M_s | M_s contains M_{s+1}, |M_s| = K_s)

    Validation compares interpolation from learned keyframes (reported as ``refined_mse``) with interpolation from
    evenly spaced ones (``interpolation_mse``), by level; ``dp_mse`` is the lower bound.

    Args:
        schedule: the schedule whose selector is trained.
        optimizer: optimizer and learning-rate schedule.
        corruption: its schedule gives the labels, its interpolator the errors.
        spec: of the clips.

    Raises:
        BadValue: a selector with frozen weights, or a corruption with another schedule than dp.
    """

    def __init__(self, schedule: Learned, optimizer: OptimizerRecipe, corruption: Corruption, spec: ClipSpec):
        super().__init__()
        if schedule.selector.frozen:
            raise BadValue("schedule.checkpoint", schedule.checkpoint, "null: a frozen selector cannot be trained")
        if not isinstance(corruption.schedule, DynamicProgramming):
            name = type(corruption.schedule).__name__.lower()
            raise BadValue("corruption.schedule", name, "dp: the selector is trained to predict dp's keyframes")
        self.schedule, self.selector = schedule, schedule.selector
        self.recipe, self.corruption = optimizer, corruption
        num_levels = corruption.num_levels(spec.num_frames)
        self.validation_error, self.dp_error = ErrorByLevel(num_levels), ErrorByLevel(num_levels)

    def loss(self, preview: Float[Tensor, "b c n t"], labels: KeyframePlan) -> Float[Tensor, ""]:
        """Mean negative log-likelihood of the labels, in nats per level."""
        cost, batch = self.selector(preview), len(preview)
        counts = self.corruption.schedule.counts_for(preview.shape[3])
        chosen, terms = endpoints_and(labels), []
        for level in range(labels.num_levels, 0, -1):
            coarser, chosen = chosen, labels.mask_at(torch.full((batch,), level, device=preview.device))
            terms.append(-log_likelihood(cost, chosen, coarser, counts[level]).mean())
        return torch.stack(terms).mean()

    def training_step(self, corrupted: Corrupted, batch_index: int) -> Tensor:
        content = ClipContent(corrupted.clip, self.corruption.interpolator)
        loss = self.loss(self.schedule.look(content), corrupted.plan)
        self.log("train/loss", loss, prog_bar=True, batch_size=corrupted.clip.batch_size)
        return loss

    def validation_step(self, corrupted: Corrupted, batch_index: int) -> Float[Tensor, "b c t *space"]:
        even = Uniform(counts=self.corruption.schedule.counts_for(corrupted.clip.num_frames)[1:])
        learned, uniform = (self.interpolation_error(schedule, corrupted) for schedule in (self.schedule, even))
        dp = missing_frame_mse(corrupted.interpolation, corrupted.clean, corrupted.missing)
        counted = corrupted.missing.any(1)
        self.validation_error.update(learned, uniform, counted, corrupted.level)
        self.dp_error.update(dp, uniform, counted, corrupted.level)
        return corrupted.interpolation

    def interpolation_error(self, schedule: Schedule, corrupted: Corrupted) -> Float[Tensor, " b"]:
        """The missing-frame error of interpolation from the keyframes of ``schedule``."""
        clip = corrupted.clip
        draws = Draws(self.corruption.seed, "val", clip.keys)
        plan = schedule.plan(corrupted.plan.given, draws, ClipContent(clip, self.corruption.interpolator))
        known = plan.mask_at(corrupted.level)
        filled = self.corruption.interpolator(corrupted.clean, known).latents
        return missing_frame_mse(filled, corrupted.clean, ~known)

    def on_validation_epoch_end(self) -> None:
        results = self.validation_error.compute()
        for name, value in self.dp_error.compute().items():
            if name.endswith("/refined_mse"):
                results[name.replace("refined", "dp")] = value
        self.validation_error.reset()
        self.dp_error.reset()
        self.log_dict({f"val/{name}": value for name, value in results.items()})

    def configure_optimizers(self) -> Any:
        return self.recipe.configure(self, self.trainer.max_steps)


def endpoints_and(plan: KeyframePlan) -> Tensor:
    """``[b, t]``: the frames that every level must keep: given frames and both ends."""
    frame = torch.arange(plan.given.shape[1], device=plan.given.device)
    return plan.given | (frame == 0) | (frame == len(frame) - 1)

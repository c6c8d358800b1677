"""The base class of objectives: output to clean estimate, clean estimate to loss (docs/method.md, Objectives)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp_refiner.core import BadValue, ClipSpec, Corrupted, NumLevels, frame_mean, masked_mean, per_frame


@dataclass
class Loss:
    """The terms of one batch's loss, each a scalar.

    Attributes:
        total: what is minimised.
        error: mean squared error of the clean estimate, in latent units.
        temporal: mean squared error of its frame-to-frame differences.
    """

    total: Float[Tensor, ""]
    error: Float[Tensor, ""]
    temporal: Float[Tensor, ""]


def squared_error(
    estimate: Float[Tensor, "b c t *space"], clean: Float[Tensor, "b c t *space"], free: Bool[Tensor, "b t"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Per sample: squared error over free frames, and of the differences between frames of which one is free.

    Given frames enter the differences as truth, where their error is 0.
    """
    error = (estimate.float() - clean.float()) * per_frame(free, clean)
    moving = free[:, 1:] | free[:, :-1]
    return masked_mean(frame_mean(error.square()), free), masked_mean(frame_mean(error.diff(dim=2).square()), moving)


class LevelError(nn.Module):
    """``V_s``: the running mean of the interpolation's error at every level, 1 until a level has been seen.

    A weight, so it only changes between optimizer steps: :meth:`observe` adds to a pending sum in every micro-batch,
    :meth:`commit` folds the sum over all ranks in. The result is the same for any split of a global batch.

    Args:
        num_levels: S.

    Attributes:
        copies: processes that see the same samples, each of which counts once.
    """

    totals: Float[Tensor, " levels"]
    counts: Float[Tensor, " levels"]
    pending: Float[Tensor, "2 levels"] | None  # not a buffer: DDP would broadcast one rank's sum to all

    def __init__(self, num_levels: int):
        super().__init__()
        self.register_buffer("totals", torch.zeros(num_levels + 1, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(num_levels + 1, dtype=torch.float64))
        self.pending, self.copies = None, 1

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Follows the module to another device but not to another dtype: a bfloat16 count stops at 256."""
        exact = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in exact.items():
            setattr(self, name, buffer.to(getattr(self, name).device))
        return self

    def forward(self, level: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """``V_s`` of each sample's level."""
        mean = torch.where(self.counts > 0, self.totals / self.counts.clamp(min=1), 1.0)
        return mean.float().clamp(min=1e-8)[level]

    @torch.no_grad()
    def observe(self, error: Float[Tensor, " b"], level: Int[Tensor, " b"]) -> None:
        """Adds each sample's interpolation error."""
        new = torch.stack([error.double(), torch.ones_like(error, dtype=torch.float64)])
        pending = self.totals.new_zeros(2, len(self.totals)).index_add_(1, level, new)
        self.pending = pending if self.pending is None else self.pending + pending

    @torch.no_grad()
    def commit(self) -> None:
        """Folds what was observed since the last call into the running mean; a collective under several processes."""
        if self.pending is None:
            return
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.pending)
            self.pending /= self.copies
        self.totals += self.pending[0]
        self.counts += self.pending[1]
        self.pending = None

    def discard(self) -> None:
        """Forgets what was observed since the last commit: the optimizer step is skipped."""
        self.pending = None


class Objective(nn.Module, ABC):
    """Maps a network's output to a clean estimate; the loss is always the squared error of that estimate.

    Mean over the frames that are not given within a sample, then over samples, each divided by its level's running
    interpolation error, plus ``temporal_weight`` times the squared error of the frame-to-frame differences.

    Args:
        spec: of the clips.
        num_levels: S, the sparsest level.
        temporal_weight: weight of the frame-to-frame differences.

    Attributes:
        samples: M, of every clip of a batch, that the loss compares: each its own noise. 1 for a regression.
        zero_start: an output of zero is a sensible start, so a new head is zero-initialised.
        estimates_finer: the estimate is of the next finer level (``Corrupted.finer``) and of the clean clip at level 1
            only, so a clip is sampled level by level.
        fully_corrupted_only: the estimate is defined at ``tau = 1`` alone, so no sampler may leave it.
        distilled: the estimate is a sample, the end of a teacher's ODE, and no mean.
    """

    samples: int = 1
    zero_start: ClassVar[bool] = False
    estimates_finer: ClassVar[bool] = False
    fully_corrupted_only: ClassVar[bool] = False
    distilled: ClassVar[bool] = False

    def __init__(self, spec: ClipSpec, num_levels: NumLevels, temporal_weight: float = 1.0):
        super().__init__()
        if temporal_weight < 0:
            raise BadValue("temporal_weight", temporal_weight, "a number >= 0")
        self.num_levels, self.temporal_weight = num_levels, temporal_weight
        self.level_error = LevelError(num_levels)

    def out_channels(self, latent_channels: int, num_hypotheses: int) -> int:
        """How many channels the network's output has.

        Raises:
            BadValue: the interpolator offers hypotheses, which the objective has no use for.
        """
        if num_hypotheses > 1:
            allowed = (
                f"correction | preconditioned | energy_score, whose estimate is zbar and a correction, with an"
                f" interpolator of {num_hypotheses} hypotheses (or an interpolator without)"
            )
            raise BadValue("objective", type(self).__name__, allowed)
        return latent_channels

    @abstractmethod
    def clean_estimate(
        self, output: Float[Tensor, "b o t *space"], corrupted: Corrupted
    ) -> Float[Tensor, "b c t *space"]:
        """``z0_hat``: what the output says about the clean clip."""

    @abstractmethod
    def target(self, corrupted: Corrupted) -> Float[Tensor, "b o t *space"]:
        """The output whose estimate is the :meth:`reference`."""

    def reference(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        """What is estimated: the clean clip."""
        return corrupted.clean

    def unrefined(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        """What the model starts from, whose error ``V_s`` is the unit of the loss: the interpolation."""
        return corrupted.interpolation

    def check(self, sigma: float, keyframes_replaced: bool, keyframe_fraction: float) -> None:
        """Refuses, with :class:`BadValue`, a corruption under which the objective is not defined."""

    def forward(self, output: Float[Tensor, "b o t *space"], corrupted: Corrupted) -> Loss:
        """The loss of one batch; observes the interpolation's error on the way."""
        loss = self.against(self.clean_estimate(output, corrupted), self.reference(corrupted), corrupted)
        self.observe(corrupted)
        return loss

    def against(
        self, estimate: Float[Tensor, "b c t *space"], reference: Float[Tensor, "b c t *space"], corrupted: Corrupted
    ) -> Loss:
        """The loss of a clean estimate that should have been ``reference``, in units of ``V_s``. Pure."""
        error, temporal = squared_error(estimate, reference, ~corrupted.given)
        weight = 1 / self.level_error(corrupted.level)
        total = (weight * (error + self.temporal_weight * temporal)).mean()
        return Loss(total=total, error=error.detach().mean(), temporal=temporal.detach().mean())

    def observe(self, corrupted: Corrupted) -> None:
        """Adds the error of what the model starts from to ``V_s``."""
        error, _ = squared_error(self.unrefined(corrupted), self.reference(corrupted), ~corrupted.given)
        self.level_error.observe(error, corrupted.level)

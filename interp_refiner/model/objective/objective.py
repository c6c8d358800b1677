"""The interface of objectives: output to clean estimate, clean estimate to loss (docs/method.md, Objectives)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp_refiner.core import (
    BadValue,
    ClipSpec,
    Corrupted,
    NumLevels,
    frame_mean,
    masked_mean,
    non_negative,
    per_frame,
)
from interp_refiner.model.backbone import Interface
from interp_refiner.model.objective.robust import Robust


@dataclass
class Loss:
    """The terms of one batch's loss, each a scalar.

    Attributes:
        total: the minimised loss.
        error: mean squared error of the clean estimate, in latent units.
        temporal: mean squared error of its frame-to-frame differences.
    """

    total: Float[Tensor, ""]
    error: Float[Tensor, ""]
    temporal: Float[Tensor, ""]


def mean_square(error: Float[Tensor, "b c t *space"]) -> Float[Tensor, "b t"]:
    """The squared error of every frame."""
    return frame_mean(error.square())


def errors(
    estimate: Float[Tensor, "b c t *space"],
    clean: Float[Tensor, "b c t *space"],
    free: Bool[Tensor, "b t"],
    of_frames: Callable[[Tensor], Tensor] = mean_square,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Per sample: the error over free frames, and that over frame-to-frame differences that involve a free frame.

    Given frames count as exact.

    Args:
        estimate, clean: the two clips.
        free: frames that are not given.
        of_frames: maps a difference ``[b, c, t, *space]`` to an error per frame ``[b, t]``.
    """
    error = (estimate.float() - clean.float()) * per_frame(free, clean)
    moving = free[:, 1:] | free[:, :-1]
    return masked_mean(of_frames(error), free), masked_mean(of_frames(error.diff(dim=2)), moving)


class LevelError(nn.Module):
    """``V_s``: the running mean of the interpolation's error at every level; 1 before a level's first sample.

    Like a weight, it changes only between optimizer steps: :meth:`observe` adds to a pending sum in every micro-batch,
    and :meth:`commit` adds the sum over all ranks to the mean. The result does not depend on how a global batch is
    split.

    Args:
        num_levels: S.

    Attributes:
        copies: number of processes that have the same samples; the sum over ranks is divided by it.
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
        """Moves the buffers to another device but keeps their dtype; in bfloat16, a count would stop at 256."""
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
        """Adds all errors observed since the last call to the running mean; a collective operation over all ranks."""
        if self.pending is None:
            return
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.pending)
            self.pending /= self.copies
        self.totals += self.pending[0]
        self.counts += self.pending[1]
        self.pending = None

    def discard(self) -> None:
        """Drops all errors observed since the last commit; for an optimizer step that is skipped."""
        self.pending = None


class Objective(nn.Module, ABC):
    """Maps a network's output to a clean estimate; by default the loss is the squared error of that estimate.

    The error is averaged over the frames of a sample that are not given, divided by the running interpolation error of
    the sample's level, and averaged over samples. ``temporal_weight`` times the same error of the frame-to-frame
    differences is added.

    Args:
        spec: of the clips.
        num_levels: S, the sparsest level.
        temporal_weight: weight of the frame-to-frame differences.
        penalty: a loss that replaces the squared error; None for the squared error.

    Attributes:
        samples: M, the number of samples per clip, with different noise, that the loss needs; 1 for a regression.
        zero_start: whether a new head is zero-initialised, because a zero output is a sensible estimate.
        estimates_finer: whether the estimate is the next finer level (``Corrupted.finer``). This is the clean clip only
            at level 1, so sampling must go level by level.
        fully_corrupted_only: whether the estimate is defined only at ``tau = 1``, so that samplers may not use another.
        distilled: whether the estimate is a sample (the end of a teacher's ODE) instead of a mean.
    """

    samples: int = 1
    zero_start: ClassVar[bool] = False
    estimates_finer: ClassVar[bool] = False
    fully_corrupted_only: ClassVar[bool] = False
    distilled: ClassVar[bool] = False

    def __init__(
        self,
        spec: ClipSpec,
        num_levels: NumLevels,
        temporal_weight: float = 1.0,
        penalty: Robust | None = None,
    ):
        super().__init__()
        non_negative("temporal_weight", temporal_weight, "a weight")
        self.num_levels, self.temporal_weight, self.penalty = num_levels, temporal_weight, penalty
        self.level_error = LevelError(num_levels)

    def out_channels(self, latent_channels: int, num_hypotheses: int) -> int:
        """The number of channels of the network's output.

        Raises:
            BadValue: the interpolator offers hypotheses, which the objective cannot use.
        """
        if num_hypotheses > 1:
            allowed = (
                "correction | preconditioned | energy_score | consistency, whose estimate is zbar plus a correction,"
                f" with an interpolator of {num_hypotheses} hypotheses (or an interpolator without)"
            )
            raise BadValue("objective", type(self).__name__, allowed)
        return latent_channels

    def interface(self, spec: ClipSpec, num_hypotheses: int) -> Interface:
        """The interface of a backbone for this objective; raises as :meth:`out_channels`."""
        return Interface(spec, num_hypotheses, self.out_channels(spec.channels, num_hypotheses))

    @abstractmethod
    def clean_estimate(
        self, output: Float[Tensor, "b o t *space"], corrupted: Corrupted
    ) -> Float[Tensor, "b c t *space"]:
        """``z0_hat``: the estimate of the clean clip."""

    @abstractmethod
    def target(self, corrupted: Corrupted) -> Float[Tensor, "b o t *space"]:
        """The output whose estimate is the :meth:`reference`."""

    def reference(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        """The quantity that is estimated: by default the clean clip."""
        return corrupted.clean

    def unrefined(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        """The estimate without a model, by default the interpolation; its error ``V_s`` is the unit of the loss."""
        return corrupted.interpolation

    def check(self, sigma: float, keyframes_replaced: bool, keyframe_fraction: float) -> None:
        """Refuses, with :class:`BadValue`, a corruption under which the objective is not defined."""

    def forward(self, output: Float[Tensor, "b o t *space"], corrupted: Corrupted) -> Loss:
        """The loss of one batch; also adds the interpolation's error to ``V_s``."""
        loss = self.against(self.clean_estimate(output, corrupted), self.reference(corrupted), corrupted)
        self.observe(corrupted)
        return loss

    def against(
        self, estimate: Float[Tensor, "b c t *space"], reference: Float[Tensor, "b c t *space"], corrupted: Corrupted
    ) -> Loss:
        """The loss of a clean estimate relative to ``reference``, in units of ``V_s``. Has no side effects."""
        free, unit = ~corrupted.given, self.level_error(corrupted.level)
        error, temporal = errors(estimate, reference, free)
        loss = error + self.temporal_weight * temporal
        if self.penalty is not None:
            frames, steps = errors(estimate, reference, free, partial(self.penalty, unit=unit))
            loss = frames + self.temporal_weight * steps
        return Loss((loss / unit).mean(), error=error.detach().mean(), temporal=temporal.detach().mean())

    def observe(self, corrupted: Corrupted) -> None:
        """Adds the error of :meth:`unrefined` to ``V_s``."""
        error, _ = errors(self.unrefined(corrupted), self.reference(corrupted), ~corrupted.given)
        self.level_error.observe(error, corrupted.level)

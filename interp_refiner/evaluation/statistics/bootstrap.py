"""Confidence intervals by the bootstrap over clips.

Clips are resampled, not frames, because the errors of one clip's frames are correlated. All methods use the same
resamples, so the difficulty of a clip cancels in comparisons (the paired bootstrap; Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapters 8 and 13: percentile intervals).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Interval, check_least


@dataclass(frozen=True)
class Bootstrap:
    """Settings of the bootstrap.

    Args:
        num_resamples: number of resamples of n clips, drawn with replacement.
        confidence: share of the resampled values inside an interval.
        seed: of the resampling; equal seeds give equal resamples for all measures.

    Raises:
        BadValue: no resamples, or a confidence outside 0..1.
    """

    num_resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, num_resamples=1)
        if not 0 < self.confidence < 1:
            raise BadValue("confidence", self.confidence, "a number between 0 and 1")

    def weights(self, num_clips: int) -> Float[Tensor, "r n"]:
        """The number of times that each of n clips occurs in each of r resamples; float64, on the host."""
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randint(num_clips, (self.num_resamples, num_clips), generator=generator)
        ones = torch.ones(drawn.shape, dtype=torch.float64)
        return torch.zeros_like(ones).scatter_add_(1, drawn, ones)

    def interval(self, resampled: Float[Tensor, " r *n"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
        """The central interval with a share ``confidence`` of the resampled values; undefined values are ignored."""
        tail = (1 - self.confidence) / 2
        low, high = resampled.nanquantile(torch.tensor([tail, 1 - tail], dtype=resampled.dtype), dim=0)
        return low, high


DEFAULT_BOOTSTRAP = Bootstrap()


def paired_bootstrap(
    numerator: Float[Tensor, " n"], denominator: Float[Tensor, " n"], bootstrap: Bootstrap = DEFAULT_BOOTSTRAP
) -> Interval:
    """The ratio of means ``mean(numerator) / mean(denominator)`` over n clips, with its bootstrap interval.

    Args:
        numerator, denominator: one number per clip, in the same order of clips.
        bootstrap: how the clips are resampled.

    Raises:
        BadValue: no clips.
    """
    if len(numerator) == 0:
        raise BadValue("numerator", "no clips", "at least one clip")
    a, b = numerator.double().cpu(), denominator.double().cpu()
    weights = bootstrap.weights(len(a))
    low, high = bootstrap.interval((weights @ a) / (weights @ b))
    return Interval((a.sum() / b.sum()).item(), low.item(), high.item())

"""Keyframes with the least total segment cost, for any source of costs."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.forward.schedule.content import Content
from interp_refiner.forward.schedule.schedule import Request, Schedule, ranks
from interp_refiner.forward.schedule.segment_path import best_superset, finite_cost, prohibitive


@dataclass(kw_only=True, eq=False)
class CheapestSegments(Schedule):
    """The keyframes of least total segment cost (docs/method.md, Keyframe selection).

    Best sets of different sizes are not nested, so the sparsest level is solved first and each finer level is the best
    superset of the next coarser one. Given the costs, a level takes ``O(K T^2)``, for all samples at once.

    Args:
        endpoints: must be true, because frames outside the outermost keyframes belong to no segment and have no cost.
        gap_ratio: the largest gap allowed, as a multiple of the mean gap ``(T - 1) / (K_S - 1)`` of the sparsest level,
            rounded up to a frame; None for no limit. If given frames leave too few keyframes for this limit, it is
            exceeded by as little as possible.

    See :class:`Schedule` for the other arguments.

    Raises:
        BadValue: ``endpoints`` is false, or ``gap_ratio`` is below 1.
    """

    gap_ratio: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.endpoints:
            allowed = "schedule.endpoints=true: frames outside the outermost keyframes have no segment cost"
            raise BadValue("endpoints", self.endpoints, allowed)
        if self.gap_ratio is not None and not 1 <= self.gap_ratio < math.inf:
            raise BadValue("gap_ratio", self.gap_ratio, "a number >= 1, 1 for even gaps, or null for no limit")

    @final
    def max_gap(self, num_frames: int, sparsest: int) -> int | None:
        """The largest gap in frames, if the sparsest level has ``sparsest`` keyframes; None for no limit."""
        return None if self.gap_ratio is None else math.ceil(self.gap_ratio * (num_frames - 1) / (sparsest - 1))

    @abstractmethod
    def cost(self, content: Content) -> Float[Tensor, "b t t"]:
        """The additive cost of the segment between keyframes i < j; other entries are not read."""

    @final
    def rank(self, request: Request) -> Int[Tensor, "b t"]:
        cost, max_gap = self.cost(request.content), self.max_gap(request.num_frames, request.counts[-1])
        cost = cost if max_gap is None else capped(cost, max_gap)
        keyframes, levels_kept = request.forced, request.forced.long()
        for count in reversed(request.counts[1:]):
            keyframes = best_superset(cost, keyframes, count)
            levels_kept = levels_kept + keyframes
        return ranks(-levels_kept)


def capped(cost: Float[Tensor, "b t t"], max_gap: int) -> Float[Tensor, "b t t"]:
    """The cost plus a penalty on segments longer than ``max_gap``, so large that any set without them costs less.

    The penalty grows with the excess.
    """
    frame = torch.arange(cost.shape[1], device=cost.device)
    gap = frame - frame.unsqueeze(1)
    cost = finite_cost(cost)
    return cost + (gap - max_gap).clamp(min=0) * prohibitive(cost)

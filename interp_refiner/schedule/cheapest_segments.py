"""Keyframes whose segments cost least, wherever the costs come from."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.schedule.content import Content
from interp_refiner.schedule.schedule import Request, Schedule, ranks
from interp_refiner.schedule.segment_path import best_superset


@dataclass(kw_only=True, eq=False)
class CheapestSegments(Schedule):
    """The keyframes of least total segment cost (DESIGN section 7).

    Best sets of different sizes are not nested, so the sparsest level is solved first and each finer level is the best
    superset of the next coarser one: ``O(K T^2)`` a level, all samples at once, after the costs.

    Args:
        endpoints: always true: what lies outside the outermost keyframes belongs to no segment, and has no cost.
        max_gap: frames from one keyframe to the next, at most; None for no limit. Where given frames leave too few
            keyframes to keep it, the excess is as small as possible.

    See :class:`Schedule` for the others.
    """

    max_gap: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.endpoints:
            allowed = "true: frames outside the outermost keyframes have no segment cost"
            raise BadValue("endpoints", self.endpoints, allowed)
        if self.max_gap is not None and self.max_gap < 1:
            raise BadValue("max_gap", self.max_gap, "at least 1 frame, or null for no limit")

    @abstractmethod
    def cost(self, content: Content) -> Float[Tensor, "b t t"]:
        """The additive cost of the segment between keyframes i < j; other entries are not read."""

    @final
    def rank(self, request: Request) -> Int[Tensor, "b t"]:
        last, sparsest = request.num_frames - 1, request.counts[-1]
        if self.max_gap is not None and self.max_gap * (sparsest - 1) < last:
            least = math.ceil(last / (sparsest - 1))
            allowed = f"at least {least}, for {sparsest} keyframes in {last + 1} frames, or null for no limit"
            raise BadValue("max_gap", self.max_gap, allowed)
        cost = self.cost(request.content)
        cost = cost if self.max_gap is None else capped(cost, self.max_gap)
        keyframes, levels_kept = request.forced, request.forced.long()
        for count in reversed(request.counts[1:]):
            keyframes = best_superset(cost, keyframes, count)
            levels_kept = levels_kept + keyframes
        return ranks(-levels_kept)


def capped(cost: Float[Tensor, "b t t"], max_gap: int) -> Float[Tensor, "b t t"]:
    """The cost with segments longer than ``max_gap`` above any set of keyframes without them, by their excess."""
    frame = torch.arange(cost.shape[1], device=cost.device)
    gap = frame - frame.unsqueeze(1)
    largest = cost.masked_fill(gap < 1, 0.0).abs().amax((1, 2), keepdim=True)
    # a set has fewer than T segments, so two sets differ by less than 2 T times the largest cost
    return cost + (gap - max_gap).clamp(min=0) * (2 * cost.shape[1] * largest + 1)

"""Keyframes chosen by dynamic programming over the cost of segments."""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp_refiner.core import BadValue, Draws
from interp_refiner.schedule.counts import Law
from interp_refiner.schedule.schedule import Schedule, ranks


class DynamicProgramming(Schedule):
    """The keyframes of least interpolation error (DESIGN section 7), which needs the clean clip.

    Best sets of different sizes are not nested, so the sparsest level is solved first and each finer level is the best
    superset of the next coarser one. Given a cost matrix this takes ``O(K T^2)`` a level, all samples at once.

    Args:
        endpoints: always true: what lies outside the outermost keyframes belongs to no segment, and has no cost.

    See :class:`Schedule` for the others.
    """

    needs_cost: ClassVar[bool] = True

    def __init__(
        self,
        k_min: int = 4,
        num_levels: int = 4,
        law: Law = "geometric",
        counts: list[int] | None = None,
        endpoints: bool = True,
    ):
        if not endpoints:
            raise BadValue("endpoints", endpoints, "true: frames outside the outermost keyframes have no segment cost")
        super().__init__(k_min, num_levels, law, counts, endpoints)

    def rank(
        self,
        forced: Bool[Tensor, "b t"],
        given: Bool[Tensor, "b t"],
        counts: list[int],
        draws: Draws,
        cost: Float[Tensor, "b t t"] | None,
    ) -> Int[Tensor, "b t"]:
        assert cost is not None  # `plan` has asked for it
        keyframes, levels_kept = forced, forced.long()
        for count in reversed(counts[1:]):
            keyframes = best_superset(cost, keyframes, count)
            levels_kept = levels_kept + keyframes
        return ranks(-levels_kept)


def best_superset(cost: Float[Tensor, "b t t"], forced: Bool[Tensor, "b t"], count: int) -> Bool[Tensor, "b t"]:
    """The ``count`` keyframes of least total cost among the sets that contain ``forced``.

        best[k, j] = min over i < j of best[k - 1, i] + cost[i, j],    no forced frame between i and j

    Args:
        cost: additive cost of the segment between consecutive keyframes i < j; other entries are not read.
        forced: must contain the first and the last frame. Where it has ``count`` frames or more, it is the answer.
        count: K.
    """
    frame = torch.arange(forced.shape[1], device=forced.device)
    passed = forced.cumsum(1)  # forced frames up to and including t
    skips_forced = (passed - forced.long()).unsqueeze(1) > passed.unsqueeze(2)
    step = cost.masked_fill(skips_forced | (frame.unsqueeze(1) >= frame), torch.inf)
    best = torch.where(frame == 0, 0.0, torch.inf).to(cost).expand_as(forced)
    came_from = []
    for _ in range(count - 1):
        best, previous = (best.unsqueeze(2) + step).min(1)
        came_from.append(previous)
    chosen, here = forced.clone(), torch.full_like(passed[:, :1], forced.shape[1] - 1)
    for previous in reversed(came_from):
        here = previous.gather(1, here)
        chosen.scatter_(1, here, True)
    return torch.where(passed[:, -1:] < count, chosen, forced)

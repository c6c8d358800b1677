"""The keyframes to the left and right of every frame."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Neighbours:
    """For every frame the nearest keyframe at or before it and at or after it.

    A known frame is its own neighbour on both sides. Outside the outermost keyframes, the nearest keyframe is the
    neighbour on both sides, so an interpolator repeats it and never extrapolates.

    Attributes:
        left, right: frame indices.
        one_sided: frames before the first or after the last keyframe.
        known: the mask they were found from.
    """

    left: Int[Tensor, "b t"]
    right: Int[Tensor, "b t"]
    one_sided: Bool[Tensor, "b t"]
    known: Bool[Tensor, "b t"]

    @property
    def frame(self) -> Int[Tensor, " t"]:
        return torch.arange(self.known.shape[1], device=self.known.device)

    @property
    def distance_left(self) -> Int[Tensor, "b t"]:
        """``dl``: frames since the left keyframe (before the first or after the last keyframe: the distance to it)."""
        return (self.frame - self.left).abs()

    @property
    def distance_right(self) -> Int[Tensor, "b t"]:
        """``dr``: frames until the right keyframe (before the first or after the last keyframe: the distance to it)."""
        return (self.right - self.frame).abs()

    @property
    def distance(self) -> Int[Tensor, "b t"]:
        """Frames to the nearest keyframe."""
        return torch.minimum(self.distance_left, self.distance_right)

    @property
    def gap(self) -> Int[Tensor, "b t"]:
        """``right - left``: 0 on known frames and outside the outermost keyframes."""
        return self.right - self.left

    @property
    def alpha(self) -> Float[Tensor, "b t"]:
        """Position inside the gap, ``(t - left) / gap`` in 0..1; 0 where there is no gap."""
        return torch.where(self.gap > 0, self.distance_left / self.gap.clamp(min=1), 0.0)


def neighbours(known: Bool[Tensor, "b t"]) -> Neighbours:
    """Finds the bracketing keyframes of every frame; every sample must have at least one keyframe."""
    num_frames = known.shape[1]
    frame = torch.arange(num_frames, device=known.device)
    left = torch.where(known, frame, -1).cummax(1).values
    right = torch.where(known, frame, num_frames).flip(1).cummin(1).values.flip(1)
    no_left, no_right = left < 0, right >= num_frames
    return Neighbours(
        left=torch.where(no_left, right, left),
        right=torch.where(no_right, left, right),
        one_sided=no_left | no_right,
        known=known,
    )

"""Which frames are keyframes at which level."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class KeyframePlan:
    """For every frame, the sparsest level at which it is still a keyframe; nested by construction.

    Attributes:
        kept_until: 0 for a frame that is known at level 0 only, S for one that is a keyframe at every level.
        given: keyframes that are constraints; a subset of the frames with ``kept_until == num_levels``.
        num_levels: S, the sparsest level.
    """

    kept_until: Int[Tensor, "b t"]
    given: Bool[Tensor, "b t"]
    num_levels: int

    def mask_at(self, level: Int[Tensor, " b"]) -> Bool[Tensor, "b t"]:
        """The keyframes at each sample's own level, ``kept_until >= s``."""
        return self.kept_until >= level.unsqueeze(1)

    def frames(self, start: int, stop: int) -> "KeyframePlan":
        """The plan of frames ``start`` to ``stop - 1``."""
        return KeyframePlan(self.kept_until[:, start:stop], self.given[:, start:stop], self.num_levels)

    @classmethod
    def from_ranks(
        cls,
        rank: Int[Tensor, "b t"],
        counts: Sequence[int],
        given: Bool[Tensor, "b t"],
        forced: Bool[Tensor, "b t"],
    ) -> "KeyframePlan":
        """The plan that keeps the ``K_s`` frames of lowest rank at level s.

        Args:
            rank: a permutation of 0..T-1 per sample, 0 for the frame that is dropped last.
            counts: ``K_0 = T > K_1 > ... > K_S``.
            given: keyframes that are constraints.
            forced: frames kept at every level (given ones and endpoints); their ranks are the lowest.
        """
        kept_until = torch.zeros_like(rank)
        for count in counts[1:]:
            kept_until += rank < count  # K_s decreases with s, so the levels that keep a frame are 1..kept_until
        num_levels = len(counts) - 1
        return cls(kept_until.masked_fill(forced, num_levels), given, num_levels)

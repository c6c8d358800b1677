"""The same keyframes for every clip."""

from itertools import pairwise

from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp_refiner.core import BadValue, Draws
from interp_refiner.schedule.counts import Law
from interp_refiner.schedule.schedule import Schedule
from interp_refiner.schedule.splitting import frame_mask, rank_by_splitting


class Fixed(Schedule):
    """A list of keyframes at the sparsest level; each finer level splits the largest gap at its midpoint.

    Given frames count towards the length of the list: they take the place of those frames of the list that lie nearest.

    Args:
        frames: keyframes of the sparsest level, such as ``[0, 3, 12, 20]``; their number is ``K_min``.

    See :class:`Schedule` for the others.

    Raises:
        BadValue: for frames that do not rise, do not lie in the clip, or leave out its first or last frame.
    """

    def __init__(
        self,
        frames: list[int],
        num_levels: int = 4,
        law: Law = "geometric",
        counts: list[int] | None = None,
        endpoints: bool = True,
    ):
        if len(frames) < 2 or any(earlier >= later for earlier, later in pairwise(frames)):
            raise BadValue("frames", frames, "at least two rising frame numbers")
        super().__init__(len(frames), num_levels, law, counts, endpoints)
        if counts is not None and counts[-1] != len(frames):
            raise BadValue("counts", counts, f"{len(frames)} at the last level, the length of frames={frames}")
        self.frames = frames

    def rank(
        self,
        forced: Bool[Tensor, "b t"],
        given: Bool[Tensor, "b t"],
        counts: list[int],
        draws: Draws,
        cost: Float[Tensor, "b t t"] | None,
    ) -> Int[Tensor, "b t"]:
        last = given.shape[1] - 1
        if self.frames[0] != 0 or self.frames[-1] != last:
            raise BadValue("frames", self.frames, f"first 0 and last {last}, the endpoints of the clip")
        return rank_by_splitting(forced, forced | frame_mask(self.frames, given))

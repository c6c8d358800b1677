"""The same keyframes for every clip."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import final

from jaxtyping import Int
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.forward.schedule.schedule import Request, Schedule
from interp_refiner.forward.schedule.splitting import frame_mask, rank_by_splitting


@final
@dataclass(kw_only=True, eq=False)
class Fixed(Schedule):
    """A list of keyframes at the sparsest level; each finer level splits the largest gap at its midpoint.

    Given frames count towards ``K_s``: they replace the frames of the list that are nearest to them.

    Args:
        frames: keyframes of the sparsest level, such as ``[0, 3, 12, 20]``; their number is ``K_min``.

    See :class:`Schedule` for the other arguments.

    Raises:
        BadValue: frames that do not increase, do not lie in the clip, or leave out its first or last frame.
    """

    frames: list[int]
    k_min: int = field(init=False)

    def __post_init__(self) -> None:
        if len(self.frames) < 2 or any(earlier >= later for earlier, later in pairwise(self.frames)):
            raise BadValue("frames", self.frames, "at least two increasing frame numbers")
        self.k_min = len(self.frames)
        super().__post_init__()
        if self.counts is not None and self.counts[-1] != self.k_min:
            allowed = f"{self.k_min} at the last level, the length of frames={self.frames}"
            raise BadValue("counts", self.counts, allowed)

    def rank(self, request: Request) -> Int[Tensor, "b t"]:
        last = request.num_frames - 1
        if self.frames[0] != 0 or self.frames[-1] != last:
            raise BadValue("frames", self.frames, f"first 0 and last {last}, the endpoints of the clip")
        return rank_by_splitting(request.forced, request.forced | frame_mask(self.frames, request.given))

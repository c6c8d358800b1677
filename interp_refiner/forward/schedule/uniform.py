"""Evenly spaced keyframes."""

from dataclasses import dataclass
from typing import final

from jaxtyping import Int
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.forward.schedule.schedule import Request, Schedule
from interp_refiner.forward.schedule.splitting import frame_mask, rank_by_splitting


@final
@dataclass(kw_only=True, eq=False)
class Uniform(Schedule):
    """Evenly spaced keyframes at the sparsest level; each finer level splits the largest gap at its midpoint.

    In samples with given frames, splitting starts from the given frames and the endpoints.

    Args:
        jitter: random shift of each split: 0 none, 1 anywhere inside its gap. The sparsest level does not shift.

    See :class:`Schedule` for the other arguments.
    """

    jitter: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.jitter <= 1:
            raise BadValue("jitter", self.jitter, "a number from 0 to 1")

    def rank(self, request: Request) -> Int[Tensor, "b t"]:
        given, num_frames = request.given, request.num_frames
        even = frame_mask(evenly_spaced(num_frames, request.counts[-1]), given)
        base = request.forced | (even & ~given.any(1, keepdim=True))
        noise = request.draws.uniform("schedule/jitter", num_frames + 2, given.device) if self.jitter else None
        return rank_by_splitting(request.forced, base, self.jitter, noise)


def evenly_spaced(num_frames: int, count: int) -> list[int]:
    """``round(linspace(0, T - 1, K))``, half to even."""
    return [round(i * (num_frames - 1) / (count - 1)) for i in range(count)]

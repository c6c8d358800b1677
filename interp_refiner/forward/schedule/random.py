"""Keyframes drawn at random."""

from dataclasses import dataclass
from typing import final

from jaxtyping import Int
from torch import Tensor

from interp_refiner.forward.schedule.schedule import Request, Schedule, ranks


@final
@dataclass(kw_only=True, eq=False)
class Random(Schedule):
    """Forced keyframes, and others drawn at random. Each level keeps a uniformly drawn subset of the next finer one."""

    def rank(self, request: Request) -> Int[Tensor, "b t"]:
        order = request.draws.uniform("schedule/order", request.num_frames, request.given.device)
        return ranks(order.masked_fill(request.forced, -1.0))

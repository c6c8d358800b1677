"""Keyframes chosen by dynamic programming over the true cost of segments."""

from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from interp_refiner.forward.schedule.cheapest_segments import CheapestSegments
from interp_refiner.forward.schedule.content import Content


@final
@dataclass(kw_only=True, eq=False)
class DynamicProgramming(CheapestSegments):
    """The keyframes of least interpolation error. It needs the clean clip, so it is a reference for other schedules.

    The cost matrix takes ``O(T^3)`` interpolated frames per clip, far more time than finding the keyframes from it.

    See :class:`CheapestSegments` for the arguments.
    """

    @property
    def sees(self) -> str:
        return "the clean clip"

    def cost(self, content: Content) -> Float[Tensor, "b t t"]:
        return content.segment_cost()

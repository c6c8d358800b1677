"""The content of clips from which a schedule may choose keyframes."""

from abc import ABC, abstractmethod
from typing import NoReturn

from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue


class Content(ABC):
    """The content of a batch of clips; each view is computed only when a schedule asks for it."""

    @abstractmethod
    def segment_cost(self) -> Float[Tensor, "b t t"]:
        """The summed interpolation error of the frames between keyframes i < j; reads the clean clip."""

    @abstractmethod
    def coarse_clip(self, grid: int) -> Float[Tensor, "b c n t"]:
        """The clean latents of every frame, averaged over ``n = grid^2`` cells, in float32."""

    @abstractmethod
    def coarse_candidates(self, grid: int) -> Float[Tensor, "b c n t"]:
        """The same for phase-1 candidates; frames without a candidate are interpolated linearly.

        A path has no space to average over, so it is one cell.
        """


class Unseen(Content):
    """No content: for schedules that do not need any. Refuses every other schedule with :class:`BadValue`."""

    def segment_cost(self) -> NoReturn:
        raise BadValue("content", None, "clips, because this schedule needs the cost of every segment")

    def coarse_clip(self, grid: int) -> NoReturn:
        raise BadValue("content", None, "clips, because this schedule needs a preview of every frame")

    def coarse_candidates(self, grid: int) -> NoReturn:
        raise BadValue("content", None, "clips, because this schedule needs a preview of every frame")

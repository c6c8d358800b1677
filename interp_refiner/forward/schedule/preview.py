"""The preview of a clip from which a learned schedule chooses keyframes."""

from abc import ABC, abstractmethod
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from interp_refiner.forward.schedule.content import Content


class Preview(ABC):
    """A coarse version of every frame of a batch of clips.

    Attributes:
        sees: its source, for reports.
        needs_anchors: whether it needs phase-1 candidates, which the data module then reads.
    """

    sees: ClassVar[str]
    needs_anchors: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, content: Content, grid: int) -> Float[Tensor, "b c n t"]:
        """Means over ``n = grid^2`` cells of every frame (one cell for a path), in float32."""


@final
class AnchorPreview(Preview):
    """Phase-1 candidates, interpolated linearly. Available at sampling time, because it does not need the clip."""

    sees = "phase-1 candidates"
    needs_anchors = True

    def __call__(self, content: Content, grid: int) -> Float[Tensor, "b c n t"]:
        return content.coarse_candidates(grid)


@final
class ClipPreview(Preview):
    """The clean clip itself, for training or to measure the gain of a better preview; not available in sampling."""

    sees = "the clean clip"

    def __call__(self, content: Content, grid: int) -> Float[Tensor, "b c n t"]:
        return content.coarse_clip(grid)

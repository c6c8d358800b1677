"""Keyframes chosen by a small network from a preview of the clip."""

from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.forward.schedule.cheapest_segments import CheapestSegments
from interp_refiner.forward.schedule.content import Content
from interp_refiner.forward.schedule.preview import AnchorPreview, Preview
from interp_refiner.forward.schedule.selector import Selector


@final
@dataclass(kw_only=True, eq=False)
class Learned(CheapestSegments):
    """The keyframes of least predicted cost; a :class:`Selector` predicts the costs from a preview of the clip.

    Args:
        preview: the input of the selector, in training and in use.
        selector: the network.
        checkpoint: its weights, to load and freeze, see :meth:`Freezable.freeze`; None for an untrained selector, which
            uses the interpolation error of the preview itself.

    See :class:`CheapestSegments` for the other arguments.
    """

    gap_ratio: float | None = 1.5
    preview: Preview = field(default_factory=AnchorPreview)
    selector: Selector = field(default_factory=Selector)
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.selector.freeze(self.checkpoint)

    @property
    def needs_anchors(self) -> bool:
        return self.preview.needs_anchors

    @property
    def sees(self) -> str:
        return f"{self.preview.sees}, {self.selector.grid} x {self.selector.grid} cells a frame"

    def look(self, content: Content) -> Float[Tensor, "b c n t"]:
        """The preview of a batch of clips, on the selector's grid."""
        return self.preview(content, self.selector.grid)

    @torch.no_grad()
    def cost(self, content: Content) -> Float[Tensor, "b t t"]:
        return self.selector(self.look(content))

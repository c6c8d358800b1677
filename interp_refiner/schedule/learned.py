"""Keyframes chosen by a small network from a preview of the clip."""

from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.schedule.cheapest_segments import CheapestSegments
from interp_refiner.schedule.content import Content
from interp_refiner.schedule.selector import Selector


@final
@dataclass(kw_only=True, eq=False)
class Learned(CheapestSegments):
    """The keyframes of least cost as a :class:`Selector` foretells it from content that is there before the clip is.

    In training that is the clip itself, averaged over a coarse grid; at inference a preview that the clip brings, or
    its phase-1 candidates.

    Args:
        selector: the network.
        checkpoint: its weights, to load and freeze, see :meth:`Freezable.freeze`; None for an untrained one, which goes
            by how well the preview itself interpolates.

    See :class:`CheapestSegments` for the others.
    """

    max_gap: int | None = 10
    selector: Selector = field(default_factory=Selector)
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.selector.freeze(self.checkpoint)

    @torch.no_grad()
    def cost(self, content: Content) -> Float[Tensor, "b t t"]:
        return self.selector(content.preview(self.selector.grid))

"""Encodes single pictures (stills) as latent frames of a video.

A causal video codec encodes the first frame alone. Every later latent frame codes the change over several pixel frames.
So the latent of a picture encoded alone is out of distribution for later latent frames. The last latent frame of a
static clip of the picture is closer to them.
"""

from dataclasses import dataclass
from typing import final

from interp_refiner.core import BadValue


@final
@dataclass(frozen=True)
class Still:
    """How a picture is encoded for its position in a clip: as the last latent frame of a static clip of the picture.

    Attributes:
        context: largest number of latent frames of the static clip before the one that is used; never more than there
            are before its position. 0 encodes the picture alone; None begins the static clip at the clip's start.

    Raises:
        BadValue: a negative context.
    """

    context: int | None = 2

    def __post_init__(self) -> None:
        if self.context is not None and self.context < 0:
            raise BadValue("context", self.context, "latent frames >= 0, or null for all before the position")

    def before(self, slot: int) -> int:
        """The number of latent frames of the static clip before the one that becomes latent frame ``slot``."""
        return slot if self.context is None else min(slot, self.context)


MODES = {"frame_zero": Still(0), "static_clip": Still(2), "slot": Still(None)}
